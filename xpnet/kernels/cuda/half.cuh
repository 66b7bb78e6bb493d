// float16 as it is stored; arithmetic is in float. A type of our own and not that of cuda_fp16.h, so that compiling
// needs no header of the CUDA toolkit.

struct Half {
    unsigned short bits;
    Half() = default;
    __device__ explicit Half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
    __device__ explicit operator float() const {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
};
