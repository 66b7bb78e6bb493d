// Numbers of the host that change from step to step, for kernels in a CUDA graph, whose own arguments never change.

struct Words {
    Word of[32];
};

// Arguments travel with the launch, so nobody has to keep the numbers until the device has read them.
extern "C" __global__ void set_words(Word* words, const Words given, long long count) {
    if (threadIdx.x < count) words[threadIdx.x] = given.of[threadIdx.x];
}
