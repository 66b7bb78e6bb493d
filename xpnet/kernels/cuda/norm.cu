// Batch normalisation of rows (C, L), one for each channel. A row is cut into `parts` of `part` elements; block
// channel * parts + i has part i. The first kernel of a pair leaves some numbers for each part in `partial`, the blocks
// of the second one add up those of their channel, each for itself and in the same order. Needs reduce.cuh and
// relu.cuh.

struct Part {
    I channel, start, stop;
    bool is_first;
    __device__ Part(long long length, long long part, long long parts) {
        channel = I(blockIdx.x) / I(parts);
        const I i = I(blockIdx.x) % I(parts);
        start = i * I(part);
        stop = start + I(part) < I(length) ? start + I(part) : I(length);
        is_first = i == 0 && threadIdx.x == 0;
    }
};

// partial[channel, part] = mean, what rounding left in it, sum of squared distances from both together. In two passes,
// so far from 0 nothing cancels; and in two numbers, since there the last digit of a mean is much of the spread.
extern "C" __global__ void batch_norm_statistics(const T* x, A* partial, long long length, long long part,
                                                 long long parts) {
    const Part mine(length, part, parts);
    const T* row = x + mine.channel * I(length);
    A sum = A(0), squares = A(0);
    for (I i = mine.start + I(threadIdx.x); i < mine.stop; i += I(blockDim.x)) sum += A(row[i]);
    const A size = A(mine.stop - mine.start), mean = block_sum(sum) / size;
    sum = A(0);
    for (I i = mine.start + I(threadIdx.x); i < mine.stop; i += I(blockDim.x)) {
        const A distance = A(row[i]) - mean;
        sum += distance;
        squares += distance * distance;
    }
    const A rest = block_sum(sum) / size;
    squares = block_sum(squares) - size * rest * rest;
    if (threadIdx.x == 0) {
        partial[3 * I(blockIdx.x)] = mean;
        partial[3 * I(blockIdx.x) + 1] = rest;
        partial[3 * I(blockIdx.x) + 2] = squares < A(0) ? A(0) : squares;
    }
}

// The mean is base + rest, which one number would round.
__device__ inline void normalise(const T* x, T* y, const Part& mine, I length, A base, A rest, A inv_std,
                                 const T* gamma, const T* beta, bool rectify) {
    const A scale = gamma ? inv_std * A(gamma[mine.channel]) : inv_std;
    const A shift = beta ? A(beta[mine.channel]) : A(0);
    const I row = mine.channel * length;
    for (I i = mine.start + I(threadIdx.x); i < mine.stop; i += I(blockDim.x)) {
        const A value = (A(x[row + i]) - base - rest) * scale + shift;
        y[row + i] = T(rectify ? rectified(value) : value);
    }
}

// What reaches the normalisation of the gradient of its output: all of it, or with `y`, which ended in relu, a part.
__device__ inline A reaching(const T* dy, const T* y, I e) { return y ? passed(A(dy[e]), A(y[e])) : A(dy[e]); }

// By the batch's statistics: of the parts, whose own lengths are their weights, and whose means are taken from that of
// the first part: far from 0 such differences are exact.
extern "C" __global__ void batch_norm_train(const T* x, T* y, const A* partial, const T* gamma, const T* beta, A* mean,
                                            A* var, A* inv_std, long long length, long long part, long long parts,
                                            double eps, bool rectify) {
    const Part mine(length, part, parts);
    const A* of_channel = partial + 3 * mine.channel * I(parts);
    const A base = of_channel[0];
    A sum = A(0), squares = A(0);
    for (I i = I(threadIdx.x); i < I(parts); i += I(blockDim.x)) {
        const I size = i == I(parts) - 1 ? I(length) - i * I(part) : I(part);
        sum += A(size) * (of_channel[3 * i] - base + of_channel[3 * i + 1]);
    }
    const A rest = block_sum(sum) / A(length);
    for (I i = I(threadIdx.x); i < I(parts); i += I(blockDim.x)) {
        const I size = i == I(parts) - 1 ? I(length) - i * I(part) : I(part);
        const A distance = of_channel[3 * i] - base + of_channel[3 * i + 1] - rest;
        squares += of_channel[3 * i + 2] + A(size) * distance * distance;
    }
    const A variance = block_sum(squares) / A(length);
    const A scale = A(1) / sqrt(variance + A(eps));
    if (mine.is_first) {
        mean[mine.channel] = base + rest;
        var[mine.channel] = variance;
        inv_std[mine.channel] = scale;
    }
    normalise(x, y, mine, I(length), base, rest, scale, gamma, beta, rectify);
}

