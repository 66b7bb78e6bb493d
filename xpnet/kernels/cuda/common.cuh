// What every kernel file begins with. Before this text stand three lines that choose the types:
//   T  of the arrays (float, double, Half, BFloat16),  A  in which is computed (float, double),
//   I  of indices (int, or long long for arrays of 2^30 elements and more).
//
// Arguments are pointers, long long, Word, double, bool and Window alone: what CuPy makes of arrays and numbers.

typedef unsigned long long Word;

struct Window {  // where a kernel of size (KH, KW) lands on an image of size (H, W); see xpnet/kernels/geometry.py
    int H, W, OH, OW, KH, KW, stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w;
};

// One element a thread. The grid has as many threads as elements, rounded up to whole blocks.
__device__ inline I thread_index() { return I(blockIdx.x) * I(blockDim.x) + I(threadIdx.x); }

// The output that reads `pixel` through `tap` along one axis, counted from `first`; -1 if it is none of `count`.
__device__ inline int output_of(int pixel, int tap, int dilation, int stride, int before, int first, int count) {
    const int offset = pixel + before - tap * dilation;
    if (offset < 0 || offset % stride != 0) return -1;
    const int output = offset / stride - first;
    return output >= 0 && output < count ? output : -1;
}
