// x times a gate from 0 to 1, and the gradients. Needs bounded.cuh.

struct Gate {
    A value, slope;  // slope: the derivative of the value
};

// Each by the exponential that cannot overflow, and with all digits of what is left of a gate near 0.

__device__ inline Gate logistic(A x) {
    const A power = exp(x < A(0) ? x : -x), whole = A(1) + power;
    return {(x < A(0) ? power : A(1)) / whole, power / (whole * whole)};
}

// P(X < x) for a standard normal X, and its density.
__device__ inline Gate normal(A x) {
    return {A(0.5) * erfc(x * A(-0.70710678118654752)), A(0.39894228040143268) * exp(A(-0.5) * x * x)};
}

// (1 + tanh(u)) / 2, which is logistic(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
__device__ inline Gate normal_by_tanh(A x) {
    const A scale = A(2 * 0.79788456080286536), cubic = A(0.044715) * scale, square = x * x;
    const Gate gate = logistic(x * (square * cubic + scale));
    return {gate.value, gate.slope * (square * (A(3) * cubic) + scale)};
}

// tanh(log(1 + e)) with e = exp(x), which is n / (n + 2) with n = e (e + 2). Above 0 both are divided by e^2.
__device__ inline Gate tanh_of_softplus(A x) {
    const A power = exp(x < A(0) ? x : -x);
    const A n = x < A(0) ? power * (power + A(2)) : A(1) + A(2) * power;
    const A whole = n + A(2) * (x < A(0) ? A(1) : power * power);
    return {n / whole, A(4) * (A(1) + power) * (x < A(0) ? power : power * power) / (whole * whole)};
}

__device__ inline Gate ramp_gate(A x) {
    return {bounded(x + A(3), A(0), A(6)) / A(6), x > A(-3) && x < A(3) ? A(1) / A(6) : A(0)};
}

// At x = -1000 every gate is 0, and at either end its slope: further away x times them would be infinity times 0.
template <Gate gate(A)>
__device__ inline void times_gate(const T* x, T* y, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A value = A(x[e]), clamped = value < A(-1000) ? A(-1000) : value;
    y[e] = T(gate(clamped).value * clamped);
}

template <Gate gate(A)>
__device__ inline void times_gate_gradient(const T* dy, const T* x, T* dx, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A clamped = bounded(A(x[e]), A(-1000), A(1000));
    const Gate there = gate(clamped);
    dx[e] = T(A(dy[e]) * (there.value + clamped * there.slope));
}

extern "C" __global__ void silu(const T* x, T* y, long long size) { times_gate<logistic>(x, y, size); }

extern "C" __global__ void silu_gradient(const T* dy, const T* x, T* dx, long long size) {
    times_gate_gradient<logistic>(dy, x, dx, size);
}

extern "C" __global__ void gelu_none(const T* x, T* y, long long size) { times_gate<normal>(x, y, size); }

extern "C" __global__ void gelu_none_gradient(const T* dy, const T* x, T* dx, long long size) {
    times_gate_gradient<normal>(dy, x, dx, size);
}

extern "C" __global__ void gelu_tanh(const T* x, T* y, long long size) { times_gate<normal_by_tanh>(x, y, size); }

extern "C" __global__ void gelu_tanh_gradient(const T* dy, const T* x, T* dx, long long size) {
    times_gate_gradient<normal_by_tanh>(dy, x, dx, size);
}

extern "C" __global__ void mish(const T* x, T* y, long long size) { times_gate<tanh_of_softplus>(x, y, size); }

extern "C" __global__ void mish_gradient(const T* dy, const T* x, T* dx, long long size) {
    times_gate_gradient<tanh_of_softplus>(dy, x, dx, size);
}

extern "C" __global__ void hard_swish(const T* x, T* y, long long size) { times_gate<ramp_gate>(x, y, size); }

extern "C" __global__ void hard_swish_gradient(const T* dy, const T* x, T* dx, long long size) {
    times_gate_gradient<ramp_gate>(dy, x, dx, size);
}
