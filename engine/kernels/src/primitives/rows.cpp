// Products of the few rows that are decoded side by side. Reading the weights takes the time; BLAS packs them first, which
// for less than a dozen rows costs more than the product.
#include <cstring>

#include "core/parallel.h"
#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "simd/simd.h"

namespace kernels {

namespace {

// Pieces for each thread, so that one that is held up by another process has less left to do.
constexpr Index kPieces = 4;

Index rows_of(const array& x) { return x.shape(-1) > 0 ? static_cast<Index>(x.size()) / x.shape(-1) : 0; }

class LinearRows : public Kernel {
 public:
  using Kernel::Kernel;
  const char* name() const override { return "LinearRows"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }

  // (x, weight) → (out)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    allocate(out[0]);
    dispatch(stream(), [x = later(in[0]), weight = later(in[1]), out = later(out[0]), threads = threads_]() mutable {
      const Index dims = weight.shape(1), outs = weight.shape(0), rows = outs > 0 ? out.size() / outs : 0;
      const float *xs = x.data<float>(), *w = weight.data<float>();
      float* o = out.data<float>();
      const Index pieces = threads * kPieces, grain = ((outs + pieces - 1) / pieces + 3) / 4 * 4;
      parallel_ranges(threads, outs, grain, [=](Index i, Index end) {
        simd().row_products(xs, rows, w + i * dims, end - i, dims, o + i, outs);
      });
    });
  }
};

class LowRankRows : public Kernel {
 public:
  using Kernel::Kernel;
  const char* name() const override { return "LowRankRows"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }

  // (y, x, a, b, slots) → (out)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    reuse_or_allocate(in[0], out[0]);
    dispatch(stream(), [y = later(in[0]), x = later(in[1]), a = later(in[2]), b = later(in[3]), slots = later(in[4]),
                        out = later(out[0]), threads = threads_]() mutable {
      const Index rows = slots.size(), dims = a.shape(1), rank = a.shape(2), outs = b.shape(2);
      const float *ys = y.data<float>(), *xs = x.data<float>(), *as = a.data<float>(), *bs = b.data<float>();
      const std::uint32_t* slot = slots.data<std::uint32_t>();
      float* o = out.data<float>();
      parallel_for(threads, rows, [=](Index r) {
        float* const row = o + r * outs;
        if (o != ys) std::memcpy(row, ys + r * outs, outs * sizeof(float));
        if (slot[r] == 0) return;
        simd().add_low_rank(xs + r * dims, as + slot[r] * dims * rank, dims, rank, bs + slot[r] * rank * outs, outs, row);
      });
    });
  }
};

}  // namespace

array linear_rows(const array& x, const array& weight, int threads) {
  require(is_float32(x) && is_float32(weight), "linear_rows is for float32");
  require(x.ndim() >= 1 && weight.ndim() == 2 && x.shape(-1) == weight.shape(1),
          "linear_rows needs x (…, dims) and weight (outs, dims)");
  const mx::Stream stream = cpu_stream();
  mx::Shape shape = x.shape();
  shape.back() = weight.shape(0);
  return array(shape, mx::float32, std::make_shared<LinearRows>(stream, threads),
               {row_contiguous(x, stream), row_contiguous(weight, stream)});
}

array low_rank_rows(const array& y, const array& x, const array& a, const array& b, const array& slots, int threads) {
  require(is_float32(y) && is_float32(x) && is_float32(a) && is_float32(b), "low_rank_rows is for float32");
  require(slots.dtype() == mx::uint32 && slots.ndim() == 1, "low_rank_rows needs slots (rows) of uint32");
  require(a.ndim() == 3 && b.ndim() == 3 && a.shape(0) == b.shape(0) && a.shape(2) == b.shape(1),
          "low_rank_rows needs a (slots, dims, rank) and b (slots, rank, outs)");
  require(x.ndim() >= 1 && y.ndim() >= 1 && x.shape(-1) == a.shape(1) && y.shape(-1) == b.shape(2) &&
              rows_of(x) == slots.shape(0) && rows_of(y) == slots.shape(0),
          "low_rank_rows needs x (rows, …, dims) and y (rows, …, outs), one token a row");
  const mx::Stream stream = cpu_stream();
  return array(y.shape(), mx::float32, std::make_shared<LowRankRows>(stream, threads),
               {row_contiguous(y, stream), row_contiguous(x, stream), row_contiguous(a, stream),
                row_contiguous(b, stream), row_contiguous(slots, stream)});
}

}  // namespace kernels
