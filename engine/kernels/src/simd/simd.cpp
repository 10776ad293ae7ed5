#include "simd/simd.h"

#include <atomic>

namespace kernels {

extern const Simd simd_baseline;
#ifdef KERNELS_X86
extern const Simd simd_avx2;
extern const Simd simd_avx512;
#endif

namespace {

std::vector<const Simd*> available() {
  std::vector<const Simd*> found;
#ifdef KERNELS_X86
  // The builtin also asks the operating system whether it saves the wide registers.
  __builtin_cpu_init();
  const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&simd_avx512);
  if (fma) found.push_back(&simd_avx2);
#endif
  found.push_back(&simd_baseline);
  return found;
}

std::atomic<const Simd*> chosen{available().front()};

}  // namespace

const Simd& simd() { return *chosen.load(std::memory_order_relaxed); }

std::vector<std::string> simd_names() {
  std::vector<std::string> names;
  for (const Simd* set : available()) names.emplace_back(set->name);
  return names;
}

bool use_simd(const std::string& name) {
  for (const Simd* set : available())
    if (name == set->name) {
      chosen.store(set, std::memory_order_relaxed);
      return true;
    }
  return false;
}

}  // namespace kernels
