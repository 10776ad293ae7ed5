// The maths alone, without MLX, MKL and Python, for the address and undefined-behaviour sanitizers (which those would
// drown in reports of their own). Every array is a heap block of exactly its size, so that one item beyond it is told.
// Prints each disagreement with a plain double-precision loop; exit status 1 if there is any.
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "core/attention.h"
#include "core/cross_entropy.h"
#include "core/packed_linear.h"
#include "simd/simd.h"

using namespace kernels;

extern "C" void cblas_sgemm(int, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a,
                            int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int l = 0; l < k; l++)
        sum += static_cast<double>(transpose_a == 112 ? a[l * lda + i] : a[i * lda + l]) *
               (transpose_b == 112 ? b[j * ldb + l] : b[l * ldb + j]);
      // As BLAS must: what c held does not matter when beta is 0.
      c[i * ldc + j] = static_cast<float>(alpha * sum) + (beta == 0 ? 0 : beta * c[i * ldc + j]);
    }
}

namespace {

int failures = 0;
std::mt19937 random_bits(1);

using Block = std::unique_ptr<float[]>;

Block normal(Index n) {
  Block block(new float[n]);
  std::normal_distribution<float> draw;
  for (Index i = 0; i < n; i++) block[i] = draw(random_bits);
  return block;
}

Block uninitialised(Index n) {
  Block block(new float[n]);
  std::fill_n(block.get(), n, NAN);  // so that a value that is never written shows
  return block;
}

void agree(const char* what, double found, double expected) {
  if (std::fabs(found - expected) <= 2e-4 * std::max(1.0, std::fabs(expected))) return;
  if (failures++ < 20) std::printf("%s: %g, expected %g\n", what, found, expected);
}

template <class T>
Heads<T> heads(T* data, Index h, Index rows, Index dims) {
  return {data, h * rows * dims, rows * dims, dims, 1};
}

void attention(Index queries, Index keys, Index h, Index kv, Index dims, bool causal, Index window, bool packed,
               int threads, bool masked = false) {
  const Index batch = 2;
  const Block mask = normal(masked ? h * queries * keys : 0);  // both batches' 
  std::vector<std::int32_t> starts(packed ? batch * queries : 0);
  for (Index i = 0; i < static_cast<Index>(starts.size()); i++)
    starts[i] = static_cast<std::int32_t>((i % queries) / 37 * 37 + (keys - queries) - (i % 5 == 4));
  Attention a{
      batch,  h, kv, queries, keys, dims, 0.3f, causal, window, packed ? starts.data() : nullptr, packed ? queries : 0,
      threads};
  if (masked) a.mask = {mask.get(), 0, queries * keys, keys, 1};
  const Index q_size = batch * h * queries * dims, k_size = batch * kv * keys * dims, rows = batch * h * queries;
  const Block q = normal(q_size), k = normal(k_size), v = normal(k_size), d_out = normal(q_size);
  const Block out = uninitialised(q_size), lse = uninitialised(rows), d_q = uninitialised(q_size),
              d_k = uninitialised(k_size), d_v = uninitialised(k_size);
  const auto q_heads = heads<const float>(q.get(), h, queries, dims);
  const auto k_heads = heads<const float>(k.get(), kv, keys, dims),
             v_heads = heads<const float>(v.get(), kv, keys, dims);
  attention_forward(a, q_heads, k_heads, v_heads, heads(out.get(), h, queries, dims), lse.get());
  attention_backward(a, q_heads, k_heads, v_heads, heads<const float>(out.get(), h, queries, dims), lse.get(),
                     heads<const float>(d_out.get(), h, queries, dims), heads(d_q.get(), h, queries, dims),
                     heads(d_k.get(), kv, keys, dims), heads(d_v.get(), kv, keys, dims));

  std::vector<double> e_out(q_size), e_d_q(q_size), e_d_k(k_size), e_d_v(k_size);
  for (Index b = 0; b < batch; b++)
    for (Index head = 0; head < h; head++)
      for (Index i = 0; i < queries; i++) {
        const Attention::Range seen = a.visible(b, i);
        const Index row = ((b * h + head) * queries + i) * dims, other = (b * kv + head / (h / kv)) * keys * dims;
        std::vector<double> p(keys), d_p(keys);
        double sum = 0, along = 0;
        for (Index j = seen.begin; j < seen.end; j++) {
          double s = 0;
          for (Index d = 0; d < dims; d++) s += static_cast<double>(q[row + d]) * k[other + j * dims + d];
          sum += p[j] = std::exp(0.3 * s + (masked ? mask[(head * queries + i) * keys + j] : 0));
        }
        for (Index j = seen.begin; j < seen.end; j++) {
          p[j] /= sum;
          for (Index d = 0; d < dims; d++) {
            e_out[row + d] += p[j] * v[other + j * dims + d];
            d_p[j] += static_cast<double>(d_out[row + d]) * v[other + j * dims + d];
            e_d_v[other + j * dims + d] += p[j] * d_out[row + d];
          }
          along += p[j] * d_p[j];
        }
        for (Index j = seen.begin; j < seen.end; j++)
          for (Index d = 0; d < dims; d++) {
            e_d_q[row + d] += 0.3 * p[j] * (d_p[j] - along) * k[other + j * dims + d];
            e_d_k[other + j * dims + d] += 0.3 * p[j] * (d_p[j] - along) * q[row + d];
          }
      }
  for (Index i = 0; i < q_size; i++) agree("attention out", out[i], e_out[i]), agree("d_q", d_q[i], e_d_q[i]);
  for (Index i = 0; i < k_size; i++) agree("d_k", d_k[i], e_d_k[i]), agree("d_v", d_v[i], e_d_v[i]);
}

void cross_entropy(Index rows, Index vocabulary, Index dims, float cap, int threads) {
  const Block hidden = normal(rows * dims), weight = normal(vocabulary * dims), d_loss = normal(rows);
  const Block loss = uninitialised(rows), lse = uninitialised(rows), d_hidden = uninitialised(rows * dims),
              d_weight = uninitialised(vocabulary * dims);
  const std::unique_ptr<bool[]> correct(new bool[rows]);
  std::vector<std::int32_t> targets(rows);
  for (Index i = 0; i < rows; i++) targets[i] = static_cast<std::int32_t>(i * 7919 % (vocabulary + 2)) - 1;
  const LinearCrossEntropy x{rows, vocabulary, dims, hidden.get(), weight.get(), targets.data(), cap, threads};
  linear_cross_entropy(x, loss.get(), lse.get(), correct.get(), d_hidden.get());
  linear_cross_entropy_d_weight(x, lse.get(), d_loss.get(), d_weight.get());

  std::vector<double> e_d_weight(vocabulary * dims);
  for (Index i = 0; i < rows; i++) {
    const bool labelled = targets[i] >= 0 && targets[i] < vocabulary;
    std::vector<double> z(vocabulary), slope(vocabulary), e_d_hidden(dims);
    double sum = 0;
    for (Index w = 0; w < vocabulary; w++) {
      for (Index d = 0; d < dims; d++) z[w] += static_cast<double>(hidden[i * dims + d]) * weight[w * dims + d];
      if (cap > 0) z[w] = cap * std::tanh(z[w] / cap);
      slope[w] = cap > 0 ? 1 - z[w] / cap * z[w] / cap : 1;
      sum += std::exp(z[w]);
    }
    agree("loss", loss[i], labelled ? std::log(sum) - z[targets[i]] : 0);
    for (Index w = 0; w < vocabulary; w++) {
      const double d = labelled ? (std::exp(z[w]) / sum - (w == targets[i])) * slope[w] : 0;
      for (Index j = 0; j < dims; j++) {
        e_d_hidden[j] += d * weight[w * dims + j];
        e_d_weight[w * dims + j] += d * d_loss[i] * hidden[i * dims + j];
      }
    }
    for (Index j = 0; j < dims; j++) agree("d_hidden", d_hidden[i * dims + j], e_d_hidden[j]);
  }
  for (Index i = 0; i < vocabulary * dims; i++) agree("d_weight", d_weight[i], e_d_weight[i]);
}

// Random packed weights in blocks of exactly their size, and what they stand for.
struct Weights {
  std::unique_ptr<std::uint32_t[]> words;
  Block scales, biases;
  std::vector<double> wide;
  PackedRows rows;

