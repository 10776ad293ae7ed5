// Weights as MLX's affine quantisation packs them: words of 32 bits, each of 8 values of 4 bits or 4 of 8, the first one
// lowest; a group of 32, 64 or 128 neighbours of a row has a scale s and a bias b: weight = s · q + b.
//
// For each instruction set, like simd_math.h; simd_loops.cpp includes it after Vector and kWidth.
#pragma once

namespace {

using kernels::PackedRows;

typedef std::int32_t Words __attribute__((vector_size(kWidth * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef std::int32_t EightWords __attribute__((vector_size(32), aligned(4), may_alias));
typedef float EightFloats __attribute__((vector_size(32), aligned(4), may_alias));

// a · b + c, rounded once where the processor can. Written out where the bits of a product mustn't depend on its tile: of
// two products that are added, a compiler may round either, and takes now this one and now the other.
inline Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vector>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vector>(
      _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return reinterpret_cast<Vector>(vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a),
                                            reinterpret_cast<float32x4_t>(b)));
#else
  return a * b + c;
#endif
}

// The sum of the lanes, in one order.
inline float total(Vector v) {
  for (Index half = kWidth / 2; half > 0; half /= 2)
    for (Index lane = 0; lane < half; lane++) v[lane] += v[lane + half];
  return v[0];
}

// ---- unpacking ----

// Eight neighbours at a time, in their order.
void unpack(const PackedRows& w, Index row, Index from, Index n, float* out) {
  const std::uint32_t* const words = w.words + (row * w.dims + from) * w.bits / 32;
  const Index first = row * (w.dims / w.group) + from / w.group;
  for (Index g = 0; g < n / w.group; g++, out += w.group) {
    const EightFloats scale = EightFloats{} + w.scales[first + g], bias = EightFloats{} + w.biases[first + g];
    if (w.bits == 4) {
      const std::uint32_t* const group = words + g * w.group / 8;
      for (Index i = 0; i < w.group / 8; i++) {
        const EightWords shifts = {0, 4, 8, 12, 16, 20, 24, 28};
        const EightWords q = ((EightWords{} + static_cast<std::int32_t>(group[i])) >> shifts) & 15;
        *reinterpret_cast<EightFloats*>(out + 8 * i) = __builtin_convertvector(q, EightFloats) * scale + bias;
      }
    } else {
      const std::uint32_t* const group = words + g * w.group / 4;
      for (Index i = 0; i < w.group / 8; i++) {
        const EightWords shifts = {0, 8, 16, 24, 0, 8, 16, 24}, second = {0, 0, 0, 0, -1, -1, -1, -1};
        const EightWords both = second != 0 ? EightWords{} + static_cast<std::int32_t>(group[2 * i + 1])
                                            : EightWords{} + static_cast<std::int32_t>(group[2 * i]);
        const EightWords q = (both >> shifts) & 255;
        *reinterpret_cast<EightFloats*>(out + 8 * i) = __builtin_convertvector(q, EightFloats) * scale + bias;
      }
    }
  }
}

// ---- products of few rows ----
//
// A block is kWidth words. Its products take the values as signed, q − h with h = 8 or 128, of which scale and bias are s
// and b + h · s: terms of both signs, so that little cancels between Σ s · (q − h) · x and Σ (b + h · s) · Σ x. The value
// j of every word meets the entries of x that belong there, which `arrange` has put next to each other, and after them
// what they come to for each word. A lane's sums are then multiplied by its group's scale and bias.
//
// Where the words of a row are no whole number of blocks, the last block begins earlier, and the words that were in the
// block before meet zeros. A row of less than a block is copied.

template <int Bits>
constexpr Index kPerWord = 32 / Bits;

// Of a block of x, floats.
template <int Bits>
constexpr Index kBlockFloats = (kPerWord<Bits> + 1) * kWidth;

Index blocks_of(Index words) { return (words + kWidth - 1) / kWidth; }

// The first word of a row's block.
Index block_start(Index block, Index words) {
  return (block + 1) * kWidth <= words || words < kWidth ? block * kWidth : words - kWidth;
}

template <int Bits>
void arrange_bits(const float* x, Index rows, Index dims, float* arranged) {
  constexpr Index n = kPerWord<Bits>;
  const Index words = dims / n;
  for (Index r = 0; r < rows; r++, x += dims)
    for (Index block = 0; block < blocks_of(words); block++, arranged += kBlockFloats<Bits>) {
      const Index start = block_start(block, words), from = block * kWidth - start;  // lanes before `from` are zeros
      const Index to = words < kWidth ? words : kWidth;
      for (Index i = 0; i < kBlockFloats<Bits>; i++) arranged[i] = 0;
      for (Index lane = from; lane < to; lane++) {
        const float* const word = x + (start + lane) * n;
        float sum = 0;
        for (Index j = 0; j < n; j++) {
          arranged[j * kWidth + lane] = word[j];
          sum += word[j];
        }
        arranged[n * kWidth + lane] = sum;
      }
    }
}

Index arranged_floats(Index dims, int bits) {
  return bits == 4 ? blocks_of(dims / 8) * kBlockFloats<4> : blocks_of(dims / 4) * kBlockFloats<8>;
}

void arrange(const float* x, Index rows, Index dims, int bits, float* arranged) {
  (bits == 4 ? arrange_bits<4> : arrange_bits<8>)(x, rows, dims, arranged);
}

// Value j of each of the words, less 8 or 128. `words` have been xored with kHalves.
template <int Bits>
constexpr std::int32_t kHalves = static_cast<std::int32_t>(Bits == 4 ? 0x88888888u : 0x80808080u);

template <int Bits>
inline Vector values(Words words, int j) {
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
  // A table of 16 floats takes the lowest four bits of each word for an index and no notice of the others: one
  // instruction where a shift and a conversion are two.
  if constexpr (Bits == 4) {
    const Vector table = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
    return __builtin_shuffle(table, words >> (4 * j));
  }
#endif
  return __builtin_convertvector((words << (32 - Bits - Bits * j)) >> (32 - Bits), Vector);
}

// The scales, or biases, of a block's lanes, of which Per neighbours share one: one permutation where the processor has it.
template <Index Per>
inline Vector of_lanes(const float* groups) {
  if constexpr (Per >= kWidth) {
    return Vector{} + groups[0];
  } else {
    Words group;
    for (Index lane = 0; lane < kWidth; lane++) group[lane] = static_cast<std::int32_t>(lane / Per);
#if defined(__AVX512F__) || defined(__AVX2__)
    static_assert(kWidth / Per == 4 || kWidth / Per == 2);
    // Loaded at once: a load of what several stores have just written waits for them, 3 times as long in all.
    const __m128 few = kWidth / Per == 4
                           ? _mm_loadu_ps(groups)
                           : _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(groups)));
#endif
#if defined(__AVX512F__)
    return reinterpret_cast<Vector>(
        _mm512_permutexvar_ps(reinterpret_cast<__m512i>(group), _mm512_castps128_ps512(few)));
#elif defined(__AVX2__)
    return reinterpret_cast<Vector>(
        _mm256_permutevar8x32_ps(_mm256_castps128_ps256(few), reinterpret_cast<__m256i>(group)));
#else
    Vector all = Vector{} + groups[0];
    for (std::int32_t k = 1; k < kWidth / Per; k++) all = group >= k ? Vector{} + groups[k] : all;
    return all;
#endif
  }
}

