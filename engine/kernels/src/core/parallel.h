// Loops over independent pieces of work.
#pragma once

#include <algorithm>
#include <cstdint>

namespace kernels {

using Index = std::int64_t;

// f(i) for i in [0, n), each by one of at most `threads` threads. With 1 thread no OpenMP team is touched, so that two
// lanes (threads that each run a graph of their own) never wait for each other. f must not throw.
// BLAS calls inside f run on one thread: MKL sees that it is in a parallel region.
template <class F>
void parallel_for(int threads, Index n, F f) {
  if (threads <= 1 || n <= 1) {
    for (Index i = 0; i < n; i++) f(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast<int>(std::min<Index>(threads, n)))
  for (Index i = 0; i < n; i++) f(i);
}

// f(begin, end) over ranges of at most `grain` that make up [0, n).
template <class F>
void parallel_ranges(int threads, Index n, Index grain, F f) {
  grain = std::max<Index>(1, grain);
  parallel_for(threads, (n + grain - 1) / grain, [=](Index i) { f(i * grain, std::min(n, (i + 1) * grain)); });
}

}  // namespace kernels
