#include "core/parallel.h"
#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "simd/simd.h"

namespace kernels {

namespace {

constexpr Index kGrain = 32;     // rows
constexpr Index kPartials = 16;  // sums over rows that make up the weight's gradient, whatever the number of threads

class RMSNormBackward : public Kernel {
 public:
  RMSNormBackward(mx::Stream stream, int threads, float eps) : Kernel(stream, threads), eps_(eps) {}
  const char* name() const override { return "RMSNormBackward"; }

  // (x, d_out) or (x, weight, d_out) → (d_x) or (d_x, d_weight)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    reuse_or_allocate(in.back(), out[0]);
    const bool weight_wanted = out.size() == 2;
    if (weight_wanted) allocate(out[1]);
    dispatch(stream(), [x = later(in[0]), weight = later(in[in.size() - 2]), d_out = later(in.back()),
                        d_x = later(out[0]), d_weight = later(out.back()), weighted = in.size() == 3, weight_wanted,
                        eps = eps_, threads = threads_]() mutable {
      const Index dims = x.shape(-1), rows = dims > 0 ? x.size() / dims : 0;
      const float *xs = x.data<float>(), *w = weighted ? weight.data<float>() : nullptr, *d = d_out.data<float>();
      float* dx = d_x.data<float>();
      if (!weight_wanted) {
        parallel_ranges(threads, rows, kGrain, [=](Index i, Index end) {
          simd().rms_norm_backward(xs + i * dims, w, d + i * dims, dx + i * dims, nullptr, end - i, dims, eps);
        });
        return;
      }
      std::vector<float> partials(kPartials * dims);
      float* const sums = partials.data();
      const Index grain = (rows + kPartials - 1) / kPartials;
      parallel_ranges(threads, rows, grain, [=](Index i, Index end) {
        simd().rms_norm_backward(xs + i * dims, w, d + i * dims, dx + i * dims, sums + i / grain * dims, end - i, dims,
                                 eps);
      });
      float* dw = d_weight.data<float>();
      std::fill_n(dw, dims, 0.0f);
      for (Index p = 0; p < kPartials; p++) simd().add_scaled(dw, sums + p * dims, 1, dims);
    });
  }

 private:
  float eps_;
};

class RMSNorm : public Kernel {
 public:
  RMSNorm(mx::Stream stream, int threads, float eps) : Kernel(stream, threads), eps_(eps) {}
  const char* name() const override { return "RMSNorm"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return eps_ == static_cast<const RMSNorm&>(other).eps_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

  // (x) or (x, weight) → (out)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    reuse_or_allocate(in[0], out[0]);
    dispatch(stream(), [x = later(in[0]), weight = later(in.back()), out = later(out[0]), weighted = in.size() == 2,
                        eps = eps_, threads = threads_]() mutable {
      const Index dims = x.shape(-1), rows = dims > 0 ? x.size() / dims : 0;
      const float *xs = x.data<float>(), *w = weighted ? weight.data<float>() : nullptr;
      float* o = out.data<float>();
      parallel_ranges(threads, rows, kGrain,
                      [=](Index i, Index end) { simd().rms_norm(xs + i * dims, w, o + i * dims, end - i, dims, eps); });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums, const Arrays&) override {
    const bool weight_wanted = std::find(argnums.begin(), argnums.end(), 1) != argnums.end();
    std::vector<mx::Shape> shapes{primals[0].shape()};
    if (weight_wanted) shapes.push_back(primals[1].shape());
    Arrays in = primals;
    in.push_back(row_contiguous(cotangents[0], stream()));
    const Arrays gradients = array::make_arrays(shapes, std::vector<mx::Dtype>(shapes.size(), mx::float32),
                                                std::make_shared<RMSNormBackward>(stream(), threads_, eps_), in);
    Arrays wanted;
    for (int argnum : argnums) wanted.push_back(gradients[argnum]);
    return wanted;
  }

 private:
  float eps_;
};

}  // namespace

array rms_norm(const array& x, const std::optional<array>& weight, float eps, int threads) {
  require(is_float32(x) && (!weight || is_float32(*weight)), "rms_norm is for float32");
  require(x.ndim() >= 1 && (!weight || (weight->ndim() == 1 && weight->shape(0) == x.shape(-1))),
          "rms_norm needs x (…, dims) and weight (dims)");
  const mx::Stream stream = cpu_stream();
  Arrays in{row_contiguous(x, stream)};
  if (weight) in.push_back(row_contiguous(*weight, stream));
  return array(x.shape(), mx::float32, std::make_shared<RMSNorm>(stream, threads, eps), std::move(in));
}

}  // namespace kernels
