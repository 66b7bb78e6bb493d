// Softmax and its logarithm along the middle axis of (outer, K, inner) arrays. Needs reduce.cuh.
//
// A block has `lanes` neighbouring columns of K numbers, a power of two; its threads share each equally.

struct Column {
    I first, step;  // where its numbers lie
    I start, rows;  // the thread takes this one of them, and every so many more
    bool is_there;
};

__device__ inline Column column_of(long long K, long long inner, long long lanes) {
    const I groups = (I(inner) + I(lanes) - 1) / I(lanes), lane = I(threadIdx.x) % I(lanes);
    const I column = I(blockIdx.x) % groups * I(lanes) + lane, outer = I(blockIdx.x) / groups;
    Column c;
    c.is_there = column < I(inner);
    c.first = outer * I(K) * I(inner) + (c.is_there ? column : 0);
    c.step = I(inner);
    c.start = I(threadIdx.x) / I(lanes);
    c.rows = I(blockDim.x) / I(lanes);
    return c;
}

// No logarithm is below `lowest`.
extern "C" __global__ void softmax(const T* x, T* y, bool logarithm, double lowest, long long K, long long inner,
                                   long long lanes) {
    const Column c = column_of(K, inner, lanes);
    A top = A(x[c.first + (c.start < I(K) ? c.start : 0) * c.step]);
    for (I k = c.start + c.rows; k < I(K); k += c.rows) {
        const A value = A(x[c.first + k * c.step]);
        if (value > top || value != value) top = value;
    }
    top = block_max(top, unsigned(lanes));
    A total = A(0);
    for (I k = c.start; k < I(K); k += c.rows) total += exp(A(x[c.first + k * c.step]) - top);
    total = block_sum(total, unsigned(lanes));
    if (!c.is_there) return;
    const A log_total = log(total);
    for (I k = c.start; k < I(K); k += c.rows) {
        const A value = A(x[c.first + k * c.step]) - top, log_y = value - log_total;
        y[c.first + k * c.step] = T(!logarithm ? exp(value) / total : log_y < A(lowest) ? A(lowest) : log_y);
    }
}

// dx = y (dy - sum of dy * y), or for the logarithm dy - exp(y) * sum of dy.
extern "C" __global__ void softmax_gradient(const T* dy, const T* y, T* dx, bool logarithm, long long K,
                                            long long inner, long long lanes) {
    const Column c = column_of(K, inner, lanes);
    A total = A(0);
    for (I k = c.start; k < I(K); k += c.rows) {
        const I e = c.first + k * c.step;
        total += logarithm ? A(dy[e]) : A(dy[e]) * A(y[e]);
    }
    total = block_sum(total, unsigned(lanes));
    if (!c.is_there) return;
    for (I k = c.start; k < I(K); k += c.rows) {
        const I e = c.first + k * c.step;
        dx[e] = T(logarithm ? A(dy[e]) - exp(A(y[e])) * total : A(y[e]) * (A(dy[e]) - total));
    }
}
