#include "core/parallel.h"
#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "simd/simd.h"

namespace kernels {

namespace {

constexpr Index kGrain = 16384;  // items: 64 KB of each array

enum class Kind { kSilu, kGelu };

const Activation& loops(Kind kind) { return kind == Kind::kSilu ? simd().silu : simd().gelu; }

class ActivationBackward : public Kernel {
 public:
  ActivationBackward(mx::Stream stream, int threads, Kind kind) : Kernel(stream, threads), kind_(kind) {}
  const char* name() const override { return "ActivationBackward"; }

  // (gate, d_out) → (d_gate), or (gate, up, d_out) → (d_gate, d_up)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    const bool gated = out.size() == 2;
    for (std::size_t i = 0; i < out.size(); i++) reuse_or_allocate(in[i], out[i]);
    dispatch(stream(),
             [gate = later(in[0]), up = later(in[gated ? 1 : 0]), d_out = later(in.back()), d_gate = later(out[0]),
              d_up = later(out.back()), gated, threads = threads_, kind = kind_]() mutable {
               const float *g = gate.data<float>(), *u = gated ? up.data<float>() : nullptr, *d = d_out.data<float>();
               float *dg = d_gate.data<float>(), *du = gated ? d_up.data<float>() : nullptr;
               parallel_ranges(threads, gate.size(), kGrain, [=](Index i, Index end) {
                 loops(kind).backward(g + i, gated ? u + i : nullptr, d + i, dg + i, gated ? du + i : nullptr, end - i);
               });
             });
  }

 private:
  Kind kind_;
};

class ActivationForward : public Kernel {
 public:
  ActivationForward(mx::Stream stream, int threads, Kind kind) : Kernel(stream, threads), kind_(kind) {}
  const char* name() const override { return "Activation"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const ActivationForward&>(other).kind_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

  // (gate) or (gate, up) → (out)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    reuse_or_allocate(in[0], out[0]);
    dispatch(stream(), [gate = later(in[0]), up = later(in.back()), out = later(out[0]), gated = in.size() == 2,
                        threads = threads_, kind = kind_]() mutable {
      const float *g = gate.data<float>(), *u = up.data<float>();
      float* o = out.data<float>();
      parallel_ranges(threads, gate.size(), kGrain,
                      [=](Index i, Index end) { loops(kind).forward(g + i, gated ? u + i : nullptr, o + i, end - i); });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums, const Arrays&) override {
    Arrays in = primals;
    in.push_back(row_contiguous(cotangents[0], stream()));
    const std::vector<mx::Shape> shapes(primals.size(), primals[0].shape());
    const Arrays gradients = array::make_arrays(shapes, std::vector<mx::Dtype>(primals.size(), mx::float32),
                                                std::make_shared<ActivationBackward>(stream(), threads_, kind_), in);
    Arrays wanted;
    for (int argnum : argnums) wanted.push_back(gradients[argnum]);
    return wanted;
  }

 private:
  Kind kind_;
};

array activation(Kind kind, const array& gate, const std::optional<array>& up, int threads) {
  require(is_float32(gate) && (!up || is_float32(*up)), "activations are for float32");
  require(!up || gate.shape() == up->shape(), "gate and up must have the same shape");
  const mx::Stream stream = cpu_stream();
  Arrays in{row_contiguous(gate, stream)};
  if (up) in.push_back(row_contiguous(*up, stream));
  return array(gate.shape(), mx::float32, std::make_shared<ActivationForward>(stream, threads, kind), std::move(in));
}

}  // namespace

array silu(const array& gate, const std::optional<array>& up, int threads) {
  return activation(Kind::kSilu, gate, up, threads);
}

array gelu(const array& gate, const std::optional<array>& up, int threads) {
  return activation(Kind::kGelu, gate, up, threads);
}

}  // namespace kernels
