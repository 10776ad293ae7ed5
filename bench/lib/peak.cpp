// What one core can do at most: nothing but fused multiply-adds in registers. Prints GFLOP/s by CPU time, best of 20.
#include <cstdio>
#include <ctime>

#ifdef __AVX512F__
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

int main() {
  constexpr int kSums = 12;  // enough that none waits for its last
  constexpr long kTimes = 2'000'000;
  double best = 0;
  float kept = 0;
  for (int round = 0; round < 20; round++) {
    Vector sums[kSums];
    for (int i = 0; i < kSums; i++) sums[i] = Vector{} + static_cast<float>(i + round);
    const Vector factor = Vector{} + 0.999999f, term = Vector{} + 1e-9f;
    const std::clock_t start = std::clock();
    for (long n = 0; n < kTimes; n++)
#pragma GCC unroll 12
      for (int i = 0; i < kSums; i++) sums[i] = sums[i] * factor + term;
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    for (int i = 0; i < kSums; i++) kept += sums[i][0];
    const double gflops = 2.0 * kLanes * kSums * kTimes / seconds / 1e9;
    if (gflops > best) best = gflops;
  }
  std::printf("%.1f %c\n", best, kept == 0 ? '!' : ' ');
}
