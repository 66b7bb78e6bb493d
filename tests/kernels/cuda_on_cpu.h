// What the CUDA sources take from CUDA, for a C++ compiler on the CPU: the tests run the very same kernels with it.
//
// The threads of a block are coroutines that take turns at each __syncthreads(); blocks run one after another. That
// shows what a kernel computes. It shows nothing of races between barriers, of speed, or of a GPU.
#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

using std::erfc;
using std::exp;
using std::expm1;
using std::log;
using std::log1p;
using std::sqrt;

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

inline float __fmul_rn(float a, float b) { return a * b; }  // this compiler adds nothing to it in one operation
inline double __dmul_rn(double a, double b) { return a * b; }

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// In place of half.cuh, whose conversions are instructions of a GPU.

struct Half {
    unsigned short bits;
    Half() = default;
    explicit Half(float value) {
        const unsigned sign = __float_as_uint(value) >> 16 & 0x8000u, rest = __float_as_uint(value) & 0x7fffffffu;
        unsigned half;
        if (rest > 0x7f800000u)
            half = 0x7e00u;  // NaN
        else if (rest >= 0x477ff000u)
            half = 0x7c00u;  // infinity, or rounds to it
        else if (rest < 0x38800000u)  // subnormal
            half = unsigned(std::nearbyint(std::ldexp(__uint_as_float(rest), 24)));
        else  // to nearest, ties to even
            half = (rest + 0xfffu + (rest >> 13 & 1u) - 0x38000000u) >> 13;
        bits = static_cast<unsigned short>(sign | half);
    }
    explicit operator float() const {
        const unsigned exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
        const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                           : exponent     ? std::ldexp(float(fraction + 1024u), int(exponent) - 25)
                                          : std::ldexp(float(fraction), -24);
        return bits & 0x8000u ? -size : size;
    }
};

// --- threads -------------------------------------------------------------------------------------

static ucontext_t scheduler;
static std::vector<ucontext_t> threads_of_block;
static bool at_barrier;  // whether the thread that gave way waits, or has ended
static void (*body)(void**);
static void** body_arguments;

inline void __syncthreads() {
    at_barrier = true;
    swapcontext(&threads_of_block[threadIdx.x], &scheduler);
}

static void run_thread() {
    body(body_arguments);
    at_barrier = false;
    setcontext(&scheduler);
}

// Run all threads of a block up to the next barrier, until they end: all at the same one, as CUDA asks.
static bool run_block(std::vector<char>& stacks) {
    const unsigned threads = blockDim.x;
    const std::size_t stack = stacks.size() / threads;
    threads_of_block.resize(threads);
    for (unsigned t = 0; t < threads; ++t) {
        ucontext_t& context = threads_of_block[t];
        getcontext(&context);
        context.uc_stack.ss_sp = &stacks[t * stack];
        context.uc_stack.ss_size = stack;
        makecontext(&context, run_thread, 0);
    }
    for (;;) {
        unsigned waiting = 0;
        for (unsigned t = 0; t < threads; ++t) {
            threadIdx = {t, 0, 0};
            swapcontext(&scheduler, &threads_of_block[t]);
            waiting += at_barrier;
        }
        if (waiting == 0) return true;
        if (waiting < threads) return false;
    }
}

// Run a kernel over its grid. Without barriers a block is a loop. False if threads part at a barrier.
static bool run_grid(void (*kernel)(void**), void** arguments, unsigned grid_x, unsigned grid_y, unsigned threads,
                     bool barriers) {
    std::vector<char> stacks(barriers ? threads * (std::size_t(1) << 15) : 0);
    body = kernel;
    body_arguments = arguments;
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    for (unsigned y = 0; y < grid_y; ++y)
        for (unsigned x = 0; x < grid_x; ++x) {
            blockIdx = {x, y, 0};
            if (barriers) {
                if (!run_block(stacks)) return false;
                continue;
            }
            for (unsigned t = 0; t < threads; ++t) {
                threadIdx = {t, 0, 0};
                kernel(arguments);
            }
        }
    return true;
}
