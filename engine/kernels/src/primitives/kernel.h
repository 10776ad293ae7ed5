// What the primitives share: a base class, memory for their outputs, and their way onto MLX's stream thread.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"

namespace kernels {

namespace mx = mlx::core;
using mx::array;
using Arrays = std::vector<array>;

// A primitive of the CPU back end that computes with at most `threads` threads. Gradients of gradients, jvp and vmap
// are not there: MLX says so when they are asked for.
class Kernel : public mx::Primitive {
 public:
  Kernel(mx::Stream stream, int threads) : mx::Primitive(stream), threads_(threads) {}

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error(std::string(name()) + " computes on CPUs only");
  }

 protected:
  int threads_;
};

// The stream of the calling thread: each lane has its own.
inline mx::Stream cpu_stream() { return mx::default_stream(mx::Device(mx::Device::cpu)); }

// The same array to compute with later, on the stream's thread; MLX itself keeps the data until then.
inline array later(const array& a) { return array::unsafe_weak_copy(a); }

// Runs `task` on the stream's thread, after what was dispatched before.
template <class F>
void dispatch(const mx::Stream& stream, F task) {
  mx::cpu::get_command_encoder(stream).dispatch(std::move(task));
}

inline void allocate(array& out) { out.set_data(mx::allocator::malloc(out.nbytes())); }

// The output takes over the memory (and layout) of an input of its size that nobody else holds, else gets new memory.
// Both must have their items in the same order.
inline void reuse_or_allocate(const array& in, array& out) {
  if (in.is_donatable() && in.itemsize() == out.itemsize())
    out.copy_shared_buffer(in);
  else
    allocate(out);
}

// An output of shape (batch, heads, rows, dims) that lies in memory as (batch, rows, heads, dims): what the models'
// transposes and reshapes before and after attention then need no copies for.
inline void allocate_heads_last(array& out) {
  const std::int64_t heads = out.shape(1), rows = out.shape(2), dims = out.shape(3);
  array::Flags flags;
  flags.contiguous = true;
  flags.row_contiguous = heads == 1 || rows == 1 || out.size() == 0;
  flags.col_contiguous = out.size() <= 1;
  out.set_data(mx::allocator::malloc(out.nbytes()), out.size(), {rows * heads * dims, dims, heads * dims, 1}, flags);
}

// Weights are there already: a node of the graph for each of them made decoding a token 27 ms instead of 20 (SmolLM2-135M
// from packed weights, two threads).
inline array row_contiguous(const array& a, const mx::Stream& stream) {
  return a.is_available() && a.flags().row_contiguous ? a : mx::contiguous(a, false, stream);
}

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

inline bool is_float32(const array& a) { return a.dtype() == mx::float32; }

}  // namespace kernels
