// What is counted of each batch, added to what was counted before. Needs reduce.cuh and rounded.cuh.

// A sum so far: an array of one element, or a number if null.
__device__ inline long long so_far(const long long* sum, long long number) { return sum ? sum[0] : number; }

// Whether (a, k) is before (b, m) in the search for the first maximum; NaN is above all, as in NumPy.
__device__ inline bool is_before(A a, I k, A b, I m) {
    const bool a_is_nan = a != a, b_is_nan = b != b;
    if (a_is_nan != b_is_nan) return a_is_nan;
    return a > b || ((a == b || a_is_nan) && k < m);
}

// sums[0] = correct + the rows of y (N, K) that have their first maximum at the label, sums[1] = counted + all rows, in
// both but for those of the label `ignored`, if `ignores`. Block i has `part` of the rows, `lanes` threads for each
// at a time. Where there are several parts their sums go to `partial`, and `sums` is null.
extern "C" __global__ void count_correct(const T* y, const long long* labels, long long classes, long long lanes,
                                         bool ignores, long long ignored, const long long* correct,
                                         long long correct_number, const long long* counted, long long counted_number,
                                         long long* partial, long long* sums, long long rows, long long part) {
    __shared__ A tops[256];
    __shared__ I places[256];
    const I K = I(classes), start = I(blockIdx.x) * I(part), end = start + I(part);
    const I stop = end < I(rows) ? end : I(rows), t = I(threadIdx.x), lane = t % I(lanes);
    const I at_once = I(blockDim.x) / I(lanes);
    long long hits = 0, kept = 0;
    for (I first = start; first < stop; first += at_once) {
        const I n = first + t / I(lanes);
        const T* row = y + (n < stop ? n : first) * K;
        A top = A(row[lane]);
        I place = lane;
        for (I k = lane + I(lanes); k < K; k += I(lanes)) {
            const A value = A(row[k]);
            if (is_before(value, k, top, place)) {
                top = value;
                place = k;
            }
        }
        __syncthreads();  // everybody has read the row before this one
        tops[t] = top;
        places[t] = place;
        for (I half = I(lanes) / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lane < half && is_before(tops[t + half], places[t + half], tops[t], places[t])) {
                tops[t] = tops[t + half];
                places[t] = places[t + half];
            }
        }
        if (lane == 0 && n < stop && !(ignores && labels[n] == ignored)) {
            hits += places[t] == labels[n];
            kept += 1;
        }
    }
    hits = block_sum(hits);
    kept = block_sum(kept);
    if (t != 0) return;
    if (sums) {
        sums[0] = so_far(correct, correct_number) + hits;
        sums[1] = so_far(counted, counted_number) + kept;
    } else {
        partial[2 * blockIdx.x] = hits;
        partial[2 * blockIdx.x + 1] = kept;
    }
}

// The second half where the rows were cut into parts, by one block.
extern "C" __global__ void add_counts(const long long* partial, const long long* correct, long long correct_number,
                                      const long long* counted, long long counted_number, long long* sums,
                                      long long parts) {
    long long hits = 0, kept = 0;
    for (I i = I(threadIdx.x); i < I(parts); i += I(blockDim.x)) {
        hits += partial[2 * i];
        kept += partial[2 * i + 1];
    }
    hits = block_sum(hits);
    kept = block_sum(kept);
    if (threadIdx.x != 0) return;
    sums[0] = so_far(correct, correct_number) + hits;
    sums[1] = so_far(counted, counted_number) + kept;
}

// sum[0] = total + value * weight, by one thread; total and weight are arrays of one element, or numbers if null.
extern "C" __global__ void add_product(const T* total, double total_number, const T* value, const T* weight,
                                       double weight_number, T* sum) {
    const A product = rounded_product(A(value[0]), weight ? A(weight[0]) : A(weight_number));
    sum[0] = T((total ? A(total[0]) : A(total_number)) + product);
}
