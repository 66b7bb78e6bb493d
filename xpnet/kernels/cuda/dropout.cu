// Dropout by counted random numbers: the mask of xpnet.random.keep_mask, element for element.

// Philox4x64-10 of a counter under a key (Salmon et al., 2011), in place.
__device__ inline void philox(Word counter[4], Word key0, Word key1) {
    for (int round = 0; round < 10; ++round) {
        const Word high0 = __umul64hi(0xD2E7470EE14C6C93ULL, counter[0]), low0 = 0xD2E7470EE14C6C93ULL * counter[0];
        const Word high1 = __umul64hi(0xCA5A826395121157ULL, counter[2]), low1 = 0xCA5A826395121157ULL * counter[2];
        counter[0] = high1 ^ counter[1] ^ key0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ key1;
        counter[3] = low0;
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
}

// Element e of the mask, counted in C order of the array's indices, is kept if word e is at least `threshold`: the
// lower or upper half of 64-bit output e / 2, of which block e / 8 has four. In memory, element `position` of image n
// of `positions` lies at position * images + n. A thread has eight elements of one image. Seed and step are numbers, or
// in memory if their pointers are not null.
extern "C" __global__ void dropout_forward(const T* x, T* y, bool* mask, long long images, long long positions,
                                           long long threads, const Word* seed_at, Word seed, Word stream,
                                           const Word* step_at, Word step, Word threshold, double scale) {
    const I t = thread_index(), N = I(images), M = I(positions);
    if (t >= I(threads)) return;
    if (seed_at) seed = *seed_at;
    if (step_at) step = *step_at;
    const I n = t % N, first = t / N * 8;
    Word random[4];
    Word drawn = ~Word(0);  // the block that `random` holds
    for (I position = first; position < first + 8 && position < M; ++position) {
        const Word e = Word(n) * Word(M) + Word(position);
        if (e / 8 != drawn) {
            drawn = e / 8;
            random[0] = drawn + 1;
            random[1] = 0;
            random[2] = step;
            random[3] = 0;
            philox(random, seed, stream);
        }
        const Word word = random[e / 2 % 4] >> (e % 2 ? 32 : 0) & 0xffffffffULL;
        const bool keep = word >= threshold;
        const I at = position * N + n;
        mask[at] = keep;
        y[at] = keep ? T(A(x[at]) * A(scale)) : T(A(x[at]) * A(0));  // of infinity and NaN a product makes NaN
    }
}

extern "C" __global__ void dropout_backward(const T* dy, const bool* mask, T* dx, long long size, double scale) {
    const I e = thread_index();
    if (e < I(size)) dx[e] = T(A(dy[e]) * (mask[e] ? A(scale) : A(0)));
}
