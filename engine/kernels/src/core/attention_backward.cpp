// Attention's backward pass (FlashAttention-2, Dao, arXiv:2307.08691, algorithm 2). With p = exp(s − lse) made again
// tile by tile, and delta = Σ d_out · out per row:
//   d_v = pᵀ d_out;  d_p = d_out vᵀ;  d_s = p · (d_p − delta);  d_q = scale · d_s k;  d_k = scale · d_sᵀ q
#include <cstring>
#include <vector>

#include "core/attention_tiles.h"
#include "core/gemm.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace kernels {

namespace {

// One key/value head of one batch.
struct KeysValues {
  const float *k, *v;
  Index k_row, v_row;
  float *d_k, *d_v;
  Index d_k_row, d_v_row;
};

// Writes the tile's rows of d_q and adds its share to d_k and d_v.
void backward(const Attention& a, const Tile& tile, const Heads<const float>& q, const KeysValues& kv,
              const Heads<const float>& out, const float* lse, const Heads<const float>& d_out,
              const Heads<float>& d_q) {
  const Simd& loops = simd();
  const Index rows = tile.rows(), dims = a.dims;
  const Attention::Range keys = visible(a, tile);
  const Index width = std::min(keys.end - keys.begin, kTileKeys);
  Scratch scratch(4 * rows * dims + 2 * rows * width + rows, 7);
  float* const packed_q = scratch.take(rows * dims);  // times scale
  float* const packed_d_out = scratch.take(rows * dims);
  float* const packed_out = scratch.take(rows * dims);
  float* const packed_d_q = scratch.take(rows * dims);
  float* const p = scratch.take(rows * width);
  float* const d_s = scratch.take(rows * width);
  float* const delta = scratch.take(rows);

  gather(tile, q, dims, a.scale, packed_q);
  gather(tile, d_out, dims, 1, packed_d_out);
  gather(tile, out, dims, 1, packed_out);
  for (Index r = 0; r < rows; r++) delta[r] = loops.dot(packed_out + r * dims, packed_d_out + r * dims, dims);

  for (Index key = keys.begin; key < keys.end; key += width) {
    const Index n = std::min(width, keys.end - key);
    gemm(kPlain, kTransposed, rows, n, dims, 1, packed_q, dims, kv.k + key * kv.k_row, kv.k_row, 0, p, n);
    gemm(kPlain, kTransposed, rows, n, dims, 1, packed_d_out, dims, kv.v + key * kv.v_row, kv.v_row, 0, d_s, n);
    for (Index r = 0; r < rows; r++) {
      const Index head = tile.head + r / tile.queries(), i = tile.begin + r % tile.queries();
      const Attention::Range seen = within(a.visible(tile.batch, i), key, n);
      for (float* row : {p + r * n, d_s + r * n}) {
        std::memset(row, 0, seen.begin * sizeof(float));
        std::memset(row + seen.end, 0, (n - seen.end) * sizeof(float));
      }
      add_mask(a, tile, r, key + seen.begin, seen.end - seen.begin, p + r * n + seen.begin);
      loops.attention_row_backward(p + r * n + seen.begin, d_s + r * n + seen.begin,
                                   lse[(tile.batch * a.heads + head) * a.queries + i], delta[r], seen.end - seen.begin);
    }
    gemm(kPlain, kPlain, rows, dims, n, a.scale, d_s, n, kv.k + key * kv.k_row, kv.k_row, key == keys.begin ? 0 : 1,
         packed_d_q, dims);
    gemm(kTransposed, kPlain, n, dims, rows, 1, d_s, n, packed_q, dims, 1, kv.d_k + key * kv.d_k_row, kv.d_k_row);
    gemm(kTransposed, kPlain, n, dims, rows, 1, p, n, packed_d_out, dims, 1, kv.d_v + key * kv.d_v_row, kv.d_v_row);
  }
  for (Index r = 0; r < rows; r++)
    std::memcpy(d_q.at(tile.batch, tile.head + r / tile.queries(), tile.begin + r % tile.queries()),
                packed_d_q + r * dims, dims * sizeof(float));
}

}  // namespace

void attention_backward(const Attention& a, Heads<const float> q, Heads<const float> k, Heads<const float> v,
                        Heads<const float> out, const float* lse, Heads<const float> d_out, Heads<float> d_q,
                        Heads<float> d_k, Heads<float> d_v) {
  // A unit of work is a span and a key/value head: no two write the same rows of d_k and d_v. The longest go first, so
  // that threads end together.
  std::vector<Span> spans = attention_spans(a);
  std::stable_sort(spans.begin(), spans.end(),
                   [](const Span& x, const Span& y) { return x.end - x.begin > y.end - y.begin; });
  const bool own_keys = a.queries == a.keys;
  parallel_for(a.threads, static_cast<Index>(spans.size()) * a.kv_heads, [&](Index unit) {
    const Span& span = spans[unit / a.kv_heads];
    const Index b = span.batch, kv_head = unit % a.kv_heads;
    const KeysValues kv{k.at(b, kv_head, 0),   v.at(b, kv_head, 0),   k.row,   v.row,
                        d_k.at(b, kv_head, 0), d_v.at(b, kv_head, 0), d_k.row, d_v.row};
    for (Index key = own_keys ? span.begin : 0; key < (own_keys ? span.end : a.keys); key++) {
      std::memset(kv.d_k + key * kv.d_k_row, 0, a.dims * sizeof(float));
      std::memset(kv.d_v + key * kv.d_v_row, 0, a.dims * sizeof(float));
    }
    for (Index i = span.begin; i < span.end; i += kBlock)
      for_each_group(a, b, kv_head, i, std::min(span.end, i + kBlock),
                     [&](const Tile& tile) { backward(a, tile, q, kv, out, lse, d_out, d_q); });
  });
}

}  // namespace kernels
