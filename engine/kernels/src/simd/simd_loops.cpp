// Compiled once for each instruction set with KERNELS_SIMD as its name. Nothing here may be shared between the copies:
// no templates of the standard library, no inline functions outside the unnamed namespace.
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "simd/simd.h"
#include "simd/simd_math.h"

#define KERNELS_TEXT(x) #x
#define KERNELS_NAME(x) KERNELS_TEXT(x)
#define KERNELS_JOIN(a, b) a##b
#define KERNELS_TABLE(name) KERNELS_JOIN(simd_, name)

namespace {

using kernels::Index;

// ---- activations: value and derivative at x ----

struct Silu {
  static float value(float x) { return x * sigmoid(x); }
  static float derivative(float x) {
    const float s = sigmoid(x);
    return s + x * s * (1.0f - s);
  }
};

// gelu(x) ≈ x/2 · (1 + tanh(u)) = x · sigmoid(2u), 2u = √(8/π) · (x + 0.044715 x³) (Hendrycks and Gimpel,
// arXiv:1606.08415). The sigmoid has no cancellation for negative x.
struct Gelu {
  static constexpr float a = 1.5957691216057308f, b = 0.044715f;
  static float value(float x) { return x * sigmoid(a * (x + b * x * x * x)); }
  static float derivative(float x) {
    const float s = sigmoid(a * (x + b * x * x * x));
    return s + x * s * (1.0f - s) * a * (1.0f + 3.0f * b * x * x);
  }
};

template <class F>
void forward(const float* gate, const float* up, float* out, Index n) {
  if (up != nullptr) {
#pragma omp simd
    for (Index i = 0; i < n; i++) out[i] = F::value(gate[i]) * up[i];
  } else {
#pragma omp simd
    for (Index i = 0; i < n; i++) out[i] = F::value(gate[i]);
  }
}

template <class F>
void backward(const float* gate, const float* up, const float* d_out, float* d_gate, float* d_up, Index n) {
  if (up != nullptr) {
#pragma omp simd
    for (Index i = 0; i < n; i++) {
      const float g = gate[i], u = up[i], d = d_out[i];
      d_gate[i] = d * u * F::derivative(g);
      d_up[i] = d * F::value(g);
    }
  } else {
#pragma omp simd
    for (Index i = 0; i < n; i++) d_gate[i] = d_out[i] * F::derivative(gate[i]);
  }
}

// ---- rows ----

float max(const float* x, Index n) {
  float m = x[0];
#pragma omp simd reduction(max : m)
  for (Index i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

float dot(const float* a, const float* b, Index n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

void copy_scaled(const float* x, Index stride, float factor, float* out, Index n) {
  if (stride == 1) {
#pragma omp simd
    for (Index i = 0; i < n; i++) out[i] = x[i] * factor;
  } else {
    for (Index i = 0; i < n; i++) out[i] = x[i * stride] * factor;
  }
}

void scale(float* x, float factor, Index n) {
#pragma omp simd
  for (Index i = 0; i < n; i++) x[i] *= factor;
}

void add_scaled(float* x, const float* y, float factor, Index n) {
#pragma omp simd
  for (Index i = 0; i < n; i++) x[i] += y[i] * factor;
}

float exp_sum(float* x, float shift, Index n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < n; i++) {
    const float e = exp_approx(x[i] - shift);
    x[i] = e;
    sum += e;
  }
  return sum;
}

void soft_cap(float* x, float cap, Index n) {
  const float inverse = 1.0f / cap;
#pragma omp simd
  for (Index i = 0; i < n; i++) x[i] = cap * tanh_approx(x[i] * inverse);
}

float exp_sum_capped(float* x, float shift, float cap, Index n) {
  const float inverse = 1.0f / cap;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < n; i++) {
    const float e = exp_approx(x[i] - shift), t = x[i] * inverse;
    x[i] = e * (1.0f - t * t);
    sum += e;
  }
  return sum;
}

void attention_row_backward(float* score, float* d_p, float lse, float delta, Index n) {
#pragma omp simd
  for (Index i = 0; i < n; i++) {
    const float p = exp_approx(score[i] - lse);
    score[i] = p;
    d_p[i] = p * (d_p[i] - delta);
  }
}

// ---- products of few rows ----

#if defined(__AVX512F__)
constexpr Index kWidth = 16;
#elif defined(__AVX2__)
constexpr Index kWidth = 8;
#else
constexpr Index kWidth = 4;
#endif
typedef float Vector __attribute__((vector_size(kWidth * sizeof(float)), aligned(sizeof(float)), may_alias));

// A tile of products, each with one vector of partial sums: the order of a sum is the same in every tile. The weights of
// the next tile are fetched meanwhile: 34 ms for all of SmolLM2-135M's with eight rows, 40 without.
template <int Rows, int Outs>
void product_tile(const float* x, const float* w, Index dims, float* out, Index out_row) {
  Vector sums[Rows][Outs] = {};
  const Index whole = dims - dims % kWidth;
  for (Index i = 0; i < whole; i += kWidth) {
    Vector ws[Outs];
    for (int o = 0; o < Outs; o++) {
      ws[o] = *reinterpret_cast<const Vector*>(w + o * dims + i);
      __builtin_prefetch(w + (o + Outs) * dims + i);
    }
    for (int r = 0; r < Rows; r++) {
      const Vector xs = *reinterpret_cast<const Vector*>(x + r * dims + i);
      for (int o = 0; o < Outs; o++) sums[r][o] += xs * ws[o];
    }
  }
  for (int r = 0; r < Rows; r++)
    for (int o = 0; o < Outs; o++) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (Index lane = 0; lane < kWidth; lane++) sum += sums[r][o][lane];
      for (Index i = whole; i < dims; i++) sum = __builtin_fmaf(x[r * dims + i], w[o * dims + i], sum);
      out[r * out_row + o] = sum;
    }
}

template <int Outs>
void product_rows(const float* x, Index rows, const float* w, Index dims, float* out, Index out_row) {
  Index r = 0;
  for (; r + 4 <= rows; r += 4) product_tile<4, Outs>(x + r * dims, w, dims, out + r * out_row, out_row);
  for (; r + 2 <= rows; r += 2) product_tile<2, Outs>(x + r * dims, w, dims, out + r * out_row, out_row);
  for (; r < rows; r++) product_tile<1, Outs>(x + r * dims, w, dims, out + r * out_row, out_row);
}

void row_products(const float* x, Index rows, const float* w, Index outs, Index dims, float* out, Index out_row) {
  Index o = 0;
  for (; o + 4 <= outs; o += 4) product_rows<4>(x, rows, w + o * dims, dims, out + o, out_row);
  for (; o < outs; o++) product_rows<1>(x, rows, w + o * dims, dims, out + o, out_row);
}

// Chunks of a row of out stay in registers while all of x goes by.
template <int Rows, int Vectors>
void add_weighted_tile(const float* factors, const float* x, Index x_row, Index n, Index dims, float* out) {
  Vector sums[Rows][Vectors];
  for (int r = 0; r < Rows; r++)
    for (int v = 0; v < Vectors; v++) sums[r][v] = *reinterpret_cast<const Vector*>(out + r * dims + v * kWidth);
  for (Index i = 0; i < n; i++, x += x_row)
    for (int v = 0; v < Vectors; v++) {
      const Vector xs = *reinterpret_cast<const Vector*>(x + v * kWidth);
      for (int r = 0; r < Rows; r++) sums[r][v] += factors[r * n + i] * xs;
    }
  for (int r = 0; r < Rows; r++)
    for (int v = 0; v < Vectors; v++) *reinterpret_cast<Vector*>(out + r * dims + v * kWidth) = sums[r][v];
}

template <int Rows>
void add_weighted_rows(const float* factors, const float* x, Index x_row, Index n, Index dims, float* out) {
  Index d = 0;
  for (; d + 4 * kWidth <= dims; d += 4 * kWidth) add_weighted_tile<Rows, 4>(factors, x + d, x_row, n, dims, out + d);
  for (; d + kWidth <= dims; d += kWidth) add_weighted_tile<Rows, 1>(factors, x + d, x_row, n, dims, out + d);
  for (; d < dims; d++)
    for (int r = 0; r < Rows; r++)
      for (Index i = 0; i < n; i++)
        out[r * dims + d] = __builtin_fmaf(factors[r * n + i], x[i * x_row + d], out[r * dims + d]);
}

void add_weighted(const float* factors, Index rows, const float* x, Index x_row, Index n, Index dims, float* out) {
  Index r = 0;
  for (; r + 4 <= rows; r += 4) add_weighted_rows<4>(factors + r * n, x, x_row, n, dims, out + r * dims);
  for (; r + 2 <= rows; r += 2) add_weighted_rows<2>(factors + r * n, x, x_row, n, dims, out + r * dims);
  for (; r < rows; r++) add_weighted_rows<1>(factors + r * n, x, x_row, n, dims, out + r * dims);
}

}  // namespace

