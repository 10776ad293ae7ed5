#include "core/parallel.h"
#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "simd/simd.h"

namespace kernels {

namespace {

constexpr Index kGrain = 16;  // tokens

class Rope : public Kernel {
 public:
  // back: by the negative angles, which is the gradient.
  Rope(mx::Stream stream, int threads, int offset, bool traditional, bool back)
      : Kernel(stream, threads), offset_(offset), traditional_(traditional), back_(back) {}
  const char* name() const override { return "Rope"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const Rope&>(other);
    return offset_ == o.offset_ && traditional_ == o.traditional_ && back_ == o.back_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

  // (x (batch, heads, rows, dims), cosines, sines) → (out)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    const bool adjacent = in[0].strides(3) == 1 || in[0].shape(3) == 1;
    if (adjacent && in[0].flags().contiguous && in[0].data_size() == in[0].size() && in[0].is_donatable())
      out[0].copy_shared_buffer(in[0]);
    else
      allocate_heads_last(out[0]);
    dispatch(stream(), [x = later(in[0]), cosines = later(in[1]), sines = later(in[2]), out = later(out[0]), adjacent,
                        offset = offset_, traditional = traditional_, sign = back_ ? -1.0f : 1.0f,
                        threads = threads_]() mutable {
      const Index heads = x.shape(1), rows = x.shape(2), dims = x.shape(3), half = cosines.shape(1);
      const auto from = x.strides(), to = out.strides();
      const float *xs = x.data<float>(), *c = cosines.data<float>(), *s = sines.data<float>();
      float* o = out.data<float>();
      parallel_ranges(threads, x.shape(0) * rows, kGrain, [=](Index token, Index end) {
        for (; token < end; token++) {
          const Index batch = token / rows, row = token % rows;
          const float* const source = xs + batch * from[0] + row * from[2];
          float* const target = o + batch * to[0] + row * to[2];
          const Index angles = (offset + row) * half;
          if (adjacent) {
            simd().rope(source, from[1], target, to[1], heads, c + angles, s + angles, sign, half, dims, traditional);
          } else {
            for (Index h = 0; h < heads; h++)
              simd().copy_scaled(source + h * from[1], from[3], 1, target + h * to[1], dims);
            simd().rope(target, to[1], target, to[1], heads, c + angles, s + angles, sign, half, dims, traditional);
          }
        }
      });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums, const Arrays&) override {
    Arrays gradients;
    for (int argnum : argnums) {
      require(argnum == 0, "rope has no gradient with respect to its angles");
      gradients.push_back(array(primals[0].shape(), mx::float32,
                                std::make_shared<Rope>(stream(), threads_, offset_, traditional_, !back_),
                                {cotangents[0], primals[1], primals[2]}));
    }
    return gradients;
  }

 private:
  int offset_;
  bool traditional_, back_;
};

}  // namespace

array rope(const array& x, const array& cosines, const array& sines, int offset, bool traditional, int threads) {
  require(is_float32(x) && is_float32(cosines) && is_float32(sines), "rope is for float32");
  require(x.ndim() == 3 || x.ndim() == 4, "rope needs x (batch, heads, rows, dims) or (batch, rows, dims)");
  require(cosines.ndim() == 2 && cosines.shape() == sines.shape() && 2 * cosines.shape(1) <= x.shape(-1),
          "rope needs cosines and sines (positions, half) with 2 · half ≤ dims");
  require(offset >= 0 && offset + x.shape(-2) <= cosines.shape(0), "rope: positions beyond the tables");
  const mx::Stream stream = cpu_stream();
  const array heads = x.ndim() == 4 ? x : mx::expand_dims(x, 1, stream);
  const array turned(heads.shape(), mx::float32, std::make_shared<Rope>(stream, threads, offset, traditional, false),
                     {heads, row_contiguous(cosines, stream), row_contiguous(sines, stream)});
  return x.ndim() == 4 ? turned : mx::squeeze(turned, 1, stream);
}

}  // namespace kernels