// A block of Outs rows of weights.
template <int Outs>
struct Block {
  Words words[Outs];
  Vector scales[Outs], biases[Outs];
};

// Adds the block's products with Rows blocks of x, which lie x_row apart.
template <int Bits, int Rows, int Outs>
inline void add_block(const Block<Outs>& block, const float* x, Index x_row, Vector (&sums)[Rows][Outs]) {
  constexpr float half = Bits == 4 ? 8 : 128;
  Vector parts[Rows][Outs] = {};
  Words words[Outs];
  for (int o = 0; o < Outs; o++) words[o] = block.words[o] ^ kHalves<Bits>;
  for (int j = 0; j < kPerWord<Bits>; j++) {
    Vector q[Outs];
    for (int o = 0; o < Outs; o++) q[o] = values<Bits>(words[o], j);
    for (int r = 0; r < Rows; r++) {
      const Vector xs = *reinterpret_cast<const Vector*>(x + r * x_row + j * kWidth);
      for (int o = 0; o < Outs; o++) parts[r][o] = multiply_add(xs, q[o], parts[r][o]);
    }
  }
  for (int o = 0; o < Outs; o++) {
    const Vector bias = multiply_add(block.scales[o], Vector{} + half, block.biases[o]);
    for (int r = 0; r < Rows; r++) {
      const Vector x_sums = *reinterpret_cast<const Vector*>(x + r * x_row + kPerWord<Bits> * kWidth);
      sums[r][o] = multiply_add(parts[r][o], block.scales[o], sums[r][o]);
      sums[r][o] = multiply_add(x_sums, bias, sums[r][o]);
    }
  }
}

