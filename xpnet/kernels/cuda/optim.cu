// Optimizer updates of flat arrays, one element a thread: weights w, gradient g, and state. The learning rate is
// that of the element where there are `rates`, times `lr`, which else is the rate.

#define ELEMENT                            \
    const I e = thread_index();            \
    if (e >= I(size)) return;              \
    const A rate = rates ? A(rates[e]) * A(lr) : A(lr), gradient = A(g[e])

extern "C" __global__ void sgd(T* w, const T* g, const T* rates, double lr, long long size) {
    ELEMENT;
    w[e] = T(A(w[e]) - rate * gradient);
}

extern "C" __global__ void momentum(T* w, const T* g, T* v, const T* rates, double lr, double momentum,
                                    long long size) {
    ELEMENT;
    const A velocity = A(momentum) * A(v[e]) - rate * gradient;
    v[e] = T(velocity);
    w[e] = T(A(w[e]) + velocity);
}

extern "C" __global__ void nesterov(T* w, const T* g, T* v, const T* rates, double lr, double momentum,
                                    long long size) {
    ELEMENT;
    const A velocity = A(momentum) * A(v[e]) - rate * gradient;
    v[e] = T(velocity);
    w[e] = T(A(w[e]) - rate * gradient + A(momentum) * velocity);
}

extern "C" __global__ void adagrad(T* w, const T* g, T* h, const T* rates, double lr, double eps, long long size) {
    ELEMENT;
    const A squares = A(h[e]) + gradient * gradient;
    h[e] = T(squares);
    w[e] = T(A(w[e]) - rate * gradient / (sqrt(squares) + A(eps)));
}

extern "C" __global__ void rmsprop(T* w, const T* g, T* h, const T* rates, double lr, double decay, double eps,
                                   long long size) {
    ELEMENT;
    const A squares = A(decay) * A(h[e]) + A(1.0 - decay) * (gradient * gradient);
    h[e] = T(squares);
    w[e] = T(A(w[e]) - rate * gradient / (sqrt(squares) + A(eps)));
}

// `lr` comes with the correction of m in it, `root` is that of sqrt(v).
extern "C" __global__ void adam(T* w, const T* g, T* m, T* v, const T* rates, double lr, double beta1, double beta2,
                                double eps, double root, long long size) {
    ELEMENT;
    const A mean = A(beta1) * A(m[e]) + A(1.0 - beta1) * gradient;
    const A squares = A(beta2) * A(v[e]) + A(1.0 - beta2) * (gradient * gradient);
    m[e] = T(mean);
    v[e] = T(squares);
    w[e] = T(A(w[e]) - rate * mean / (sqrt(squares) * A(root) + A(eps)));
}

// As adam, with top = max(top, v) in place of v; NaN wins, as in NumPy.
extern "C" __global__ void amsgrad(T* w, const T* g, T* m, T* v, T* top, const T* rates, double lr, double beta1,
                                   double beta2, double eps, double root, long long size) {
    ELEMENT;
    const A mean = A(beta1) * A(m[e]) + A(1.0 - beta1) * gradient;
    const A squares = A(beta2) * A(v[e]) + A(1.0 - beta2) * (gradient * gradient);
    const A most = squares > A(top[e]) || squares != squares ? squares : A(top[e]);
    m[e] = T(mean);
    v[e] = T(squares);
    top[e] = T(most);
    w[e] = T(A(w[e]) - rate * mean / (sqrt(most) * A(root) + A(eps)));
}

extern "C" __global__ void adadelta(T* w, const T* g, T* h, T* u, const T* rates, double lr, double decay, double eps,
                                    long long size) {
    ELEMENT;
    const A squares = A(decay) * A(h[e]) + A(1.0 - decay) * (gradient * gradient);
    const A step = sqrt(A(u[e]) + A(eps)) / sqrt(squares + A(eps)) * gradient;
    h[e] = T(squares);
    u[e] = T(A(decay) * A(u[e]) + A(1.0 - decay) * (step * step));
    w[e] = T(A(w[e]) - rate * step);
}

extern "C" __global__ void lion(T* w, const T* g, T* m, const T* rates, double lr, double beta1, double beta2,
                                long long size) {
    ELEMENT;
    const A blend = A(beta1) * A(m[e]) + A(1.0 - beta1) * gradient;
    const A sign = blend > A(0) ? A(1) : blend < A(0) ? A(-1) : blend;  // of NaN NaN
    m[e] = T(A(beta2) * A(m[e]) + A(1.0 - beta2) * gradient);
    w[e] = T(A(w[e]) - rate * sign);
}

// The coefficients stand in the gradient's place.
extern "C" __global__ void decay_weights(T* w, const T* g, const T* rates, double lr, long long size) {
    ELEMENT;
    w[e] = T(A(w[e]) - rate * (gradient * A(w[e])));
}

extern "C" __global__ void decay_gradient(const T* g, const T* w, const T* decay, T* made, long long size) {
    const I e = thread_index();
    if (e < I(size)) made[e] = T(A(g[e]) + A(decay[e]) * A(w[e]));
}

// For weights of 16 bits: the master weights, of the type of arithmetic, are w wherever w is not them rounded (somebody
// has written it), and the gradient is given the factor and that type.
extern "C" __global__ void widen(const T* w, const T* g, A* master, A* wide, double factor, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A weight = A(w[e]);
    if (!(A(T(master[e])) == weight)) master[e] = weight;
    wide[e] = A(g[e]) * A(factor);
}

extern "C" __global__ void narrow(T* w, const A* master, long long size) {
    const I e = thread_index();
    if (e < I(size)) w[e] = T(master[e]);
}