  Weights(Index outs, Index dims, Index group, int bits) {
    const Index per_word = 32 / bits, groups = dims / group;
    words.reset(new std::uint32_t[outs * dims / per_word]);
    for (Index i = 0; i < outs * dims / per_word; i++) words[i] = static_cast<std::uint32_t>(random_bits());
    scales = normal(outs * groups), biases = normal(outs * groups);
    for (Index i = 0; i < outs * dims; i++) {
      const Index g = i / dims * groups + i % dims / group;
      const std::uint32_t q = words[i / per_word] >> (i % per_word * bits) & ((1u << bits) - 1);
      wide.push_back(static_cast<double>(scales[g]) * q + biases[g]);
    }
    rows = {words.get(), scales.get(), biases.get(), dims, group, bits};
  }
};

void packed(Index rows, Index outs, Index dims, Index group, int bits, int threads) {
  const Weights w(outs, dims, group, bits);
  const Block x = normal(rows * dims), d_out = normal(rows * outs);
  const Block out = uninitialised(rows * outs), few = uninitialised(rows * outs), d_x = uninitialised(rows * dims);
  const PackedLinear p{rows, outs, w.rows, threads};
  packed_product(p, x.get(), out.get());
  packed_product_rows(p, x.get(), few.get());
  packed_product_d_x(p, d_out.get(), d_x.get());
  std::vector<double> e_d_x(rows * dims);
  const double size = bits == 4 ? 10 : 150;  // of a weight, as errors are relative to that
  for (Index r = 0; r < rows; r++)
    for (Index o = 0; o < outs; o++) {
      double sum = 0;
      for (Index d = 0; d < dims; d++) {
        sum += x[r * dims + d] * w.wide[o * dims + d];
        e_d_x[r * dims + d] += d_out[r * outs + o] * w.wide[o * dims + d];
      }
      agree("packed product", out[r * outs + o] / size, sum / size);
      agree("packed product of few rows", few[r * outs + o] / size, sum / size);
    }
  for (Index i = 0; i < rows * dims; i++) agree("packed d_x", d_x[i] / size, e_d_x[i] / size);

  if (rows == 0) return;
  const Block hidden = normal(rows * dims), loss = uninitialised(rows), lse = uninitialised(rows),
              d_hidden = uninitialised(rows * dims), narrow = normal(outs * dims), plain_loss = uninitialised(rows),
              plain_d = uninitialised(rows * dims);
  for (Index i = 0; i < rows * dims; i++) hidden[i] *= 1e-3f;
  for (Index i = 0; i < outs * dims; i++) narrow[i] = static_cast<float>(w.wide[i]);
  const std::unique_ptr<bool[]> correct(new bool[rows]);
  std::vector<std::int32_t> targets(rows);
  for (Index i = 0; i < rows; i++) targets[i] = static_cast<std::int32_t>(i * 7919 % (outs + 2)) - 1;
  LinearCrossEntropy c{rows, outs, dims, hidden.get(), narrow.get(), targets.data(), 0, threads};
  linear_cross_entropy(c, plain_loss.get(), lse.get(), correct.get(), plain_d.get());
  c.weight = nullptr, c.packed = w.rows;
  linear_cross_entropy(c, loss.get(), lse.get(), correct.get(), d_hidden.get());
  for (Index i = 0; i < rows; i++) agree("packed loss", loss[i], plain_loss[i]);
  for (Index i = 0; i < rows * dims; i++) agree("packed d_hidden", d_hidden[i] / size, plain_d[i] / size);
}

// Every loop at lengths around its vectors' widths.
void loops() {
  const Simd& s = simd();
  for (Index n = 1; n < 70; n++) {
    const Block x = normal(n), y = normal(n), z = normal(n), u = uninitialised(n), v = uninitialised(n);
    for (const Activation& f : {s.silu, s.gelu}) {
      f.forward(x.get(), y.get(), u.get(), n);
      f.forward(x.get(), nullptr, u.get(), n);
      f.backward(x.get(), y.get(), z.get(), u.get(), v.get(), n);
      f.backward(x.get(), nullptr, z.get(), u.get(), nullptr, n);
    }
    s.rms_norm(x.get(), y.get(), u.get(), 1, n, 1e-5f);
    s.rms_norm_backward(x.get(), nullptr, y.get(), u.get(), z.get(), 1, n, 1e-5f);
    const Block heads = normal(3 * n), turned = uninitialised(3 * n);
    for (bool traditional : {false, true})
      s.rope(heads.get(), n, turned.get(), n, 3, x.get(), y.get(), -1, n / 2, n, traditional);
    s.soft_cap(x.get(), 5, n);
    for (Index i = 0; i < 3 * n; i++) agree("rope is a number", std::isfinite(turned[i]), 1);
  }
}

}  // namespace

