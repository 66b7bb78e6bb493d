// Batches of samples stored as bytes, made floats. Needs rounded.cuh.
//
// Always by way of float32, rounded after each operation, so that a batch has the bits that it has on the host: divided
// by 255, or where it `scales` times the factor and plus the shift.

__device__ inline T made_float(unsigned char byte, bool scales, double factor, double shift) {
    const float value = float(byte);
    return T(A(scales ? rounded_product(value, float(factor)) + float(shift) : value / 255.0f));
}

extern "C" __global__ void bytes_to_float(const unsigned char* x, T* y, bool scales, double factor, double shift,
                                          long long size) {
    const I e = thread_index();
    if (e < I(size)) y[e] = made_float(x[e], scales, factor, shift);
}

// y (count, length) of some rows of what is stored, of `length` bytes each.
extern "C" __global__ void gather_rows(const unsigned char* stored, const long long* rows, T* y, bool scales,
                                       double factor, double shift, long long length, long long size) {
    const I e = thread_index();
    if (e < I(size)) y[e] = made_float(stored[I(rows[e / I(length)]) * I(length) + e % I(length)], scales, factor, shift);
}

// The same transposed, (length, count). A block has 32 bytes of 32 rows, so that neighbouring threads read neighbouring
// bytes and write neighbouring floats.
extern "C" __global__ void gather_transposed(const unsigned char* stored, const long long* rows, T* y, bool scales,
                                             double factor, double shift, long long length, long long count) {
    __shared__ unsigned char tile[32][33];
    const I across = (I(length) + 31) / 32, first = I(blockIdx.x) % across * 32, row = I(blockIdx.x) / across * 32;
    const I lane = I(threadIdx.x) % 32, step = I(blockDim.x) / 32;
    for (I i = I(threadIdx.x) / 32; i < 32; i += step)
        if (row + i < I(count) && first + lane < I(length))
            tile[i][lane] = stored[I(rows[row + i]) * I(length) + first + lane];
    __syncthreads();
    for (I i = I(threadIdx.x) / 32; i < 32; i += step)
        if (first + i < I(length) && row + lane < I(count))
            y[(first + i) * I(count) + row + lane] = made_float(tile[lane][i], scales, factor, shift);
}
