// Columns of a convolution, for a block of output rows and columns; images lie as (C, H, W, N).

// col[c, i, j, oh, ow, n] = what tap (i, j) of output pixel (oh, ow) reads. The grid is (pixels and images, taps):
// a thread keeps its pixel and image, whose numbers take divisions, and goes through the taps gridDim.y apart.
extern "C" __global__ void im2col(const T* x, T* col, const Window s, long long images, long long taps,
                                  long long row, long long rows, long long column, long long columns) {
    const I N = I(images), L = I(rows) * I(columns) * N, p = thread_index();
    if (p >= L) return;
    const I n = p % N, pixel = p / N;
    const int top = int(row + pixel / I(columns)) * s.stride_h - s.top;
    const int left = int(column + pixel % I(columns)) * s.stride_w - s.left;
    for (int k = int(blockIdx.y); k < int(taps); k += int(gridDim.y)) {
        const int j = k % s.KW, i = k / s.KW % s.KH, c = k / (s.KW * s.KH);
        const int h = top + i * s.dilation_h, w = left + j * s.dilation_w;
        const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
        col[I(k) * L + p] = inside ? x[((I(c) * s.H + h) * s.W + w) * N + n] : T(0.0f);
    }
}

// x[c, h, w, n] = sum of the columns that were read from there, on top of what is there if `add`. Each pixel gathers
// its own, always in the order of the taps, so nothing is added in an order left to chance.
extern "C" __global__ void col2im(const T* col, T* x, const Window s, long long images, long long size,
                                  long long row, long long rows, long long column, long long columns, bool add) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const I n = e % N, pixel = e / N;
    const int w = int(pixel % s.W), h = int(pixel / s.W % s.H);
    const I c = pixel / s.W / s.H;
    A sum = add ? A(x[e]) : A(0);
    for (int i = 0; i < s.KH; ++i) {
        const int oh = output_of(h, i, s.dilation_h, s.stride_h, s.top, int(row), int(rows));
        if (oh < 0) continue;
        for (int j = 0; j < s.KW; ++j) {
            const int ow = output_of(w, j, s.dilation_w, s.stride_w, s.left, int(column), int(columns));
            if (ow < 0) continue;
            sum += A(col[((((c * s.KH + i) * s.KW + j) * I(rows) + oh) * I(columns) + ow) * N + n]);
        }
    }
    x[e] = T(sum);
}
