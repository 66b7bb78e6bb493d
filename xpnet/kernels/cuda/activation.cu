// Activations, their gradients, and biases, each in one pass. Needs reduce.cuh and relu.cuh.

// x and y may be the same array.
extern "C" __global__ void relu(const T* x, T* y, long long size) {
    const I e = thread_index();
    if (e < I(size)) y[e] = T(rectified(A(x[e])));
}

extern "C" __global__ void relu_gradient(const T* dy, const T* y, T* dx, long long size) {
    const I e = thread_index();
    if (e < I(size)) dx[e] = T(passed(A(dy[e]), A(y[e])));
}

extern "C" __global__ void add_relu(const T* a, const T* b, T* y, long long size) {
    const I e = thread_index();
    if (e < I(size)) y[e] = T(rectified(A(a[e]) + A(b[e])));
}

// By the exponential that cannot overflow.
extern "C" __global__ void sigmoid(const T* x, T* y, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A value = A(x[e]), power = exp(value < A(0) ? value : -value);
    y[e] = T((value < A(0) ? power : A(1)) / (A(1) + power));
}

extern "C" __global__ void sigmoid_gradient(const T* dy, const T* y, T* dx, long long size) {
    const I e = thread_index();
    if (e < I(size)) dx[e] = T(A(dy[e]) * (A(y[e]) * (A(1) - A(y[e]))));
}

extern "C" __global__ void tanh_gradient(const T* dy, const T* y, T* dx, long long size) {
    const I e = thread_index();
    if (e < I(size)) dx[e] = T(A(dy[e]) * (A(1) - A(y[e]) * A(y[e])));
}

// y += b, in place, and relu of it if `rectify`. Channels change every `length` elements.
extern "C" __global__ void add_bias(T* y, const T* b, long long length, long long channels, long long size,
                                    bool rectify) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A value = A(y[e]) + A(b[e / I(length) % I(channels)]);
    y[e] = T(rectify ? rectified(value) : value);
}

// The gradient of relu, and of the bias before it, the sum of it for each channel. Block channel * parts + i has `part`
// of the `length` elements of a channel. Element i of channel c lies at c * across + i * along. The sum of a part
// goes to `partial`, or to db if the part is the whole; the other one is null.
extern "C" __global__ void relu_bias_gradient(const T* dy, long long dy_across, long long dy_along, const T* y, T* dx,
                                              long long across, long long along, A* partial, T* db, long long length,
                                              long long part, long long parts) {
    const I channel = I(blockIdx.x) / I(parts), start = I(blockIdx.x) % I(parts) * I(part);
    const I stop = start + I(part) < I(length) ? start + I(part) : I(length);
    A sum = A(0);
    for (I i = start + I(threadIdx.x); i < stop; i += I(blockDim.x)) {
        const I e = channel * I(across) + i * I(along);
        const A gradient = passed(A(dy[channel * I(dy_across) + i * I(dy_along)]), A(y[e]));
        dx[e] = T(gradient);
        sum += gradient;
    }
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    if (db)
        db[channel] = T(sum);
    else
        partial[blockIdx.x] = sum;
}

// out[row] = sum of its parts, one block for each row: the second half of sums that were cut into parts.
extern "C" __global__ void sum_parts(const A* partial, T* out, long long parts) {
    A sum = A(0);
    for (I i = I(threadIdx.x); i < I(parts); i += I(blockDim.x)) sum += partial[I(blockIdx.x) * I(parts) + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = T(sum);
}
