// Gradients of many parameters, added to those of the model.

struct Additions {  // arrays by address, so that one launch has them all
    T* sums[128];
    const T* terms[128];
    long long sizes[128];
};

// sums[n] += terms[n], by the blocks (x, n) of the grid.
extern "C" __global__ void add_all(const Additions all) {
    T* const sum = all.sums[blockIdx.y];
    const T* const term = all.terms[blockIdx.y];
    const I size = I(all.sizes[blockIdx.y]), step = I(gridDim.x) * I(blockDim.x);
    for (I e = thread_index(); e < size; e += step) sum[e] = T(A(sum[e]) + A(term[e]));
}
