// Cross-entropy of a linear layer's outputs, without the (rows, vocabulary) array of logits.
#pragma once

#include <cstdint>

#include "simd/simd.h"

namespace kernels {

struct LinearCrossEntropy {
  Index rows, vocabulary, dims;
  const float* hidden;          // (rows, dims)
  const float* weight;          // (vocabulary, dims); null: `packed` is taken instead, a tile at a time
  const std::int32_t* targets;  // (rows); one outside of [0, vocabulary) has loss and gradient 0
  float soft_cap;               // > 0: logits are soft_cap · tanh(hidden · weight / soft_cap)
  int threads;
  PackedRows packed{};
};

// loss (rows): −log softmax(logits)[target]; lse (rows): log Σ exp(logits); correct (rows): no logit is larger than the
// target's. d_hidden (rows, dims), unless null: each row's gradient of its own loss.
void linear_cross_entropy(const LinearCrossEntropy& x, float* loss, float* lse, bool* correct, float* d_hidden);

// For weights that aren't packed: d_weight (vocabulary, dims) of Σ d_loss · loss, from the lse of the above.
void linear_cross_entropy_d_weight(const LinearCrossEntropy& x, const float* lse, const float* d_loss, float* d_weight);

}  // namespace kernels
