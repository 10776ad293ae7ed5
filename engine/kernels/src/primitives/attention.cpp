#include "core/attention.h"

#include "primitives/kernel.h"
#include "primitives/ops.h"

namespace kernels {

namespace {

Heads<float> heads(array& a) { return {a.data<float>(), a.strides(0), a.strides(1), a.strides(2), a.strides(3)}; }

Heads<const float> heads(const array& a) {
  return {a.data<float>(), a.strides(0), a.strides(1), a.strides(2), a.strides(3)};
}

// Keys or values as matrix products take them: items adjacent, rows apart. Else a copy, which `memory` holds.
Heads<const float> matrix(const array& a, std::vector<float>& memory) {
  const Heads<const float> view = heads(a);
  const Index rows = a.shape(2), dims = a.shape(3);
  if ((view.item == 1 || dims == 1) && (view.row >= dims || rows == 1))
    return {view.data, view.batch, view.head, std::max(view.row, dims), 1};
  memory.reserve(a.size());
  for (Index b = 0; b < a.shape(0); b++)
    for (Index h = 0; h < a.shape(1); h++)
      for (Index r = 0; r < rows; r++)
        for (Index i = 0; i < dims; i++) memory.push_back(view.at(b, h, r)[i * view.item]);
  return {memory.data(), a.shape(1) * rows * dims, rows * dims, dims, 1};
}

struct Options {
  float scale;
  bool causal;
  int window, threads;
};

// `more`: starts where it is causal, else a mask; or null.
Attention describe(const Options& options, const array& q, const array& k, const array* more) {
  const array* const starts = options.causal ? more : nullptr;
  const bool shared = starts != nullptr && starts->ndim() == 1;
  return {q.shape(0),
          q.shape(1),
          k.shape(1),
          q.shape(2),
          k.shape(2),
          q.shape(3),
          options.scale,
          options.causal,
          options.window,
          starts != nullptr ? starts->data<std::int32_t>() : nullptr,
          shared ? 0 : q.shape(2),
          options.threads,
          more != nullptr && !options.causal ? heads(*more) : Heads<const float>{}};
}

class AttentionBackward : public Kernel {
 public:
  AttentionBackward(mx::Stream stream, const Options& options) : Kernel(stream, options.threads), options_(options) {}
  const char* name() const override { return "AttentionBackward"; }

  // (q, k, v, out, lse, d_out) or with starts or a mask at the end → (d_q, d_k, d_v)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (array& gradient : out) allocate_heads_last(gradient);
    if (in[0].size() == 0) return zero(out);
    dispatch(stream(), [q = later(in[0]), k = later(in[1]), v = later(in[2]), o = later(in[3]), lse = later(in[4]),
                        d_o = later(in[5]), last = later(in.back()), more = in.size() == 7, d_q = later(out[0]),
                        d_k = later(out[1]), d_v = later(out[2]), options = options_]() mutable {
      std::vector<float> keys, values;
      attention_backward(describe(options, q, k, more ? &last : nullptr), heads(std::as_const(q)), matrix(k, keys),
                         matrix(v, values), heads(std::as_const(o)), lse.data<float>(), heads(std::as_const(d_o)),
                         heads(d_q), heads(d_k), heads(d_v));
    });
  }

 private:
  // Without queries there are no gradients to add up.
  void zero(Arrays& out) {
    dispatch(stream(), [d_k = later(out[1]), d_v = later(out[2])]() mutable {
      std::fill_n(d_k.data<float>(), d_k.size(), 0.0f);
      std::fill_n(d_v.data<float>(), d_v.size(), 0.0f);
    });
  }

  Options options_;
};

class AttentionForward : public Kernel {
 public:
  AttentionForward(mx::Stream stream, const Options& options) : Kernel(stream, options.threads), options_(options) {}
  const char* name() const override { return "Attention"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const Options& o = static_cast<const AttentionForward&>(other).options_;
    return options_.scale == o.scale && options_.causal == o.causal && options_.window == o.window;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {in[0].shape(), {in[0].shape(0), in[0].shape(1), in[0].shape(2)}};
  }

  // (q, k, v), (q, k, v, starts) or (q, k, v, mask) → (out, lse)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    allocate_heads_last(out[0]);
    allocate(out[1]);
    if (in[0].size() == 0) return;
    dispatch(stream(),
             [q = later(in[0]), k = later(in[1]), v = later(in[2]), last = later(in.back()), more = in.size() == 4,
              out = later(out[0]), lse = later(out[1]), options = options_]() mutable {
               std::vector<float> keys, values;
               attention_forward(describe(options, q, k, more ? &last : nullptr), heads(std::as_const(q)),
                                 matrix(k, keys), matrix(v, values), heads(out), lse.data<float>());
             });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    Arrays in{primals[0], primals[1], primals[2], outputs[0], outputs[1], cotangents[0]};
    if (primals.size() == 4) in.push_back(primals[3]);
    const Arrays gradients = array::make_arrays({primals[0].shape(), primals[1].shape(), primals[2].shape()},
                                                {mx::float32, mx::float32, mx::float32},
                                                std::make_shared<AttentionBackward>(stream(), options_), in);
    Arrays wanted;
    for (int argnum : argnums) {
      require(argnum < 3, "attention has no gradient with respect to starts and masks");
      wanted.push_back(gradients[argnum]);
    }
    return wanted;
  }

 private:
  Options options_;
};

}  // namespace

array attention(const array& q, const array& k, const array& v, float scale, bool causal, int window,
                const std::optional<array>& starts, const std::optional<array>& mask, int threads) {
  require(is_float32(q) && is_float32(k) && is_float32(v), "attention is for float32");
  require(q.ndim() == 4 && k.ndim() == 4 && k.shape() == v.shape() && q.shape(0) == k.shape(0) &&
              q.shape(3) == k.shape(3) && k.shape(1) > 0 && q.shape(1) % k.shape(1) == 0,
          "attention needs q (batch, heads, queries, dims), k and v (batch, kv_heads, keys, dims), heads a multiple of "
          "kv_heads");
  require(q.shape(2) == 0 || k.shape(2) > 0, "attention needs keys");
  require(!causal || q.shape(2) <= k.shape(2), "causal attention needs a key for each query");
  require(causal || (window <= 0 && !starts), "a window and starts need causal attention");
  require(window >= 0, "window must not be negative");
  const mx::Stream stream = cpu_stream();
  Arrays in{q, k, v};
  if (starts) {
    require(starts->dtype() == mx::int32, "starts must be int32");
    require(starts->shape() == mx::Shape{q.shape(2)} || starts->shape() == mx::Shape{q.shape(0), q.shape(2)},
            "starts must be (queries) or (batch, queries)");
    in.push_back(row_contiguous(*starts, stream));
  }
  if (mask) {
    require(!causal, "attention takes a mask or is causal");
    require(is_float32(*mask), "a mask must be float32");
    in.push_back(mx::broadcast_to(*mask, {q.shape(0), q.shape(1), q.shape(2), k.shape(2)}, stream));
  }
  const mx::Shape lse{q.shape(0), q.shape(1), q.shape(2)};
  const auto primitive = std::make_shared<AttentionForward>(stream, Options{scale, causal, window, threads});
  return array::make_arrays({q.shape(), lse}, {mx::float32, mx::float32}, primitive, in)[0];
}

}  // namespace kernels
