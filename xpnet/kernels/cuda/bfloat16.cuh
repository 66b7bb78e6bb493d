// bfloat16 as it is stored, the upper half of a float; arithmetic is in float.

struct BFloat16 {
    unsigned short bits;
    BFloat16() = default;
    __device__ explicit BFloat16(float value) {
        const unsigned whole = __float_as_uint(value);
        const bool is_nan = (whole & 0x7fffffffu) > 0x7f800000u;
        // to nearest, ties to even; a NaN stays one
        bits = static_cast<unsigned short>((is_nan ? whole | 0x400000u : whole + 0x7fffu + (whole >> 16 & 1u)) >> 16);
    }
    __device__ explicit operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};