int main() {
  for (const std::string& name : simd_names()) {
    use_simd(name);
    loops();
    for (int threads : {1, 2}) {
      attention(1, 1, 1, 1, 1, true, 0, false, threads);
      attention(1, 1050, 6, 2, 64, true, 0, false, threads);
      attention(2, 600, 3, 1, 37, true, 550, true, threads);
      attention(70, 70, 6, 2, 5, true, 0, false, threads);
      attention(90, 90, 4, 4, 9, true, 0, true, threads);
      attention(65, 100, 2, 1, 16, true, 20, true, threads);
      attention(30, 47, 2, 1, 16, false, 0, false, threads);
      attention(30, 547, 4, 2, 5, false, 0, false, threads, true);
      attention(600, 600, 1, 1, 2, true, 550, false, threads);
      cross_entropy(1, 1, 1, 0, threads);
      cross_entropy(70, 1100, 3, 0, threads);
      cross_entropy(300, 40, 5, 2, threads);
      for (int bits : {4, 8})
        for (Index group : {32, 64, 128}) {
          packed(3, 5, group, group, bits, threads);
          packed(7, 71, 3 * group, group, bits, threads);
        }
      packed(2, 530, 1120, 32, 4, threads);
      packed(1, 1, 1056, 32, 8, threads);
      packed(0, 3, 64, 64, 4, threads);
    }
  }
  std::printf("%d disagreements\n", failures);
  return failures > 0;
}
