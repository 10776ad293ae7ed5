#include "core/packed_linear.h"

#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "primitives/packed.h"

namespace kernels {

namespace {

// What is computed over (x, words, scales, biases).
enum class Packed { kProduct, kGradient, kRows };

class PackedLinearKernel : public Kernel {
 public:
  PackedLinearKernel(mx::Stream stream, int threads, Packed what, int group, int bits)
      : Kernel(stream, threads), what_(what), group_(group), bits_(bits) {}
  const char* name() const override { return what_ == Packed::kRows ? "PackedLinearRows" : "PackedLinear"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const PackedLinearKernel&>(other);
    return what_ == o.what_ && group_ == o.group_ && bits_ == o.bits_;
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    allocate(out[0]);
    dispatch(stream(), [x = later(in[0]), words = later(in[1]), scales = later(in[2]), biases = later(in[3]),
                        out = later(out[0]), what = what_, group = group_, bits = bits_, threads = threads_]() mutable {
      const PackedRows weight = packed_rows(words, scales, biases, group, bits);
      const Index outs = words.shape(0), width = what == Packed::kGradient ? weight.dims : outs;
      if (out.size() == 0) return;
      const PackedLinear p{static_cast<Index>(out.size()) / width, outs, weight, threads};
      const auto compute = what == Packed::kProduct    ? packed_product
                           : what == Packed::kGradient ? packed_product_d_x
                                                       : packed_product_rows;
      compute(p, x.data<float>(), out.data<float>());
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums, const Arrays&) override {
    require(what_ == Packed::kProduct, "this product of packed weights has no gradient");
    Arrays gradients;
    for (int argnum : argnums) {
      require(argnum == 0, "packed weights have no gradient");
      gradients.push_back(array(
          primals[0].shape(), mx::float32,
          std::make_shared<PackedLinearKernel>(stream(), threads_, Packed::kGradient, group_, bits_),
          {row_contiguous(cotangents[0], stream()), primals[1], primals[2], primals[3]}));
    }
    return gradients;
  }

 private:
  Packed what_;
  int group_, bits_;
};

array make(Packed what, const array& x, const array& words, const array& scales, const array& biases, int group,
           int bits, int threads) {
  require(is_float32(x), "packed_linear is for float32");
  require_packed(words, scales, biases, group, bits);
  require(x.ndim() >= 1 && x.shape(-1) == words.shape(1) * (32 / bits),
          "packed_linear needs x (…, dims) and weights of as many dims");
  const mx::Stream stream = cpu_stream();
  mx::Shape shape = x.shape();
  shape.back() = words.shape(0);
  return array(shape, mx::float32, std::make_shared<PackedLinearKernel>(stream, threads, what, group, bits),
               {row_contiguous(x, stream), row_contiguous(words, stream), row_contiguous(scales, stream),
                row_contiguous(biases, stream)});
}

}  // namespace

array packed_linear(const array& x, const array& words, const array& scales, const array& biases, int group_size,
                    int bits, int threads) {
  return make(Packed::kProduct, x, words, scales, biases, group_size, bits, threads);
}

array packed_linear_rows(const array& x, const array& words, const array& scales, const array& biases, int group_size,
                         int bits, int threads) {
  return make(Packed::kRows, x, words, scales, biases, group_size, bits, threads);
}

}  // namespace kernels
