// min(max(value, low), high); NaN stays, as in NumPy.
__device__ inline A bounded(A value, A low, A high) { return value < low ? low : value > high ? high : value; }
