// Layer, group and instance normalisation of blocks (G, V, N): the V values of each group of each of the N images, which
// lie side by side. Scales (gamma, beta) change every `positions` values. Needs reduce.cuh.
//
// Block (group * slices + slice) * parts + i has part i, of `part` values, of a group of up to `lanes` images. A thread
// has one image and every `step`-th of the values, so neighbouring threads read neighbouring images; where there are
// none left, the last image, for which several threads then write the same. As in norm.cu, the first kernel of a pair
// leaves some numbers for each part in `partial`, here (G, parts, numbers, N), and the blocks of the second one add up
// those of their group and images, each for itself and in the same order.

struct Share {
    I N, group, image, index, start, stop, step;
    A size;          // of the part
    unsigned lanes;  // threads whose numbers have the same rest by it share an image
    __device__ Share(long long values, long long images, long long lanes_, long long part, long long parts)
        : N(I(images)), lanes(unsigned(lanes_)) {
        const I slices = (N + I(lanes) - 1) / I(lanes), block = I(blockIdx.x) / I(parts);
        const I wanted = block % slices * I(lanes) + I(threadIdx.x % lanes);
        index = I(blockIdx.x) % I(parts);
        group = block / slices;
        image = wanted < N ? wanted : N - 1;
        const I first = index * I(part);
        stop = first + I(part) < I(values) ? first + I(part) : I(values);
        size = A(stop - first);
        start = first + row();
        step = I(blockDim.x / lanes);
    }
    __device__ I row() const { return I(threadIdx.x / lanes); }
    __device__ bool writes_for_part() const { return row() == 0; }
    __device__ bool writes_for_group() const { return writes_for_part() && index == 0; }
    // Where value `v` of the group lies; where the statistics of the group do; and number `k` of a part's `numbers`.
    __device__ I at(long long values, I v) const { return (group * I(values) + v) * N + image; }
    __device__ I of_group() const { return group * N + image; }
    __device__ I left(long long parts, I i, int numbers, int k) const {
        return ((group * I(parts) + i) * numbers + k) * N + image;
    }
};

// The mean of a part, what rounding left in it, and the sum of squared distances from both together: see norm.cu.
extern "C" __global__ void group_norm_statistics(const T* x, A* partial, long long values, long long images,
                                                 long long lanes, long long part, long long parts) {
    const Share mine(values, images, lanes, part, parts);
    A sum = A(0), squares = A(0);
    for (I v = mine.start; v < mine.stop; v += mine.step) sum += A(x[mine.at(values, v)]);
    const A mean = block_sum(sum, mine.lanes) / mine.size;
    sum = A(0);
    for (I v = mine.start; v < mine.stop; v += mine.step) {
        const A distance = A(x[mine.at(values, v)]) - mean;
        sum += distance;
        squares += distance * distance;
    }
    const A rest = block_sum(sum, mine.lanes) / mine.size;
    squares = block_sum(squares, mine.lanes) - mine.size * rest * rest;
    if (!mine.writes_for_part()) return;
    partial[mine.left(parts, mine.index, 3, 0)] = mean;
    partial[mine.left(parts, mine.index, 3, 1)] = rest;
    partial[mine.left(parts, mine.index, 3, 2)] = squares < A(0) ? A(0) : squares;
}

// The means of the parts are taken from that of the first one: far from 0 such differences are exact.
extern "C" __global__ void group_norm(const T* x, T* y, const A* partial, const T* gamma, const T* beta, A* mean,
                                      A* inv_std, long long positions, double eps, long long values, long long images,
                                      long long lanes, long long part, long long parts) {
    const Share mine(values, images, lanes, part, parts);
    const A base = partial[mine.left(parts, 0, 3, 0)];
    A sum = A(0), squares = A(0);
    for (I i = mine.row(); i < I(parts); i += mine.step) {
        const I size = i == I(parts) - 1 ? I(values) - i * I(part) : I(part);
        sum += A(size) * (partial[mine.left(parts, i, 3, 0)] - base + partial[mine.left(parts, i, 3, 1)]);
    }
    const A rest = block_sum(sum, mine.lanes) / A(values);
    for (I i = mine.row(); i < I(parts); i += mine.step) {
        const I size = i == I(parts) - 1 ? I(values) - i * I(part) : I(part);
        const A distance = partial[mine.left(parts, i, 3, 0)] - base + partial[mine.left(parts, i, 3, 1)] - rest;
        squares += partial[mine.left(parts, i, 3, 2)] + A(size) * distance * distance;
    }
    const A scale = A(1) / sqrt(block_sum(squares, mine.lanes) / A(values) + A(eps));
    if (mine.writes_for_group()) {
        mean[mine.of_group()] = base + rest;
        inv_std[mine.of_group()] = scale;
    }
    const I scales = I(values / positions);
    for (I v = mine.start; v < mine.stop; v += mine.step) {
        const I e = mine.at(values, v), k = mine.group * scales + v / I(positions);
        A value = (A(x[e]) - base - rest) * scale;
        if (gamma) value *= A(gamma[k]);
        if (beta) value += A(beta[k]);
        y[e] = T(value);
    }
}

