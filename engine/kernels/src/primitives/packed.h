// Weights that MLX's affine quantisation has packed, as the kernels take them.
#pragma once

#include "primitives/kernel.h"
#include "simd/simd.h"

namespace kernels {

// words (outs, dims · bits / 32) uint32, scales and biases (outs, dims / group) float32, all row by row in memory.
inline PackedRows packed_rows(array& words, array& scales, array& biases, int group, int bits) {
  return {words.data<std::uint32_t>(),  scales.data<float>(), biases.data<float>(),
          words.shape(1) * (32 / bits), group,                bits};
}

inline void require_packed(const array& words, const array& scales, const array& biases, int group, int bits) {
  require((bits == 4 || bits == 8) && (group == 32 || group == 64 || group == 128),
          "packed weights of 4 or 8 bits in groups of 32, 64 or 128 are known");
  require(words.dtype() == mx::uint32 && words.ndim() == 2, "packed weights must be uint32 (outs, words)");
  require(is_float32(scales) && is_float32(biases), "scales and biases must be float32");
  require(words.shape(1) % (group * bits / 32) == 0 &&
              scales.shape() == mx::Shape{words.shape(0), words.shape(1) / (group * bits / 32)} &&
              biases.shape() == scales.shape(),
          "packed weights need scales and biases (outs, groups)");
}

}  // namespace kernels
