// Attention's forward pass with an online softmax (FlashAttention-2, Dao, arXiv:2307.08691): scores exist one tile at a
// time. Per row, over the tiles: m the largest score so far, l = Σ exp(s − m), o = Σ exp(s − m) · v; when a tile raises
// m, l and o are multiplied by exp(m_old − m). At the end out = o / l, lse = m + log l.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/attention_tiles.h"
#include "core/gemm.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace kernels {

namespace {

// Of a tile with so few rows (a token that is decoded: as many as heads share its keys) the products are no work for a
// BLAS.
constexpr Index kFewRows = 8;

void forward(const Attention& a, const Tile& tile, const Heads<const float>& q, const float* k, Index k_row,
             const float* v, Index v_row, const Heads<float>& out, float* lse) {
  const Simd& loops = simd();
  const Index rows = tile.rows(), dims = a.dims;
  const Attention::Range keys = visible(a, tile);
  const Index width = std::min(keys.end - keys.begin, kTileKeys);
  Scratch scratch(2 * rows * dims + rows * width + 2 * rows, 5);
  float* const packed = scratch.take(rows * dims);
  float* const o = scratch.take(rows * dims);
  float* const scores = scratch.take(rows * width);
  float* const largest = scratch.take(rows);
  float* const sums = scratch.take(rows);
  std::fill_n(largest, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(sums, rows, 0.0f);
  const bool few = rows <= kFewRows;
  if (few) std::fill_n(o, rows * dims, 0.0f);

  gather(tile, q, dims, a.scale, packed);
  for (Index key = keys.begin; key < keys.end; key += width) {
    const Index n = std::min(width, keys.end - key);
    const bool first = key == keys.begin;
    if (few && k_row == dims)
      loops.row_products(packed, rows, k + key * k_row, n, dims, scores, n);
    else
      gemm(kPlain, kTransposed, rows, n, dims, 1, packed, dims, k + key * k_row, k_row, 0, scores, n);
    for (Index r = 0; r < rows; r++) {
      float* const s = scores + r * n;
      const Attention::Range seen = within(a.visible(tile.batch, tile.begin + r % tile.queries()), key, n);
      std::memset(s, 0, seen.begin * sizeof(float));
      std::memset(s + seen.end, 0, (n - seen.end) * sizeof(float));
      if (seen.begin == seen.end) continue;
      add_mask(a, tile, r, key + seen.begin, seen.end - seen.begin, s + seen.begin);
      const float m = std::max(largest[r], loops.max(s + seen.begin, seen.end - seen.begin));
      if (m == -std::numeric_limits<float>::infinity()) {  // of what no key was seen yet
        std::memset(s, 0, n * sizeof(float));
        continue;
      }
      if (!first && m > largest[r]) {
        const float correction = std::exp(largest[r] - m);
        sums[r] *= correction;
        loops.scale(o + r * dims, correction, dims);
      }
      largest[r] = m;
      sums[r] += loops.exp_sum(s + seen.begin, m, seen.end - seen.begin);
    }
    if (few)
      loops.add_weighted(scores, rows, v + key * v_row, v_row, n, dims, o);
    else
      gemm(kPlain, kPlain, rows, dims, n, 1, scores, n, v + key * v_row, v_row, first ? 0 : 1, o, dims);
  }
  for (Index r = 0; r < rows; r++) {
    const Index head = tile.head + r / tile.queries(), i = tile.begin + r % tile.queries();
    loops.copy_scaled(o + r * dims, 1, 1 / sums[r], out.at(tile.batch, head, i), dims);
    lse[(tile.batch * a.heads + head) * a.queries + i] = largest[r] + std::log(sums[r]);
  }
}

}  // namespace

Attention::Range Attention::visible(Index b, Index i) const {
  if (!causal) return {0, keys};
  const Index end = i + keys - queries + 1;
  Index begin = window > 0 ? end - window : 0;
  if (starts != nullptr) begin = std::max<Index>(begin, starts[b * starts_batch + i]);
  return {std::clamp<Index>(begin, 0, end - 1), end};
}

std::vector<Span> attention_spans(const Attention& a) {
  std::vector<Span> spans;
  for (Index b = 0; b < a.batch; b++) {
    Index end = a.queries;
    if (a.causal && a.queries == a.keys) {
      // A span begins where no later query looks further back.
      Index reach = a.keys;
      for (Index i = a.queries - 1; i > 0; i--) {
        reach = std::min(reach, a.visible(b, i).begin);
        if (reach < i) continue;
        spans.push_back({b, i, end});
        end = i;
      }
    }
    spans.push_back({b, 0, end});
  }
  return spans;
}

void attention_forward(const Attention& a, Heads<const float> q, Heads<const float> k, Heads<const float> v,
                       Heads<float> out, float* lse) {
  std::vector<Span> blocks;
  for (const Span& span : attention_spans(a))
    for (Index i = span.begin; i < span.end; i += kBlock)
      blocks.push_back({span.batch, i, std::min(span.end, i + kBlock)});
  parallel_for(a.threads, static_cast<Index>(blocks.size()) * a.kv_heads, [&](Index unit) {
    const Span& block = blocks[unit / a.kv_heads];
    const Index kv_head = unit % a.kv_heads;
    for_each_group(a, block.batch, kv_head, block.begin, block.end, [&](const Tile& tile) {
      forward(a, tile, q, k.at(block.batch, kv_head, 0), k.row, v.at(block.batch, kv_head, 0), v.row, out, lse);
    });
  });
}

}  // namespace kernels