// The sums over a part of what reaches the normalised values, and of its products with them.
extern "C" __global__ void group_norm_sums(const T* dy, const T* x, const T* gamma, const A* mean, const A* inv_std,
                                           A* partial, long long positions, long long values, long long images,
                                           long long lanes, long long part, long long parts) {
    const Share mine(values, images, lanes, part, parts);
    const A centre = mean[mine.of_group()], scale = inv_std[mine.of_group()];
    const I scales = I(values / positions);
    A products = A(0), sum = A(0);
    for (I v = mine.start; v < mine.stop; v += mine.step) {
        const I e = mine.at(values, v);
        const A factor = gamma ? A(gamma[mine.group * scales + v / I(positions)]) : A(1);
        const A gradient = A(dy[e]) * factor;
        products += gradient * ((A(x[e]) - centre) * scale);
        sum += gradient;
    }
    products = block_sum(products, mine.lanes);
    sum = block_sum(sum, mine.lanes);
    if (!mine.writes_for_part()) return;
    partial[mine.left(parts, mine.index, 2, 0)] = products;
    partial[mine.left(parts, mine.index, 2, 1)] = sum;
}

extern "C" __global__ void group_norm_gradient(const T* dy, const T* x, const T* gamma, const A* mean,
                                               const A* inv_std, const A* partial, T* dx, long long positions,
                                               long long values, long long images, long long lanes, long long part,
                                               long long parts) {
    const Share mine(values, images, lanes, part, parts);
    A products = A(0), sum = A(0);
    for (I i = mine.row(); i < I(parts); i += mine.step) {
        products += partial[mine.left(parts, i, 2, 0)];
        sum += partial[mine.left(parts, i, 2, 1)];
    }
    const A by_xhat = block_sum(products, mine.lanes) / A(values), constant = block_sum(sum, mine.lanes) / A(values);
    const A centre = mean[mine.of_group()], scale = inv_std[mine.of_group()];
    const I scales = I(values / positions);
    for (I v = mine.start; v < mine.stop; v += mine.step) {
        const I e = mine.at(values, v);
        const A factor = gamma ? A(gamma[mine.group * scales + v / I(positions)]) : A(1);
        const A xhat = (A(x[e]) - centre) * scale;
        dx[e] = T((A(dy[e]) * factor - constant - xhat * by_xhat) * scale);
    }
}

// dgamma, then dbeta, of all `count` scales, `group_scales` in each group: the sums of dy * xhat and of dy over
// `length` elements of positions and images. Block sum * parts + i has part i of one of these sums. The sum of a part
// goes to `partial`, or to `made` if the part is the whole; the other one is null.
extern "C" __global__ void group_norm_scale_gradients(const T* dy, const T* x, const A* mean, const A* inv_std,
                                                      long long count, long long group_scales, long long images,
                                                      A* partial, T* made, long long length, long long part,
                                                      long long parts) {
    const I which = I(blockIdx.x) / I(parts), start = I(blockIdx.x) % I(parts) * I(part);
    const I stop = start + I(part) < I(length) ? start + I(part) : I(length);
    const bool of_gamma = which < I(count);
    const I k = of_gamma ? which : which - I(count), statistics = k / I(group_scales) * I(images);
    A sum = A(0);
    for (I i = start + I(threadIdx.x); i < stop; i += I(blockDim.x)) {
        const I e = k * I(length) + i, s = statistics + i % I(images);
        sum += of_gamma ? A(dy[e]) * ((A(x[e]) - mean[s]) * inv_std[s]) : A(dy[e]);
    }
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    if (made)
        made[which] = T(sum);
    else
        partial[blockIdx.x] = sum;
}