#include "simd/simd_packed.h"

namespace {

// Eight columns of x · a at a time, in four partial sums that don't wait for each other.
typedef float Eight __attribute__((vector_size(8 * sizeof(float)), aligned(sizeof(float)), may_alias));

void add_low_rank(const float* x, const float* a, Index dims, Index rank, const float* b, Index outs, float* out) {
  Index k = 0;
  for (; k + 8 <= rank; k += 8) {
    Eight sums[4] = {};
    Index i = 0;
    for (; i + 4 <= dims; i += 4)
      for (int j = 0; j < 4; j++) sums[j] += x[i + j] * *reinterpret_cast<const Eight*>(a + (i + j) * rank + k);
    for (; i < dims; i++) sums[0] += x[i] * *reinterpret_cast<const Eight*>(a + i * rank + k);
    const Eight low = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    const float* const up = b + k * outs;
#pragma omp simd
    for (Index o = 0; o < outs; o++) {
      float sum = out[o];
      for (int j = 0; j < 8; j++) sum += low[j] * up[j * outs + o];
      out[o] = sum;
    }
  }
  for (; k < rank; k++) {
    float sums[4] = {};  // in the order of the above, so that a column's bits don't depend on the rank
    Index i = 0;
    for (; i + 4 <= dims; i += 4)
      for (int j = 0; j < 4; j++) sums[j] += x[i + j] * a[(i + j) * rank + k];
    for (; i < dims; i++) sums[0] += x[i] * a[i * rank + k];
    add_scaled(out, b + k * outs, (sums[0] + sums[1]) + (sums[2] + sums[3]), outs);
  }
}

// ---- RMSNorm: y = w · x / √(mean(x²) + eps) (Zhang and Sennrich, arXiv:1910.07467) ----

void rms_norm(const float* x, const float* weight, float* out, Index rows, Index dims, float eps) {
  for (Index row = 0; row < rows; row++, x += dims, out += dims) {
    const float r = 1.0f / __builtin_sqrtf(dot(x, x, dims) / static_cast<float>(dims) + eps);
    if (weight != nullptr) {
#pragma omp simd
      for (Index i = 0; i < dims; i++) out[i] = x[i] * r * weight[i];
    } else {
      copy_scaled(x, 1, r, out, dims);
    }
  }
}

// With r = 1/√(mean(x²) + eps) and g = w · d_out: d_x = r · g − x · r³ · mean(g · x), d_w = Σ_rows d_out · x · r.
void rms_norm_backward(const float* x, const float* weight, const float* d_out, float* d_x, float* d_weight, Index rows,
                       Index dims, float eps) {
  for (Index row = 0; row < rows; row++, x += dims, d_out += dims, d_x += dims) {
    float squares = 0, along = 0;
    if (weight != nullptr) {
#pragma omp simd reduction(+ : squares, along)
      for (Index i = 0; i < dims; i++) {
        squares += x[i] * x[i];
        along += d_out[i] * weight[i] * x[i];
      }
    } else {
      squares = dot(x, x, dims);
      along = dot(x, d_out, dims);
    }
    const float r = 1.0f / __builtin_sqrtf(squares / static_cast<float>(dims) + eps);
    const float c = along / static_cast<float>(dims) * r * r * r;
    if (d_weight != nullptr) {
#pragma omp simd
      for (Index i = 0; i < dims; i++) d_weight[i] += d_out[i] * x[i] * r;
    }
    if (weight != nullptr) {
#pragma omp simd
      for (Index i = 0; i < dims; i++) d_x[i] = d_out[i] * weight[i] * r - x[i] * c;
    } else {
#pragma omp simd
      for (Index i = 0; i < dims; i++) d_x[i] = d_out[i] * r - x[i] * c;
    }
  }
}

// ---- rotary position embedding (Su et al., arXiv:2104.09864) ----

void rope(const float* x, Index x_head, float* out, Index out_head, Index heads, const float* cosines,
          const float* sines, float sign, Index half, Index dims, bool traditional) {
  for (Index head = 0; head < heads; head++, x += x_head, out += out_head) {
    if (traditional) {
#pragma omp simd
      for (Index j = 0; j < half; j++) {
        const float a = x[2 * j], b = x[2 * j + 1], s = sines[j] * sign;
        out[2 * j] = a * cosines[j] - b * s;
        out[2 * j + 1] = a * s + b * cosines[j];
      }
    } else {
#pragma omp simd
      for (Index j = 0; j < half; j++) {
        const float a = x[j], b = x[j + half], s = sines[j] * sign;
        out[j] = a * cosines[j] - b * s;
        out[j + half] = a * s + b * cosines[j];
      }
    }
    for (Index j = 2 * half; j < dims; j++) out[j] = x[j];
  }
}

}  // namespace

namespace kernels {

extern const Simd KERNELS_TABLE(KERNELS_SIMD);
const Simd KERNELS_TABLE(KERNELS_SIMD) = {
    KERNELS_NAME(KERNELS_SIMD),
    {forward<Silu>, backward<Silu>},
    {forward<Gelu>, backward<Gelu>},
    max,
    dot,
    copy_scaled,
    scale,
    add_scaled,
    exp_sum,
    soft_cap,
    exp_sum_capped,
    attention_row_backward,
    row_products,
    add_weighted,
    add_low_rank,
    unpack,
    arranged_floats,
    arrange,
    packed_products,
    rms_norm,
    rms_norm_backward,
    rope,
};

}  // namespace kernels
