// a * b, rounded before anything is added to it, which the compiler would else do in one operation: as in NumPy.
__device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double rounded_product(double a, double b) { return __dmul_rn(a, b); }
