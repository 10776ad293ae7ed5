#include "core/packed_linear.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/gemm.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace kernels {

namespace {

// Tiles are at most kOuts × kDims numbers, 1 MB.
constexpr Index kOuts = 256, kDims = 1024;

// Equal parts of at most `most` that are an even number, so that two threads have as much to do. Sizes, and with them the
// bits, don't depend on the number of threads.
Index part(Index n, Index most, Index multiple) {
  const Index parts = 2 * std::max<Index>(1, (n + 2 * most - 1) / (2 * most));
  return std::max<Index>(1, ((n + parts - 1) / parts + multiple - 1) / multiple) * multiple;
}

void unpack_tile(const PackedRows& w, Index out, Index outs, Index dim, Index dims, float* tile) {
  for (Index o = 0; o < outs; o++) simd().unpack(w, out + o, dim, dims, tile + o * dims);
}

}  // namespace

void packed_product(const PackedLinear& p, const float* x, float* out) {
  const Index dims = p.weight.dims, width = std::min(dims, kDims / p.weight.group * p.weight.group);
  parallel_ranges(p.threads, p.outs, part(p.outs, kOuts, 1), [&](Index o, Index end) {
    Scratch scratch((end - o) * width, 1);
    float* const tile = scratch.take((end - o) * width);
    for (Index d = 0; d < dims; d += width) {
      const Index n = std::min(width, dims - d);
      unpack_tile(p.weight, o, end - o, d, n, tile);
      gemm(kPlain, kTransposed, p.rows, end - o, n, 1, x + d, dims, tile, n, d > 0 ? 1 : 0, out + o, p.outs);
    }
  });
}

void packed_product_d_x(const PackedLinear& p, const float* d_out, float* d_x) {
  const Index dims = p.weight.dims;
  if (p.outs == 0) std::fill_n(d_x, p.rows * dims, 0.0f);
  // Over columns of d_x: no two threads add to the same.
  parallel_ranges(p.threads, dims, part(dims, kDims, p.weight.group), [&](Index d, Index end) {
    const Index n = end - d, height = std::min(p.outs, kOuts);
    Scratch scratch(height * n, 1);
    float* const tile = scratch.take(height * n);
    for (Index o = 0; o < p.outs; o += height) {
      const Index m = std::min(height, p.outs - o);
      unpack_tile(p.weight, o, m, d, n, tile);
      gemm(kPlain, kPlain, p.rows, n, m, 1, d_out + o, p.outs, tile, n, o > 0 ? 1 : 0, d_x + d, dims);
    }
  });
}

void packed_product_rows(const PackedLinear& p, const float* x, float* out) {
  constexpr Index kPieces = 4;  // for each thread, so that one that is held up by another process has less left to do
  const PackedRows& w = p.weight;
  // Not Scratch: all threads read it.
  std::vector<float> arranged(p.rows * simd().arranged_floats(w.dims, w.bits));
  simd().arrange(x, p.rows, w.dims, w.bits, arranged.data());
  const Index pieces = p.threads * kPieces, grain = ((p.outs + pieces - 1) / pieces + 3) / 4 * 4;
  parallel_ranges(p.threads, p.outs, grain, [&](Index o, Index end) {
    simd().packed_products(arranged.data(), p.rows, w, o, end, out + o, p.outs);
  });
}

void unpack_rows(const PackedRows& weight, Index begin, Index n, float* out) {
  unpack_tile(weight, begin, n, 0, weight.dims, out);
}

}  // namespace kernels
