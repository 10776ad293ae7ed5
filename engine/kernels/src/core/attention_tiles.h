// What the forward and the backward pass of attention share: the size of tiles, and rows on their way in and out.
#pragma once

#include <algorithm>

#include "core/attention.h"
#include "simd/simd.h"

namespace kernels {

// Scores are made in tiles of at most kTileRows × kTileKeys. Their rows are kBlock neighbouring queries of as many
// heads as read the same keys, so that one matrix product serves a whole group. Of blocks of 32, 64 and 128 queries,
// 128 to 512 rows and 256 to 1024 keys none was more than 15% faster on any of six shapes (README.md).
inline constexpr Index kBlock = 64, kTileRows = 256, kTileKeys = 512;

// Queries [begin, end) of `batch` and heads [head, head + heads), which share a key/value head. Tile row r is head
// r / queries, query r % queries.
struct Tile {
  Index batch, head, heads, begin, end;

  Index queries() const { return end - begin; }
  Index rows() const { return heads * queries(); }
};

// Rows of the tile, multiplied by `factor`, one after the other.
inline void gather(const Tile& tile, const Heads<const float>& x, Index dims, float factor, float* packed) {
  for (Index h = 0; h < tile.heads; h++)
    for (Index i = tile.begin; i < tile.end; i++, packed += dims)
      simd().copy_scaled(x.at(tile.batch, tile.head + h, i), x.item, factor, packed, dims);
}

// Adds to n scores of tile row r, whose first is for `key`, what the mask has for them.
inline void add_mask(const Attention& a, const Tile& tile, Index r, Index key, Index n, float* scores) {
  if (a.mask.data == nullptr) return;
  const Index item = a.mask.item;
  const float* const mask =
      a.mask.at(tile.batch, tile.head + r / tile.queries(), tile.begin + r % tile.queries()) + key * item;
  if (item == 1) return simd().add_scaled(scores, mask, 1, n);
  for (Index i = 0; i < n; i++) scores[i] += mask[i * item];
}

// f(tile) for each group of heads of one key/value head.
template <class F>
void for_each_group(const Attention& a, Index batch, Index kv_head, Index begin, Index end, F f) {
  const Index group = a.heads / a.kv_heads;
  const Index at_once = std::max<Index>(1, kTileRows / (end - begin));
  for (Index h = 0; h < group; h += at_once)
    f(Tile{batch, kv_head * group + h, std::min(at_once, group - h), begin, end});
}

// The keys that any query of the tile sees.
inline Attention::Range visible(const Attention& a, const Tile& tile) {
  Attention::Range all = a.visible(tile.batch, tile.begin);
  for (Index i = tile.begin + 1; i < tile.end; i++) {
    const Attention::Range one = a.visible(tile.batch, i);
    all = {std::min(all.begin, one.begin), std::max(all.end, one.end)};
  }
  return all;
}

// What of `range` lies in the n keys from `key` on, counted from there; empty is {0, 0}.
inline Attention::Range within(const Attention::Range& range, Index key, Index n) {
  const Index begin = std::max<Index>(range.begin - key, 0), end = std::min(range.end - key, n);
  return begin < end ? Attention::Range{begin, end} : Attention::Range{0, 0};
}

}  // namespace kernels
