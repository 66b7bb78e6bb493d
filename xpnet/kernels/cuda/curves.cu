// Activations whose gradient is had from the output y, and prelu. A product with the derivative, as in NumPy: an
// infinite or NaN gradient is seen even where the derivative is 0. Needs bounded.cuh and reduce.cuh.

#define EACH_ELEMENT            \
    const I e = thread_index(); \
    if (e >= I(size)) return

extern "C" __global__ void leaky_relu(const T* x, T* y, double slope, long long size) {
    EACH_ELEMENT;
    const A value = A(x[e]);
    y[e] = T(value > A(0) ? value : A(slope) * value);
}

extern "C" __global__ void leaky_relu_gradient(const T* dy, const T* y, T* dx, double slope, long long size) {
    EACH_ELEMENT;
    dx[e] = T(A(dy[e]) * (A(y[e]) > A(0) ? A(1) : A(slope)));
}

extern "C" __global__ void elu(const T* x, T* y, double above, double below, long long size) {
    EACH_ELEMENT;
    const A value = A(x[e]);
    y[e] = T(value > A(0) ? A(above) * value : A(below) * expm1(value));
}

extern "C" __global__ void elu_gradient(const T* dy, const T* y, T* dx, double above, double below, long long size) {
    EACH_ELEMENT;
    dx[e] = T(A(dy[e]) * (A(y[e]) > A(0) ? A(above) : A(y[e]) + A(below)));
}

extern "C" __global__ void softplus(const T* x, T* y, long long size) {
    EACH_ELEMENT;
    const A value = A(x[e]);
    y[e] = T(log1p(exp(value > A(0) ? -value : value)) + (value > A(0) ? value : A(0)));
}

extern "C" __global__ void softplus_gradient(const T* dy, const T* y, T* dx, long long size) {
    EACH_ELEMENT;
    dx[e] = T(A(dy[e]) * -expm1(-A(y[e])));
}

extern "C" __global__ void exponential(const T* x, T* y, long long size) {
    EACH_ELEMENT;
    y[e] = T(exp(A(x[e])));
}

// slope * x + start, between 0 and top: relu6 and hard_sigmoid.
extern "C" __global__ void ramp(const T* x, T* y, double slope, double start, double top, long long size) {
    EACH_ELEMENT;
    y[e] = T(bounded(A(slope) * A(x[e]) + A(start), A(0), A(top)));
}

extern "C" __global__ void ramp_gradient(const T* dy, const T* y, T* dx, double slope, double top, long long size) {
    EACH_ELEMENT;
    dx[e] = T(A(dy[e]) * (A(y[e]) > A(0) && A(y[e]) < A(top) ? A(slope) : A(0)));
}

// At 1e30 it is 1 to the last bit; further away it would be infinity / infinity.
extern "C" __global__ void softsign(const T* x, T* y, long long size) {
    EACH_ELEMENT;
    const A value = bounded(A(x[e]), A(-1e30), A(1e30));
    y[e] = T(value / (A(1) + (value < A(0) ? -value : value)));
}

extern "C" __global__ void softsign_gradient(const T* dy, const T* y, T* dx, long long size) {
    EACH_ELEMENT;
    const A value = A(y[e]), root = A(1) - (value < A(0) ? -value : value);
    dx[e] = T(A(dy[e]) * (root * root));
}

// Channels change every `inner` elements.
extern "C" __global__ void prelu(const T* x, const T* slope, T* y, long long inner, long long channels,
                                 long long size) {
    EACH_ELEMENT;
    const A value = A(x[e]);
    y[e] = T(value > A(0) ? value : A(slope[e / I(inner) % I(channels)]) * value);
}

// And the sum of dy * min(x, 0) for each channel. Block channel * parts + i has `part` of the `length` elements of a
// channel. The sum of a part goes to `partial`, or to dslope if the part is the whole; the other one is null.
extern "C" __global__ void prelu_gradient(const T* dy, const T* x, const T* slope, T* dx, long long inner,
                                          long long channels, A* partial, T* dslope, long long length, long long part,
                                          long long parts) {
    const I channel = I(blockIdx.x) / I(parts), start = I(blockIdx.x) % I(parts) * I(part);
    const I stop = start + I(part) < I(length) ? start + I(part) : I(length);
    const A below = A(slope[channel]);
    A sum = A(0);
    for (I i = start + I(threadIdx.x); i < stop; i += I(blockDim.x)) {
        const I e = (i / I(inner) * I(channels) + channel) * I(inner) + i % I(inner);
        const A gradient = A(dy[e]), value = A(x[e]);
        dx[e] = T(gradient * (value > A(0) ? A(1) : below));
        sum += gradient * (value > A(0) ? A(0) : value);
    }
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    if (dslope)
        dslope[channel] = T(sum);
    else
        partial[blockIdx.x] = sum;
}
