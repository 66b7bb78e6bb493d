// Pooling of images that lie as (C, H, W, N) to bins of any size, which may overlap. Backward is gathered by the pixels,
// each from the bins it is in, in their order. Needs place.cuh.

// Of `count` bins on an axis of `others` pixels, bin i reaches from pixel floor(i * others / count) to below
// ceil((i + 1) * others / count). The bins that pixel i of `count` is in are had by the same formulas.
__device__ inline int first_of(int i, int count, int others) { return int((long long)(i)*others / count); }
__device__ inline int last_of(int i, int count, int others) { return int(((long long)(i + 1) * others - 1) / count); }

struct Box {  // of what a bin or a pixel has along both axes, the last ones included
    int top, bottom, left, right;
    __device__ Box(int row, int column, int rows, int columns, int other_rows, int other_columns)
        : top(first_of(row, rows, other_rows)), bottom(last_of(row, rows, other_rows)),
          left(first_of(column, columns, other_columns)), right(last_of(column, columns, other_columns)) {}
    __device__ A area() const { return A((bottom - top + 1) * (right - left + 1)); }
};

extern "C" __global__ void bin_average_forward(const T* x, T* y, long long H, long long W, long long OH, long long OW,
                                               long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, int(OH), int(OW));
    const Box bin(at.row, at.column, int(OH), int(OW), int(H), int(W));
    A sum = A(0);
    for (int h = bin.top; h <= bin.bottom; ++h) {
        A of_row = A(0);  // sums of sums: of a large image a single one would lose digits
        for (int w = bin.left; w <= bin.right; ++w) of_row += A(x[offset(at.c, h, w, at.n, N, int(H), int(W))]);
        sum += of_row;
    }
    y[e] = T(sum / bin.area());
}

extern "C" __global__ void bin_average_backward(const T* dy, T* dx, long long H, long long W, long long OH,
                                                long long OW, long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, int(H), int(W));
    const Box mine(at.row, at.column, int(H), int(W), int(OH), int(OW));
    A sum = A(0);
    for (int i = mine.top; i <= mine.bottom; ++i)
        for (int j = mine.left; j <= mine.right; ++j)
            sum += A(dy[offset(at.c, i, j, at.n, N, int(OH), int(OW))]) /
                   Box(i, j, int(OH), int(OW), int(H), int(W)).area();
    dx[e] = T(sum);
}

extern "C" __global__ void bin_max_forward(const T* x, T* y, long long H, long long W, long long OH, long long OW,
                                           long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, int(OH), int(OW));
    const Box bin(at.row, at.column, int(OH), int(OW), int(H), int(W));
    A best = A(x[offset(at.c, bin.top, bin.left, at.n, N, int(H), int(W))]);
    for (int h = bin.top; h <= bin.bottom; ++h)
        for (int w = bin.left; w <= bin.right; ++w) {
            const A value = A(x[offset(at.c, h, w, at.n, N, int(H), int(W))]);
            if (value > best || value != value) best = value;  // NaN wins and stays
        }
    y[e] = T(best);
}

// NaN is a maximum too.
__device__ inline bool is_maximum(A value, A top) { return value == top || (value != value && top != top); }

// The first maximum of a bin, in the order of the pixels, gets all of its gradient.
extern "C" __global__ void bin_max_backward(const T* dy, const T* x, const T* y, T* dx, long long H, long long W,
                                            long long OH, long long OW, long long images, long long size) {
    const I N = I(images), e = thread_index();
    if (e >= I(size)) return;
    const Place at(e, N, int(H), int(W));
    const Box mine(at.row, at.column, int(H), int(W), int(OH), int(OW));
    A sum = A(0);
    for (int i = mine.top; i <= mine.bottom; ++i)
        for (int j = mine.left; j <= mine.right; ++j) {
            const I o = offset(at.c, i, j, at.n, N, int(OH), int(OW));
            const A top = A(y[o]);
            const Box bin(i, j, int(OH), int(OW), int(H), int(W));
            bool is_first = is_maximum(A(x[e]), top);
            for (int h = bin.top; is_first && h <= at.row; ++h)
                for (int w = bin.left; is_first && w <= (h < at.row ? bin.right : at.column - 1); ++w)
                    is_first = !is_maximum(A(x[offset(at.c, h, w, at.n, N, int(H), int(W))]), top);
            if (is_first) sum += A(dy[o]);
        }
    dx[e] = T(sum);
}
