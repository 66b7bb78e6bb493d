// Depthwise convolution of images that lie as (C, H, W, N): each channel is seen by its own `filters` filters alone,
// whose weights are W (filters * C, KH, KW). Needs place.cuh and reduce.cuh.

extern "C" __global__ void depthwise_forward(const T* x, const T* W, T* y, const Window s, long long filters,
                                             long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.OH, s.OW);
    const I c = at.c / I(filters);
    A sum = A(0);
    each_pixel_read(s, at, [&](int i, int j, int h, int w) {
        sum += A(W[(at.c * s.KH + i) * s.KW + j]) * A(x[offset(c, h, w, at.n, N, s.H, s.W)]);
    });
    y[e] = T(sum);
}

// Each pixel gathers from the outputs that read it, always in the order of filters and taps.
extern "C" __global__ void depthwise_input_gradient(const T* dy, const T* W, T* dx, const Window s, long long filters,
                                                    long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.H, s.W);
    A sum = A(0);
    for (I f = at.c * I(filters); f < (at.c + 1) * I(filters); ++f)
        each_reader(s, at, [&](int i, int j, int oh, int ow) {
            sum += A(W[(f * s.KH + i) * s.KW + j]) * A(dy[offset(f, oh, ow, at.n, N, s.OH, s.OW)]);
        });
    dx[e] = T(sum);
}

// The sum over outputs of dy times what a tap read for them. Block tap * parts + i has `part` of the OH * OW * N
// outputs of a filter. The sum of a part goes to `partial`, or to dW if the part is the whole; the other one is null.
extern "C" __global__ void depthwise_weight_gradient(const T* dy, const T* x, A* partial, T* dW, const Window s,
                                                     long long filters, long long images, long long part,
                                                     long long parts) {
    const I N = I(images), length = I(s.OH) * I(s.OW) * N;
    const I tap = I(blockIdx.x) / I(parts), start = I(blockIdx.x) % I(parts) * I(part);
    const I stop = start + I(part) < length ? start + I(part) : length;
    const int j = int(tap % s.KW), i = int(tap / s.KW % s.KH);
    const I f = tap / s.KW / s.KH;
    A sum = A(0);
    for (I e = start + I(threadIdx.x); e < stop; e += I(blockDim.x)) {
        const Place at(e, N, s.OH, s.OW);
        const int h = at.row * s.stride_h - s.top + i * s.dilation_h;
        const int w = at.column * s.stride_w - s.left + j * s.dilation_w;
        if (h >= 0 && h < s.H && w >= 0 && w < s.W)
            sum += A(dy[f * length + e]) * A(x[offset(f / I(filters), h, w, at.n, N, s.H, s.W)]);
    }
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    if (dW)
        dW[tap] = T(sum);
    else
        partial[blockIdx.x] = sum;
}
