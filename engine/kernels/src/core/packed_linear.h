// A linear layer whose weights are packed: unpacked a tile at a time, which a matrix product then uses up in cache. No
// array of all weights ever exists.
#pragma once

#include "simd/simd.h"

namespace kernels {

struct PackedLinear {
  Index rows, outs;   // x (rows, dims), weight (outs, dims)
  PackedRows weight;  // dims is its
  int threads;
};

// out (rows, outs) = x weightᵀ
void packed_product(const PackedLinear& p, const float* x, float* out);

// d_x (rows, dims) = d_out weight: its gradient with respect to x.
void packed_product_d_x(const PackedLinear& p, const float* d_out, float* d_x);

// The same as packed_product for a few rows: the weights are read once and stay in registers. The bits of a row don't
// depend on the other rows.
void packed_product_rows(const PackedLinear& p, const float* x, float* out);

// Rows [begin, begin + n) of the weight, all of their entries, to out (n, dims).
void unpack_rows(const PackedRows& weight, Index begin, Index n, float* out);

}  // namespace kernels
