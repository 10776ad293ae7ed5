#include "core/cross_entropy.h"

#include "primitives/kernel.h"
#include "primitives/ops.h"
#include "primitives/packed.h"

namespace kernels {

namespace {

struct Options {
  float soft_cap;
  int threads;
  int group = 0, bits = 0;  // of packed weights
};

LinearCrossEntropy describe(const Options& options, const array& hidden, const array& weight, const array& targets) {
  return {hidden.shape(0),
          weight.shape(0),
          hidden.shape(1),
          hidden.data<float>(),
          options.bits > 0 ? nullptr : weight.data<float>(),
          targets.data<std::int32_t>(),
          options.soft_cap,
          options.threads};
}

class DWeight : public Kernel {
 public:
  DWeight(mx::Stream stream, const Options& options) : Kernel(stream, options.threads), options_(options) {}
  const char* name() const override { return "LinearCrossEntropyDWeight"; }

  // (hidden, weight, targets, lse, d_loss) → (d_weight)
  void eval_cpu(const Arrays& in, Arrays& out) override {
    allocate(out[0]);
    dispatch(stream(), [hidden = later(in[0]), weight = later(in[1]), targets = later(in[2]), lse = later(in[3]),
                        d_loss = later(in[4]), d_weight = later(out[0]), options = options_]() mutable {
      linear_cross_entropy_d_weight(describe(options, hidden, weight, targets), lse.data<float>(), d_loss.data<float>(),
                                    d_weight.data<float>());
    });
  }

 private:
  Options options_;
};

class Forward : public Kernel {
 public:
  Forward(mx::Stream stream, const Options& options) : Kernel(stream, options.threads), options_(options) {}
  const char* name() const override { return "LinearCrossEntropy"; }

  // (hidden, weight, targets), after them the scales and biases of packed weights
  // → (loss, lse, correct) or with d_hidden at the end
  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (array& result : out) allocate(result);
    const Index last = static_cast<Index>(in.size()) - 1;  // without scales and biases these stand for nothing
    dispatch(stream(), [hidden = later(in[0]), weight = later(in[1]), targets = later(in[2]),
                        scales = later(in[last - 1]), biases = later(in[last]), loss = later(out[0]),
                        lse = later(out[1]), correct = later(out[2]), d_hidden = later(out.back()),
                        gradient = out.size() == 4, options = options_]() mutable {
      LinearCrossEntropy x = describe(options, hidden, weight, targets);
      if (options.bits > 0) x.packed = packed_rows(weight, scales, biases, options.group, options.bits);
      linear_cross_entropy(x, loss.data<float>(), lse.data<float>(), correct.data<bool>(),
                           gradient ? d_hidden.data<float>() : nullptr);
    });
  }

  static Arrays make(const mx::Stream& stream, const Options& options, const Arrays& in, bool gradient) {
    const mx::Shape rows{in[0].shape(0)};
    std::vector<mx::Shape> shapes{rows, rows, rows};
    std::vector<mx::Dtype> types{mx::float32, mx::float32, mx::bool_};
    if (gradient) {
      shapes.push_back(in[0].shape());
      types.push_back(mx::float32);
    }
    return array::make_arrays(shapes, types, std::make_shared<Forward>(stream, options), in);
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    const mx::Stream s = stream();
    Arrays gradients;
    for (int argnum : argnums) {
      require(argnum < 2, "linear_cross_entropy has no gradient with respect to targets");
      require(argnum == 0 || options_.bits == 0, "packed weights have no gradient");
      if (argnum == 0) {
        const array d_hidden = outputs.size() == 4 ? outputs[3] : make(s, options_, primals, true)[3];
        gradients.push_back(mx::multiply(d_hidden, mx::expand_dims(cotangents[0], 1, s), s));
      } else {
        gradients.push_back(array(primals[1].shape(), mx::float32, std::make_shared<DWeight>(s, options_),
                                  {primals[0], primals[1], primals[2], outputs[1], row_contiguous(cotangents[0], s)}));
      }
    }
    return gradients;
  }

 private:
  Options options_;
};

}  // namespace

std::pair<array, array> linear_cross_entropy(const array& hidden, const array& weight, const array& targets,
                                             float soft_cap, bool gradient, int threads) {
  require(is_float32(hidden) && is_float32(weight), "linear_cross_entropy is for float32");
  require(targets.dtype() == mx::int32, "targets must be int32");
  require(hidden.ndim() == 2 && weight.ndim() == 2 && hidden.shape(1) == weight.shape(1) && weight.shape(0) > 0 &&
              targets.shape() == mx::Shape{hidden.shape(0)},
          "linear_cross_entropy needs hidden (rows, dims), weight (vocabulary, dims), targets (rows)");
  const mx::Stream s = cpu_stream();
  const Arrays in{row_contiguous(hidden, s), row_contiguous(weight, s), row_contiguous(targets, s)};
  const Arrays out = Forward::make(s, Options{soft_cap, threads}, in, gradient);
  return {out[0], out[2]};
}

std::pair<array, array> packed_cross_entropy(const array& hidden, const array& words, const array& scales,
                                             const array& biases, const array& targets, int group_size, int bits,
                                             float soft_cap, bool gradient, int threads) {
  require(is_float32(hidden), "packed_cross_entropy is for float32");
  require_packed(words, scales, biases, group_size, bits);
  require(targets.dtype() == mx::int32, "targets must be int32");
  require(hidden.ndim() == 2 && hidden.shape(1) == words.shape(1) * (32 / bits) && words.shape(0) > 0 &&
              targets.shape() == mx::Shape{hidden.shape(0)},
          "packed_cross_entropy needs hidden (rows, dims), weights of as many dims, targets (rows)");
  const mx::Stream s = cpu_stream();
  const Arrays in{row_contiguous(hidden, s), row_contiguous(words, s), row_contiguous(targets, s),
                  row_contiguous(scales, s), row_contiguous(biases, s)};
  const Arrays out = Forward::make(s, Options{soft_cap, threads, group_size, bits}, in, gradient);
  return {out[0], out[2]};
}

}  // namespace kernels
