// Place of a pixel or output and of its image: memory index -> (channel, row, column, image).
struct Place {
    I c, n;
    int row, column;
    __device__ Place(I e, I N, int rows, int columns)
        : c(e / N / columns / rows), n(e % N), row(int(e / N / columns % rows)), column(int(e / N % columns)) {}
};

// Where a pixel of channel c lies in images of `rows` x `columns` pixels.
__device__ inline I offset(I c, int row, int column, I n, I N, int rows, int columns) {
    return ((c * rows + row) * columns + column) * N + n;
}

// Call use(i, j, h, w) for each tap (i, j) of an output that reads a pixel (h, w) of the image, in their order.
template <class Use>
__device__ inline void each_pixel_read(const Window& s, const Place& output, Use use) {
    for (int i = 0; i < s.KH; ++i) {
        const int h = output.row * s.stride_h - s.top + i * s.dilation_h;
        if (h < 0 || h >= s.H) continue;
        for (int j = 0; j < s.KW; ++j) {
            const int w = output.column * s.stride_w - s.left + j * s.dilation_w;
            if (w >= 0 && w < s.W) use(i, j, h, w);
        }
    }
}

// Call use(i, j, oh, ow) for each output (oh, ow) that reads a pixel through a tap (i, j), in the order of the taps.
template <class Use>
__device__ inline void each_reader(const Window& s, const Place& pixel, Use use) {
    for (int i = 0; i < s.KH; ++i) {
        const int oh = output_of(pixel.row, i, s.dilation_h, s.stride_h, s.top, 0, s.OH);
        if (oh < 0) continue;
        for (int j = 0; j < s.KW; ++j) {
            const int ow = output_of(pixel.column, j, s.dilation_w, s.stride_w, s.left, 0, s.OW);
            if (ow >= 0) use(i, j, oh, ow);
        }
    }
}
