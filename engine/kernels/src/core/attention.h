// Grouped-query attention: out = softmax(scale · q kᵀ) v over the keys that each query may see.
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

using Index = std::int64_t;

// (batch, heads, rows, dims) floats anywhere in memory; strides in floats.
template <class T>
struct Heads {
  T* data;
  Index batch, head, row, item;

  T* at(Index b, Index h, Index r) const { return data + b * batch + h * head + r * row; }
};

struct Attention {
  Index batch, heads, kv_heads, queries, keys, dims;  // query head h reads key/value head h / (heads / kv_heads)
  float scale;
  // Query i stands at position i + keys − queries. Causal: it sees no key after its position. The other two need
  // `causal`: with `window` > 0 it sees at most that many keys, its own included; with `starts`, none before
  // starts[b · starts_batch + i]: the first position of its segment, where several sequences share a row (packing).
  bool causal;
  Index window;
  const std::int32_t* starts;
  Index starts_batch;
  int threads;
  // Not with `causal`: added to the scores, (batch, heads, queries, keys). A row of nothing but -∞ comes to NaN.
  Heads<const float> mask{};

  struct Range {
    Index begin, end;
  };
  // The keys that query i of batch b sees: at least one, whatever `starts` holds.
  Range visible(Index b, Index i) const;
};

// Writes out (items adjacent) and lse (batch, heads, queries): the logarithm of each softmax's denominator.
// k and v: items adjacent, rows at least dims apart.
void attention_forward(const Attention& a, Heads<const float> q, Heads<const float> k, Heads<const float> v,
                       Heads<float> out, float* lse);

// Gradients from the forward pass's out and lse, and d_out. All of d_q, d_k, d_v is written; their items are adjacent.
void attention_backward(const Attention& a, Heads<const float> q, Heads<const float> k, Heads<const float> v,
                        Heads<const float> out, const float* lse, Heads<const float> d_out, Heads<float> d_q,
                        Heads<float> d_k, Heads<float> d_v);

// Queries [begin, end) of a batch whose keys no other span's queries see: what packing makes of a row. With as many
// queries as keys the keys are [begin, end) too, else there is one span a batch, with all keys.
struct Span {
  Index batch, begin, end;
};
std::vector<Span> attention_spans(const Attention& a);

}  // namespace kernels
