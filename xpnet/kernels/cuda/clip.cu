// Clipping of gradients by their norm. Needs reduce.cuh.

// The sum of the squares. Block i has part i, of `part` of the `length` elements. The sum of a part goes to `partial`,
// or to `total` if the part is the whole; the other one is null.
extern "C" __global__ void square_sum(const T* g, A* partial, T* total, long long length, long long part,
                                      long long parts) {
    const I start = I(blockIdx.x) * I(part), end = start + I(part), stop = end < I(length) ? end : I(length);
    A sum = A(0);
    for (I e = start + I(threadIdx.x); e < stop; e += I(blockDim.x)) sum += A(g[e]) * A(g[e]);
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    if (total)
        total[0] = T(sum);
    else
        partial[blockIdx.x] = sum;
}

// A norm that is NaN makes all NaN, as in NumPy.
extern "C" __global__ void clip_by_norm(const T* g, const T* norm, T* made, double limit, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A factor = A(limit) / (A(norm[0]) + A(1e-6));
    made[e] = T(A(g[e]) * (factor > A(1) ? A(1) : factor));
}
