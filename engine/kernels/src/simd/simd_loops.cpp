// Compiled once for each instruction set with KERNELS_SIMD as its name. Nothing here may be shared between the copies:
// no templates of the standard library, no inline functions outside the unnamed namespace.
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
    rms_norm,
    rms_norm_backward,
    rope,
};

}  // namespace kernels
