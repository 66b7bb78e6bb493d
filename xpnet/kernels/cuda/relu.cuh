// Relu and its gradient, for the kernels that end in it.

// NaN stays NaN, as in NumPy.
__device__ inline A rectified(A value) { return value > A(0) || value != value ? value : A(0); }

// A product with the mask, as in NumPy: an infinite or NaN gradient is seen even where nothing passes.
__device__ inline A passed(A dy, A y) { return dy * (y > A(0) ? A(1) : A(0)); }
