// Logits are made in tiles of kRows × kWords and used up in cache (as Cut Cross-Entropy does on GPUs, Wijmans et al.,
// arXiv:2411.09009). Unlike there the gradient comes in the same pass: with weight as keys and values it is attention,
//   d_hidden = softmax(hidden · weightᵀ) · weight − weight[target],
// so that an online softmax gives loss and gradient from two matrix products, where making the logits again for the
// gradient takes three.
#include "core/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/gemm.h"
#include "core/packed_linear.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "simd/simd.h"

namespace kernels {

namespace {

// 1 MB of logits. Measured on one core, 700 rows × 576 × 49,152: 182 GFLOP/s; 155 with 128 rows, 139 with 64; 166 with
// 512 words.
constexpr Index kRows = 256, kWords = 1024, kFewRows = 32;

// The weights of m words: where they are, or unpacked to `room`.
const float* weights(const LinearCrossEntropy& x, Index word, Index m, float* room) {
  if (x.weight != nullptr) return x.weight + word * x.dims;
  unpack_rows(x.packed, word, m, room);
  return room;
}

// The logits of n rows and m words.
void logits(const LinearCrossEntropy& x, Index row, Index n, const float* weight, Index m, float* out) {
  gemm(kPlain, kTransposed, n, m, x.dims, 1, x.hidden + row * x.dims, x.dims, weight, x.dims, 0, out, m);
  if (x.soft_cap > 0) simd().soft_cap(out, x.soft_cap, n * m);
}

float exp_sum(const LinearCrossEntropy& x, float* logits, float shift, Index n) {
  return x.soft_cap > 0 ? simd().exp_sum_capped(logits, shift, x.soft_cap, n) : simd().exp_sum(logits, shift, n);
}

// The derivative of soft-capping where its result is `logit`.
float slope(const LinearCrossEntropy& x, float logit) {
  const float t = x.soft_cap > 0 ? logit / x.soft_cap : 0;
  return 1 - t * t;
}

void forward(const LinearCrossEntropy& x, Index row, Index n, float* loss, float* lse, bool* correct, float* d_hidden) {
  const Simd& loops = simd();
  const Index width = std::min(x.vocabulary, kWords);
  const Index room_size = x.weight == nullptr ? width * x.dims : 0;
  Scratch scratch(n * width + 3 * n + room_size, 5);
  float* const tile = scratch.take(n * width);
  float* const largest = scratch.take(n);
  float* const sums = scratch.take(n);
  float* const hits = scratch.take(n);  // the targets' logits
  float* const room = scratch.take(room_size);
  std::fill_n(largest, n, -std::numeric_limits<float>::infinity());
  std::fill_n(sums, n, 0.0f);
  std::fill_n(hits, n, std::numeric_limits<float>::quiet_NaN());

  for (Index word = 0; word < x.vocabulary; word += width) {
    const Index m = std::min(width, x.vocabulary - word);
    const float* const weight = weights(x, word, m, room);
    logits(x, row, n, weight, m, tile);
    for (Index r = 0; r < n; r++) {
      float* const z = tile + r * m;
      const Index target = x.targets[row + r] - word;
      if (target >= 0 && target < m) hits[r] = z[target];
      const float top = std::max(largest[r], loops.max(z, m));
      if (word > 0 && top > largest[r]) {
        const float correction = std::exp(largest[r] - top);
        sums[r] *= correction;
        if (d_hidden != nullptr) loops.scale(d_hidden + (row + r) * x.dims, correction, x.dims);
      }
      largest[r] = top;
      sums[r] += exp_sum(x, z, top, m);
    }
    if (d_hidden != nullptr)
      gemm(kPlain, kPlain, n, x.dims, m, 1, tile, m, weight, x.dims, word > 0 ? 1 : 0, d_hidden + row * x.dims, x.dims);
  }
  for (Index r = 0; r < n; r++) {
    const Index target = x.targets[row + r];
    const bool labelled = target >= 0 && target < x.vocabulary;
    lse[row + r] = largest[r] + std::log(sums[r]);
    loss[row + r] = labelled ? std::log(sums[r]) + (largest[r] - hits[r]) : 0;
    correct[row + r] = labelled && hits[r] >= largest[r];
    if (d_hidden == nullptr) continue;
    float* const d = d_hidden + (row + r) * x.dims;
    loops.scale(d, labelled ? 1 / sums[r] : 0, x.dims);
    if (labelled) loops.add_scaled(d, weights(x, target, 1, room), -slope(x, hits[r]), x.dims);
  }
}

}  // namespace

void linear_cross_entropy(const LinearCrossEntropy& x, float* loss, float* lse, bool* correct, float* d_hidden) {
  // Equal pieces, as many for each thread, unless they became so small that the matrix products suffer.
  const Index threads = std::max(1, x.threads), rounds = (x.rows + threads * kRows - 1) / (threads * kRows);
  const Index pieces = std::max<Index>(1, rounds * threads);
  const Index grain = std::max(kFewRows, (x.rows + pieces - 1) / pieces);
  parallel_ranges(x.threads, x.rows, grain,
                  [&](Index begin, Index end) { forward(x, begin, end - begin, loss, lse, correct, d_hidden); });
}

void linear_cross_entropy_d_weight(const LinearCrossEntropy& x, const float* lse, const float* d_loss,
                                   float* d_weight) {
  if (x.rows == 0) std::fill_n(d_weight, x.vocabulary * x.dims, 0.0f);
  parallel_ranges(x.threads, x.vocabulary, kWords, [&](Index word, Index end) {
    const Index m = end - word;
    Scratch scratch(std::min(x.rows, kRows) * m, 1);
    float* const tile = scratch.take(std::min(x.rows, kRows) * m);
    for (Index row = 0; row < x.rows; row += kRows) {
      const Index n = std::min(kRows, x.rows - row);
      logits(x, row, n, x.weight + word * x.dims, m, tile);
      for (Index r = 0; r < n; r++) {
        float* const z = tile + r * m;
        const Index target = x.targets[row + r];
        const bool labelled = target >= 0 && target < x.vocabulary, here = target >= word && target < end;
        const float hit = here ? slope(x, z[target - word]) : 0;
        exp_sum(x, z, lse[row + r], m);
        if (here) z[target - word] -= hit;
        simd().scale(z, labelled ? d_loss[row + r] : 0, m);
      }
      gemm(kTransposed, kPlain, m, x.dims, n, 1, tile, m, x.hidden + row * x.dims, x.dims, row > 0 ? 1 : 0,
           d_weight + word * x.dims, x.dims);
    }
  });
}

}  // namespace kernels
