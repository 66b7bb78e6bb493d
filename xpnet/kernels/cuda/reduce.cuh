// Sums and maxima over a block of threads, of which there are a power of two, at most 256. Always in the same order,
// so results repeat to the bit. Every thread of the block must call, and every thread gets the result.

// With `lanes`, a power of two, as many sums: each of the threads whose numbers have the same rest by it.
template <class Sum>
__device__ inline Sum block_sum(Sum value, unsigned lanes = 1) {
    __shared__ Sum terms[256];
    __syncthreads();  // everybody has read the sum before this one
    terms[threadIdx.x] = value;
    for (unsigned half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) terms[threadIdx.x] += terms[threadIdx.x + half];
    }
    __syncthreads();
    return terms[threadIdx.x % lanes];
}

// NaN wins, as in NumPy. Lanes as above.
__device__ inline A block_max(A value, unsigned lanes = 1) {
    __shared__ A terms[256];
    __syncthreads();
    terms[threadIdx.x] = value;
    for (unsigned half = blockDim.x / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            const A other = terms[threadIdx.x + half];
            if (other > terms[threadIdx.x] || other != other) terms[threadIdx.x] = other;
        }
    }
    __syncthreads();
    return terms[threadIdx.x % lanes];
}
