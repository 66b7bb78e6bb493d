// Products of matrices inside a CUDA graph, where cuBLAS cannot be asked: out = a @ b, row by row, for each matrix of
// a batch. a and b may lie in any way.
//
// 256 threads, 16 by 16, make a tile of 16 RM rows by 16 RN columns, each thread RM by RN of it. The tile goes through
// its terms STEP at a time: they lie in shared memory while the next ones are on their way to registers.

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

struct Product {  // (M, K) @ (K, N), cut into tiles and parts; distances between elements, in elements
    long long M, N, K;
    long long a_across, a_along, a_matrix;  // to the next row of a, to the next of the K terms, to the next matrix
    long long b_across, b_along, b_matrix;  // to the next column of b, to the next of the K terms, to the next matrix
    long long tiles, part, parts;           // tiles in a row of tiles; terms in a part; parts of each matrix
};

constexpr int SIDE = 16, STEP = 16;
constexpr int GAP = 4;  // elements after each row in shared memory, so that a column is not all in one bank

// Element i of a thread's R, along one side of the tile: runs of up to four neighbours, which are read together.
template <int R>
__device__ inline int place(int thread, int i) {
    constexpr int RUN = R < 4 ? R : 4;
    return i / RUN * (SIDE * RUN) + thread * RUN + i % RUN;
}

// The STEP terms of one operand, of 16 R rows or columns: R elements a thread, in registers and then in shared memory.
// `neighbours` says that terms lie beside each other, so threads of one warp read along them; else across.
template <int R>
struct Slab {
    A held[R];

    __device__ static int across_of(int e, bool neighbours) { return neighbours ? e / STEP : e % (SIDE * R); }
    __device__ static int term_of(int e, bool neighbours) { return neighbours ? e % STEP : e / (SIDE * R); }

    __device__ void fetch(const T* x, I first, I size, I across, I term, I stop, I along, bool neighbours) {
        UNROLL
        for (int i = 0; i < R; ++i) {
            const int e = int(threadIdx.x) + i * SIDE * SIDE;
            const I c = first + across_of(e, neighbours), k = term + term_of(e, neighbours);
            held[i] = c < size && k < stop ? A(x[c * across + k * along]) : A(0);
        }
    }

    __device__ void store(A (&shared)[STEP][SIDE * R + GAP], bool neighbours) const {
        UNROLL
        for (int i = 0; i < R; ++i) {
            const int e = int(threadIdx.x) + i * SIDE * SIDE;
            shared[term_of(e, neighbours)][across_of(e, neighbours)] = held[i];
        }
    }
};

// Block x has tile x, row by row of tiles; block y has part y % parts of the terms of matrix y / parts. The sum of a
// part goes to `partial` (matrix, part, M, N), or to `out` if there is one part; the other one is null.
template <int RM, int RN>
__device__ inline void tile_product(const T* a, const T* b, T* out, A* partial, const Product& p) {
    alignas(32) __shared__ A rows[STEP][SIDE * RM + GAP];
    alignas(32) __shared__ A columns[STEP][SIDE * RN + GAP];
    const I M = I(p.M), N = I(p.N), a_across = I(p.a_across), a_along = I(p.a_along);
    const I b_across = I(p.b_across), b_along = I(p.b_along);
    const int column = int(threadIdx.x) % SIDE, row = int(threadIdx.x) / SIDE;
    const I top = I(blockIdx.x) / I(p.tiles) * (SIDE * RM), left = I(blockIdx.x) % I(p.tiles) * (SIDE * RN);
    const I matrix = I(blockIdx.y) / I(p.parts), start = I(blockIdx.y) % I(p.parts) * I(p.part);
    const I stop = start + I(p.part) < I(p.K) ? start + I(p.part) : I(p.K);
    const bool a_neighbours = a_along == 1, b_neighbours = b_along == 1;
    a += matrix * I(p.a_matrix);
    b += matrix * I(p.b_matrix);
    Slab<RM> of_a;
    Slab<RN> of_b;
    A sums[RM][RN] = {};
    of_a.fetch(a, top, M, a_across, start, stop, a_along, a_neighbours);
    of_b.fetch(b, left, N, b_across, start, stop, b_along, b_neighbours);
    for (I term = start; term < stop; term += STEP) {
        __syncthreads();  // everybody is done with the terms before these
        of_a.store(rows, a_neighbours);
        of_b.store(columns, b_neighbours);
        __syncthreads();
        of_a.fetch(a, top, M, a_across, term + STEP, stop, a_along, a_neighbours);
        of_b.fetch(b, left, N, b_across, term + STEP, stop, b_along, b_neighbours);
        UNROLL
        for (int k = 0; k < STEP; ++k) {
            A x[RM], y[RN];
            UNROLL
            for (int i = 0; i < RM; ++i) x[i] = rows[k][place<RM>(row, i)];
            UNROLL
            for (int j = 0; j < RN; ++j) y[j] = columns[k][place<RN>(column, j)];
            UNROLL
            for (int i = 0; i < RM; ++i) {
                UNROLL
                for (int j = 0; j < RN; ++j) sums[i][j] += x[i] * y[j];
            }
        }
    }
    const I first = I(blockIdx.y) * M;
    UNROLL
    for (int i = 0; i < RM; ++i) {
        UNROLL
        for (int j = 0; j < RN; ++j) {
            const I m = top + place<RM>(row, i), n = left + place<RN>(column, j);
            if (m >= M || n >= N) continue;
            if (partial)
                partial[(first + m) * N + n] = sums[i][j];
            else
                out[(first + m) * N + n] = T(sums[i][j]);
        }
    }
}

// Tiles of 16 x 64, 64 x 64 and 128 x 128.

extern "C" __global__ void product_flat(const T* a, const T* b, T* out, A* partial, const Product p) {
    tile_product<1, 4>(a, b, out, partial, p);
}

extern "C" __global__ void product_small(const T* a, const T* b, T* out, A* partial, const Product p) {
    tile_product<4, 4>(a, b, out, partial, p);
}

extern "C" __global__ void product_large(const T* a, const T* b, T* out, A* partial, const Product p) {
    tile_product<8, 8>(a, b, out, partial, p);
}

// out[matrix, e] = sum of partial[matrix, part, e] over the parts. A block has 32 of the `size` elements of matrix y,
// and eight threads for each.
extern "C" __global__ void sum_products(const A* partial, T* out, long long size, long long parts) {
    __shared__ A terms[8][32];
    const int lane = int(threadIdx.x) % 32, share = int(threadIdx.x) / 32;
    const I e = I(blockIdx.x) * 32 + lane, matrix = I(blockIdx.y);
    A sum = A(0);
    if (e < I(size))
        for (I p = share; p < I(parts); p += 8) sum += partial[(matrix * I(parts) + p) * I(size) + e];
    terms[share][lane] = sum;
    __syncthreads();
    if (share != 0 || e >= I(size)) return;
    for (int i = 1; i < 8; ++i) sum += terms[i][lane];
    out[matrix * I(size) + e] = T(sum);
}
