// Pooling of images that lie as (C, H, W, N). Backward is gathered by the pixels: each adds up the windows that see
// it in the order of the taps, so overlapping windows too give the same bits in every run. Needs place.cuh.

extern "C" __global__ void max_pool_forward(const T* x, T* y, const Window s, long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.OH, s.OW);
    A best = A(0);
    bool seen = false;
    each_pixel_read(s, at, [&](int, int, int h, int w) {
        const A value = A(x[offset(at.c, h, w, at.n, N, s.H, s.W)]);
        if (!seen || value > best || value != value) best = value;  // NaN wins and stays
        seen = true;
    });
    y[e] = T(best);
}

// Whether no tap before (i, j) of the output whose window begins at (top, left) reads `value` too.
__device__ inline bool is_first(const T* x, const Window& s, const Place& at, I N, int top, int left, int i, int j,
                                A value) {
    for (int a = 0; a <= i; ++a) {
        const int h = top + a * s.dilation_h;
        if (h < 0 || h >= s.H) continue;
        for (int b = 0; b < (a < i ? s.KW : j); ++b) {
            const int w = left + b * s.dilation_w;
            if (w >= 0 && w < s.W && A(x[offset(at.c, h, w, at.n, N, s.H, s.W)]) == value) return false;
        }
    }
    return true;
}

// The first maximum of a window, in the order of the taps, gets all of its gradient.
extern "C" __global__ void max_pool_backward(const T* dy, const T* x, const T* y, T* dx, const Window s,
                                             long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.H, s.W);
    const A value = A(x[e]);
    A sum = A(0);
    each_reader(s, at, [&](int i, int j, int oh, int ow) {
        const I o = offset(at.c, oh, ow, at.n, N, s.OH, s.OW);
        if (A(y[o]) == value && is_first(x, s, at, N, oh * s.stride_h - s.top, ow * s.stride_w - s.left, i, j, value))
            sum += A(dy[o]);
    });
    dx[e] = T(sum);
}

// How many taps of an output along one axis land on pixels from `low` to below `high`.
__device__ inline int count_taps(int output, int stride, int before, int dilation, int taps, int low, int high) {
    int count = 0;
    for (int i = 0; i < taps; ++i) {
        const int pixel = output * stride - before + i * dilation;
        count += pixel >= low && pixel < high;
    }
    return count;
}

// One over the number of pixels that an average is taken of. Padding counts if `pad`; what lies beyond it never does.
__device__ inline A weight(const Window& s, int oh, int ow, bool pad) {
    const int rows = count_taps(oh, s.stride_h, s.top, s.dilation_h, s.KH, pad ? -s.top : 0, s.H + (pad ? s.bottom : 0));
    const int columns =
        count_taps(ow, s.stride_w, s.left, s.dilation_w, s.KW, pad ? -s.left : 0, s.W + (pad ? s.right : 0));
    return A(1) / A(rows * columns);
}

extern "C" __global__ void average_pool_forward(const T* x, T* y, const Window s, long long images, long long size,
                                                bool pad) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.OH, s.OW);
    A sum = A(0);
    each_pixel_read(
        s, at, [&](int, int, int h, int w) { sum += A(x[offset(at.c, h, w, at.n, N, s.H, s.W)]); });
    y[e] = T(sum * weight(s, at.row, at.column, pad));
}

extern "C" __global__ void average_pool_backward(const T* dy, T* dx, const Window s, long long images, long long size,
                                                 bool pad) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, s.H, s.W);
    A sum = A(0);
    each_reader(s, at, [&](int, int, int oh, int ow) {
        sum += A(dy[offset(at.c, oh, ow, at.n, N, s.OH, s.OW)]) * weight(s, oh, ow, pad);
    });
    dx[e] = T(sum);
}
