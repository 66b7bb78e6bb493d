// Place of a pixel or output and of its image: memory index -> (channel, row, column, image).
struct Place {
    I c, n;
    int row, column;
    __device__ Place(I e, I N, int rows, int columns)
        : c(e / N / columns / rows), n(e % N), row(int(e / N / columns % rows)), column(int(e / N % columns)) {}
};
