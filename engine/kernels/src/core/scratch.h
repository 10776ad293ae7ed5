// Memory for tiles. Fresh memory would cost a page fault per 4 KB in each call (the allocator gives pieces of this size
// back to the system at once), so each thread keeps one block; tile sizes bound it to a few MB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace kernels {

// Carves float arrays, aligned to cache lines, out of the calling thread's block. One at a time per thread: a kernel
// makes it at the start of a piece of work and takes all that it needs.
class Scratch {
 public:
  // `floats`: the sum of what `take` will be asked for, `arrays` how often.
  Scratch(std::int64_t floats, int arrays) : next_(block(static_cast<std::size_t>(floats + arrays * kLine))) {}

  float* take(std::int64_t floats) {
    float* taken = next_;
    next_ += (floats + kLine - 1) / kLine * kLine;
    return taken;
  }

 private:
  static constexpr std::int64_t kLine = 16;  // floats

  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };

  static float* block(std::size_t floats) {
    static thread_local std::unique_ptr<float, Free> memory;
    static thread_local std::size_t size = 0;
    if (size < floats) {
      const std::size_t bytes = (floats * sizeof(float) + 4095) / 4096 * 4096;
      memory.reset();
      memory.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      if (memory == nullptr) throw std::bad_alloc();
      size = bytes / sizeof(float);
    }
    return memory.get();
  }

  float* next_;
};

}  // namespace kernels
