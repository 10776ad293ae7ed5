// The inner loops, over plain contiguous floats. simd_loops.cpp is compiled once for each instruction set, and the best
// that the processor has is chosen at run time: a binary that was built on one machine runs on another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kernels {

using Index = std::int64_t;

// A gated activation: out = f(gate) · up. With up == nullptr it is f alone, and d_up is not written.
// Outputs may be the inputs' own memory (same start).
struct Activation {
  void (*forward)(const float* gate, const float* up, float* out, Index n);
  void (*backward)(const float* gate, const float* up, const float* d_out, float* d_gate, float* d_up, Index n);
};

// (rows, dims) weights as MLX packs them (affine): see simd_packed.h. Rows follow each other.
struct PackedRows {
  const std::uint32_t* words;
  const float *scales, *biases;  // (rows, dims / group)
  Index dims;                    // a multiple of group
  Index group;                   // 32, 64 or 128
  int bits;                      // 4 or 8
};

struct Simd {
  const char* name;

  Activation silu;  // f(x) = x · sigmoid(x)
  Activation gelu;  // f(x) = x · Φ(x) by the tanh approximation

  float (*max)(const float* x, Index n);  // of n ≥ 1 numbers
  float (*dot)(const float* a, const float* b, Index n);
  void (*copy_scaled)(const float* x, Index stride, float factor, float* out, Index n);
  void (*scale)(float* x, float factor, Index n);
  void (*add_scaled)(float* x, const float* y, float factor, Index n);  // x += factor · y

  // x ← exp(x − shift); returns the sum.
  float (*exp_sum)(float* x, float shift, Index n);
  // x ← cap · tanh(x / cap)
  void (*soft_cap)(float* x, float cap, Index n);
  // For x = cap · tanh(·): x ← exp(x − shift) · (1 − (x / cap)²); returns the sum of the exponentials alone.
  float (*exp_sum_capped)(float* x, float shift, float cap, Index n);
  // Gradient of a row of attention: score ← p = exp(score − lse), d_p ← p · (d_p − delta).
  void (*attention_row_backward)(float* score, float* d_p, float lse, float delta, Index n);

  // out[r][o] = x[r] · w[o] for `rows` rows of x and `outs` of w, all of `dims` floats; rows of x and w are contiguous,
  // those of out lie `out_row` apart. The bits of a product don't depend on rows and outs.
  void (*row_products)(const float* x, Index rows, const float* w, Index outs, Index dims, float* out, Index out_row);

  // out[r] += Σ_i factors[r][i] · x[i] for `rows` rows of out and n of x, all of `dims` floats; those of out are
  // contiguous, of factors `n` apart, of x `x_row`. A row's bits don't depend on the other rows.
  void (*add_weighted)(const float* factors, Index rows, const float* x, Index x_row, Index n, Index dims, float* out);

  // out += (x · a) · b for one x (dims), a (dims, rank), b (rank, outs), all contiguous.
  void (*add_low_rank)(const float* x, const float* a, Index dims, Index rank, const float* b, Index outs, float* out);

  // Entries [from, from + n) of a row, both multiples of the group.
  void (*unpack)(const PackedRows& w, Index row, Index from, Index n, float* out);
  // x (rows, dims) as packed_products wants it, arranged_floats(dims, bits) to a row.
  Index (*arranged_floats)(Index dims, int bits);
  void (*arrange)(const float* x, Index rows, Index dims, int bits, float* arranged);
  // out[r][o − from] = x[r] · w[o] for o in [from, to), with rows of out that lie `out_row` apart. The bits of a product
  // don't depend on rows, from and to.
  void (*packed_products)(const float* arranged, Index rows, const PackedRows& w, Index from, Index to, float* out,
                          Index out_row);

  // RMSNorm of `rows` contiguous rows. weight may be null (ones), d_weight too (not wanted); d_weight is added to.
  void (*rms_norm)(const float* x, const float* weight, float* out, Index rows, Index dims, float eps);
  void (*rms_norm_backward)(const float* x, const float* weight, const float* d_out, float* d_x, float* d_weight,
                            Index rows, Index dims, float eps);

  // Turns the first 2·half entries of each head of one token by the angles whose cosines and sines are given; `sign` −1
  // turns back. Adjacent pairs (x0, x1), (x2, x3) … when `traditional`, else (x0, x_half), (x1, x_half+1) …
  // x and out may be the same memory, but must not overlap otherwise.
  void (*rope)(const float* x, Index x_head, float* out, Index out_head, Index heads, const float* cosines,
               const float* sines, float sign, Index half, Index dims, bool traditional);
};

// The loops in use: the best that the processor has, unless use_simd has named others.
const Simd& simd();

// The names of what this processor can run, best first: "avx512", "avx2", "baseline".
std::vector<std::string> simd_names();

// For tests and benchmarks: all calls from now on use these. False: the processor can't run them.
bool use_simd(const std::string& name);

}  // namespace kernels
