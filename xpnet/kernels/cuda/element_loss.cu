// Losses that are a mean over elements, each way in one pass. Needs bounded.cuh and reduce.cuh.
//
// The sums: block i has part i, of `part` of the `length` elements. The sum of a part times the factor goes to `partial`,
// or to `total` if the part is the whole; the other one is null.
//
// The gradients: dy is an array of one element, or a number if null.

__device__ inline void put_sum(A sum, double factor, A* partial, A* total) {
    sum = block_sum(sum) * A(factor);
    if (threadIdx.x != 0) return;
    if (total)
        total[0] = sum;
    else
        partial[blockIdx.x] = sum;
}

__device__ inline A scale_of(const A* dy, double number, double factor) {
    return dy ? dy[0] * A(factor) : A(number * factor);
}

// delta is infinite for half the squared error.
extern "C" __global__ void huber(const T* y, const T* t, A* difference, double delta, double factor, A* partial,
                                 A* total, long long length, long long part, long long parts) {
    const I start = I(blockIdx.x) * I(part), end = start + I(part), stop = end < I(length) ? end : I(length);
    A sum = A(0);
    for (I e = start + I(threadIdx.x); e < stop; e += I(blockDim.x)) {
        const A value = A(y[e]) - A(t[e]), size = value < A(0) ? -value : value;
        difference[e] = value;
        sum += size <= A(delta) ? size * (A(0.5) * size) : A(delta) * (size - A(0.5) * A(delta));
    }
    put_sum(sum, factor, partial, total);
}

extern "C" __global__ void huber_gradient(const A* dy, double number, const A* difference, T* dx, double delta,
                                          double factor, long long size) {
    const I e = thread_index();
    if (e < I(size)) dx[e] = T(bounded(difference[e], A(-delta), A(delta)) * scale_of(dy, number, factor));
}

extern "C" __global__ void absolute_error(const T* y, const T* t, A* difference, double factor, A* partial, A* total,
                                          long long length, long long part, long long parts) {
    const I start = I(blockIdx.x) * I(part), end = start + I(part), stop = end < I(length) ? end : I(length);
    A sum = A(0);
    for (I e = start + I(threadIdx.x); e < stop; e += I(blockDim.x)) {
        const A value = A(y[e]) - A(t[e]);
        difference[e] = value;
        sum += value < A(0) ? -value : value;
    }
    put_sum(sum, factor, partial, total);
}

extern "C" __global__ void absolute_error_gradient(const A* dy, double number, const A* difference, T* dx,
                                                   double factor, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A value = difference[e], sign = value > A(0) ? A(1) : value < A(0) ? A(-1) : value;  // NaN stays
    dx[e] = T(sign * scale_of(dy, number, factor));
}

// NaN in place of a target that is out of range.
__device__ inline A target_of(T t) {
    const A target = A(t);
    return target >= A(0) && target <= A(1) ? target : A(nan(""));
}

// Weights, or null for none, change every `inner` elements.
extern "C" __global__ void binary_cross_entropy(const T* logits, const T* t, const A* weights, long long inner,
                                                long long K, double factor, A* partial, A* total, long long length,
                                                long long part, long long parts) {
    const I start = I(blockIdx.x) * I(part), end = start + I(part), stop = end < I(length) ? end : I(length);
    A sum = A(0);
    for (I e = start + I(threadIdx.x); e < stop; e += I(blockDim.x)) {
        const A z = A(logits[e]), target = target_of(t[e]), size = z < A(0) ? -z : z;
        const A rest = log1p(exp(-size));  // -log(sigmoid(z)) is this and max(-z, 0): nothing cancels
        A yes = target * (rest + (z < A(0) ? size : A(0)));
        if (weights) yes *= weights[e / I(inner) % I(K)];
        sum += yes + (A(1) - target) * (rest + (z > A(0) ? size : A(0)));
    }
    put_sum(sum, factor, partial, total);
}

extern "C" __global__ void binary_cross_entropy_gradient(const A* dy, double number, const T* logits, const T* t,
                                                         const A* weights, long long inner, long long K, T* dlogits,
                                                         double factor, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A z = A(logits[e]), target = target_of(t[e]), power = exp(z < A(0) ? z : -z);
    const A s = (z < A(0) ? power : A(1)) / (A(1) + power);
    const A slope = weights ? (A(1) - target) * s - target * weights[e / I(inner) % I(K)] * (A(1) - s) : s - target;
    dlogits[e] = T(slope * scale_of(dy, number, factor));
}