// The running mean and variance after a batch, one channel a thread.
extern "C" __global__ void running_statistics(const A* mean, const A* var, const A* old_mean, const A* old_var,
                                              A* new_mean, A* new_var, double momentum, double correction,
                                              long long channels) {
    const I c = thread_index();
    if (c >= I(channels)) return;
    new_mean[c] = A(1.0 - momentum) * old_mean[c] + A(momentum) * mean[c];
    new_var[c] = A(1.0 - momentum) * old_var[c] + A(momentum) * (var[c] * A(correction));
}

// By given statistics.
extern "C" __global__ void batch_norm_infer(const T* x, T* y, const A* mean, const A* var, const T* gamma,
                                            const T* beta, A* inv_std, long long length, long long part,
                                            long long parts, double eps, bool rectify) {
    const Part mine(length, part, parts);
    const A scale = A(1) / sqrt(var[mine.channel] + A(eps));
    if (mine.is_first) inv_std[mine.channel] = scale;
    normalise(x, y, mine, I(length), mean[mine.channel], A(0), scale, gamma, beta, rectify);
}

// partial[channel, part] = sums of dy * xhat and of dy.
extern "C" __global__ void batch_norm_sums(const T* dy, const T* x, const T* y, const A* mean, const A* inv_std,
                                           A* partial, long long length, long long part, long long parts) {
    const Part mine(length, part, parts);
    const I row = mine.channel * I(length);
    const A centre = mean[mine.channel], scale = inv_std[mine.channel];
    A products = A(0), sum = A(0);
    for (I i = mine.start + I(threadIdx.x); i < mine.stop; i += I(blockDim.x)) {
        const A gradient = reaching(dy, y, row + i);
        products += gradient * ((A(x[row + i]) - centre) * scale);
        sum += gradient;
    }
    products = block_sum(products);
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[2 * I(blockIdx.x)] = products;
        partial[2 * I(blockIdx.x) + 1] = sum;
    }
}

// dgamma and dbeta are the sums; with `train` the statistics depend on x and pass gradient too.
extern "C" __global__ void batch_norm_gradient(const T* dy, const T* x, const T* y, const T* gamma, const A* mean,
                                               const A* inv_std, const A* partial, T* dx, T* dgamma, T* dbeta,
                                               long long length, long long part, long long parts, bool train) {
    const Part mine(length, part, parts);
    const A* of_channel = partial + 2 * mine.channel * I(parts);
    A products = A(0), sum = A(0);
    for (I i = I(threadIdx.x); i < I(parts); i += I(blockDim.x)) {
        products += of_channel[2 * i];
        sum += of_channel[2 * i + 1];
    }
    products = block_sum(products);
    sum = block_sum(sum);
    if (mine.is_first) {
        dgamma[mine.channel] = T(products);
        dbeta[mine.channel] = T(sum);
    }
    const I row = mine.channel * I(length);
    const A centre = mean[mine.channel], inverse = inv_std[mine.channel];
    const A scale = gamma ? inverse * A(gamma[mine.channel]) : inverse;
    const A by_xhat = train ? products / A(length) : A(0), constant = train ? sum / A(length) : A(0);
    for (I i = mine.start + I(threadIdx.x); i < mine.stop; i += I(blockDim.x)) {
        const A xhat = (A(x[row + i]) - centre) * inverse;
        dx[row + i] = T((reaching(dy, y, row + i) - constant - xhat * by_xhat) * scale);
    }
}
