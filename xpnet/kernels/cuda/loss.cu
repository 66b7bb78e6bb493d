// Softmax cross entropy: one block for each row of (N, K) arrays. Needs reduce.cuh.

// Rows of 0 with a 1 at the label; of 0 where `kept` is 0, if it is not null; of NaN where the label is no class.
extern "C" __global__ void one_hot(const long long* t, const T* kept, T* rows, long long classes, long long size) {
    const I e = thread_index();
    if (e >= I(size)) return;
    const I n = e / I(classes), k = e % I(classes);
    if (kept && A(kept[n]) == A(0)) {
        rows[e] = T(A(0));
        return;
    }
    const long long label = t[n];
    rows[e] = T(A(label == k) / A(label >= 0 && label < classes));
}

// p = softmax of the logits; losses[n] = -sum over k of target * log softmax.
extern "C" __global__ void softmax_cross_entropy(const T* logits, const A* target, A* p, A* losses,
                                                 long long classes) {
    const I K = I(classes), n = I(blockIdx.x), first = I(threadIdx.x);
    const T* row = logits + n * K;
    A top = A(row[first < K ? first : 0]);
    for (I k = first + I(blockDim.x); k < K; k += I(blockDim.x)) {
        const A value = A(row[k]);
        if (value > top || value != value) top = value;
    }
    top = block_max(top);
    A total = A(0);
    for (I k = first; k < K; k += I(blockDim.x)) {
        const A power = exp(A(row[k]) - top);
        p[n * K + k] = power;
        total += power;
    }
    total = block_sum(total);
    const A log_total = log(total);
    A loss = A(0);
    for (I k = first; k < K; k += I(blockDim.x)) {
        p[n * K + k] /= total;
        const A wanted = target[n * K + k];
        // a target of zero adds nothing even where a logit is minus infinity
        if (wanted != A(0)) loss += (A(row[k]) - top - log_total) * wanted;
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[n] = -loss;
}

// total[0] = sum of the losses, by one block.
extern "C" __global__ void sum_losses(const A* losses, A* total, long long count) {
    A sum = A(0);
    for (I n = I(threadIdx.x); n < I(count); n += I(blockDim.x)) sum += losses[n];
    sum = block_sum(sum);
    if (threadIdx.x == 0) total[0] = sum;
}

// dlogits = dy (softmax * sum of the row of targets - target); dy is an array of one element, or a number if null.
extern "C" __global__ void softmax_cross_entropy_gradient(const A* dy, double number, const A* p, const A* target,
                                                          A* dlogits, long long classes) {
    const I K = I(classes), row = I(blockIdx.x) * K;
    A sum = A(0);
    for (I k = I(threadIdx.x); k < K; k += I(blockDim.x)) sum += target[row + k];
    sum = block_sum(sum);
    const A factor = dy ? dy[0] : A(number);
    for (I k = I(threadIdx.x); k < K; k += I(blockDim.x))
        dlogits[row + k] = (p[row + k] * sum - target[row + k]) * factor;
}