// Per: words of a group. The sums of a product go the same way in every tile, as in product_tile.
template <int Bits, Index Per, int Rows, int Outs>
void packed_tile(const float* x, const PackedRows& w, Index row, float* out, Index out_row) {
  const Index row_words = w.dims / kPerWord<Bits>, groups = row_words / Per, blocks = blocks_of(row_words);
  const Index x_row = blocks * kBlockFloats<Bits>;
  const std::uint32_t* const words = w.words + row * row_words;
  const float *const scales = w.scales + row * groups, *const biases = w.biases + row * groups;
  Vector sums[Rows][Outs] = {};
  Block<Outs> block;
  if (row_words < kWidth) {
    for (int o = 0; o < Outs; o++) {
      block.words[o] = Words{};
      block.scales[o] = block.biases[o] = Vector{};
      for (Index i = 0; i < row_words; i++) {
        block.words[o][i] = static_cast<std::int32_t>(words[o * row_words + i]);
        block.scales[o][i] = scales[o * groups + i / Per];
        block.biases[o][i] = biases[o * groups + i / Per];
      }
    }
    add_block<Bits>(block, x, x_row, sums);
  } else {
    for (Index b = 0; b < blocks; b++) {
      const Index start = block_start(b, row_words);
      for (int o = 0; o < Outs; o++) {
        block.words[o] = *reinterpret_cast<const Words*>(words + o * row_words + start);
        block.scales[o] = of_lanes<Per>(scales + o * groups + start / Per);
        block.biases[o] = of_lanes<Per>(biases + o * groups + start / Per);
      }
      add_block<Bits>(block, x + b * kBlockFloats<Bits>, x_row, sums);
    }
  }
  for (int r = 0; r < Rows; r++)
    for (int o = 0; o < Outs; o++) out[r * out_row + o] = total(sums[r][o]);
}

template <int Bits, Index Per, int Outs>
void packed_tiles(const float* x, Index rows, const PackedRows& w, Index row, float* out, Index out_row) {
  const Index x_row = arranged_floats(w.dims, Bits);
  Index r = 0;
  for (; r + 4 <= rows; r += 4) packed_tile<Bits, Per, 4, Outs>(x + r * x_row, w, row, out + r * out_row, out_row);
  for (; r + 2 <= rows; r += 2) packed_tile<Bits, Per, 2, Outs>(x + r * x_row, w, row, out + r * out_row, out_row);
  for (; r < rows; r++) packed_tile<Bits, Per, 1, Outs>(x + r * x_row, w, row, out + r * out_row, out_row);
}

template <int Bits, Index Per>
void packed_outs(const float* x, Index rows, const PackedRows& w, Index from, Index to, float* out, Index out_row) {
  Index o = from;
  if (rows == 1)  // whose sums wait for each other more than those of several: 48 µs for 71, 1536 × 576 in 4 bits
    for (; o + 4 <= to; o += 4) packed_tiles<Bits, Per, 4>(x, rows, w, o, out + (o - from), out_row);
  for (; o + 2 <= to; o += 2) packed_tiles<Bits, Per, 2>(x, rows, w, o, out + (o - from), out_row);
  for (; o < to; o++) packed_tiles<Bits, Per, 1>(x, rows, w, o, out + (o - from), out_row);
}

void packed_products(const float* arranged, Index rows, const PackedRows& w, Index from, Index to, float* out,
                     Index out_row) {
  const Index words = w.group * w.bits / 32;
  const auto compute = w.bits == 4 ? (words == 4   ? packed_outs<4, 4>
                                      : words == 8 ? packed_outs<4, 8>
                                                   : packed_outs<4, 16>)
                                   : (words == 8    ? packed_outs<8, 8>
                                      : words == 16 ? packed_outs<8, 16>
                                                    : packed_outs<8, 32>);
  compute(arranged, rows, w, from, to, out, out_row);
}

}  // namespace
