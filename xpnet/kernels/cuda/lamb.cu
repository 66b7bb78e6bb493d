// LAMB, whose step for each parameter is as long, in proportion, as the parameter. Needs reduce.cuh.
//
// Parameters lie one after another in flat arrays and are cut into chunks, one for each block of the last two kernels.
// `chunks` has four numbers for each: where it starts and stops, the first chunk of its parameter, and the one after
// the last.

struct Chunk {
    I start, stop, first, last;
    __device__ explicit Chunk(const Word* chunks) {
        const Word* mine = chunks + 4 * Word(blockIdx.x);
        start = I(mine[0]) + I(threadIdx.x);
        stop = I(mine[1]);
        first = I(mine[2]);
        last = I(mine[3]);
    }
};

// m, v and the step u, but for its length; `correction` and `root` are those of m and of sqrt(v).
extern "C" __global__ void lamb_step(const T* w, const T* g, T* m, T* v, const T* decay, T* u, double beta1,
                                     double beta2, double eps, double correction, double root, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const A gradient = A(g[e]);
    const A mean = A(beta1) * A(m[e]) + A(1.0 - beta1) * gradient;
    const A squares = A(beta2) * A(v[e]) + A(1.0 - beta2) * (gradient * gradient);
    m[e] = T(mean);
    v[e] = T(squares);
    const A step = A(correction) * mean / (sqrt(squares) * A(root) + A(eps));
    u[e] = T(decay ? step + A(decay[e]) * A(w[e]) : step);
}

// partial[chunk] = sums of w^2 and of u^2.
extern "C" __global__ void lamb_norms(const T* w, const T* u, const Word* chunks, A* partial) {
    const Chunk mine(chunks);
    A of_w = A(0), of_u = A(0);
    for (I e = mine.start; e < mine.stop; e += I(blockDim.x)) {
        of_w += A(w[e]) * A(w[e]);
        of_u += A(u[e]) * A(u[e]);
    }
    of_w = block_sum(of_w);
    of_u = block_sum(of_u);
    if (threadIdx.x != 0) return;
    partial[2 * I(blockIdx.x)] = of_w;
    partial[2 * I(blockIdx.x) + 1] = of_u;
}

// The learning rate is that of the element where there are `rates`, times `lr`, which else is the rate.
extern "C" __global__ void lamb(T* w, const T* u, const Word* chunks, const A* partial, const T* rates, double lr) {
    const Chunk mine(chunks);
    A of_w = A(0), of_u = A(0);
    for (I i = mine.first + I(threadIdx.x); i < mine.last; i += I(blockDim.x)) {
        of_w += partial[2 * i];
        of_u += partial[2 * i + 1];
    }
    of_w = sqrt(block_sum(of_w));
    of_u = sqrt(block_sum(of_u));
    const A ratio = of_w > A(0) && of_u > A(0) ? of_w / of_u : A(1);
    for (I e = mine.start; e < mine.stop; e += I(blockDim.x)) {
        const A rate = rates ? A(rates[e]) * A(lr) : A(lr);
        w[e] = T(A(w[e]) - rate * (A(u[e]) * ratio));
    }
}
