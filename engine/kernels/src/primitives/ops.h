// The operations, as the module exports them. All compute in float32 on the CPU with at most `threads` threads and have
// gradients, unless said otherwise; std::invalid_argument for shapes and types that they can't take.
#pragma once

#include <optional>
#include <utility>

#include "mlx/array.h"

namespace kernels {

using mlx::core::array;

// silu(gate) · up, or silu(gate) without `up`; any shape, both alike.
array silu(const array& gate, const std::optional<array>& up, int threads);
// The same with gelu, by its tanh approximation.
array gelu(const array& gate, const std::optional<array>& up, int threads);

// weight · x / √(mean(x², last axis) + eps); x (…, dims), weight (dims) or none.
array rms_norm(const array& x, const std::optional<array>& weight, float eps, int threads);

// Turns x (batch, heads, rows, dims) or (batch, rows, dims): row i by the angles whose cosines and sines stand in row
// offset + i of the tables (≥ offset + rows, half); dims ≥ 2 · half, what is beyond stays.
array rope(const array& x, const array& cosines, const array& sines, int offset, bool traditional, int threads);

// q (batch, heads, queries, dims), k and v (batch, kv_heads, keys, dims) → like q. starts: int32 (queries) or
// (batch, queries). mask: added to the scores, float32, broadcast to (batch, heads, queries, keys). See core/attention.h.
array attention(const array& q, const array& k, const array& v, float scale, bool causal, int window,
                const std::optional<array>& starts, const std::optional<array>& mask, int threads);

// hidden (rows, dims), weight (vocabulary, dims), targets (rows) int32 → loss (rows) and correct (rows) bool. With
// `gradient`, hidden's is computed in the same pass. See core/cross_entropy.h.
std::pair<array, array> linear_cross_entropy(const array& hidden, const array& weight, const array& targets,
                                             float soft_cap, bool gradient, int threads);

// The same with the weight packed, which has no gradient.
std::pair<array, array> packed_cross_entropy(const array& hidden, const array& words, const array& scales,
                                             const array& biases, const array& targets, int group_size, int bits,
                                             float soft_cap, bool gradient, int threads);

// x (…, dims) times the transpose of weights (outs, dims) that MLX's affine quantisation has packed: words uint32 (outs,
// dims · bits / 32), scales and biases (outs, dims / group_size); bits 4 or 8, groups of 32, 64 or 128. The gradient is
// for x alone.
array packed_linear(const array& x, const array& words, const array& scales, const array& biases, int group_size,
                    int bits, int threads);

// Of few rows, without gradients. What a row gives doesn't depend on the other rows, to the bit.
//
// x (…, dims), weight (outs, dims) → x weightᵀ (…, outs).
array linear_rows(const array& x, const array& weight, int threads);
// The same with packed weights.
array packed_linear_rows(const array& x, const array& words, const array& scales, const array& biases, int group_size,
                         int bits, int threads);
// y (rows, …, outs) + x (rows, …, dims) A[slot] B[slot] with a slot for each row, 0 for none; a (slots, dims, rank),
// b (slots, rank, outs), slot uint32 (rows), one token a row.
array low_rank_rows(const array& y, const array& x, const array& a, const array& b, const array& slots, int threads);

}  // namespace kernels
