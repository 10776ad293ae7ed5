// The Python module. mlx.core.array converts on its own as long as nanobind is the wheel's: see CMakeLists.txt.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "primitives/ops.h"
#include "simd/simd.h"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(_kernels, m) {
  m.doc() = "Fused float32 kernels for MLX's CPU back end. See ops.h.";
  m.def("silu", &kernels::silu, "gate"_a, "up"_a.none() = nb::none(), nb::kw_only(), "threads"_a);
  m.def("gelu", &kernels::gelu, "gate"_a, "up"_a.none() = nb::none(), nb::kw_only(), "threads"_a);
  m.def("rms_norm", &kernels::rms_norm, "x"_a, "weight"_a.none(), "eps"_a, nb::kw_only(), "threads"_a);
  m.def("rope", &kernels::rope, "x"_a, "cosines"_a, "sines"_a, "offset"_a, nb::kw_only(), "traditional"_a, "threads"_a);
  m.def("attention", &kernels::attention, "q"_a, "k"_a, "v"_a, nb::kw_only(), "scale"_a, "causal"_a, "window"_a = 0,
        "starts"_a.none() = nb::none(), "mask"_a.none() = nb::none(), "threads"_a);
  m.def("linear_cross_entropy", &kernels::linear_cross_entropy, "hidden"_a, "weight"_a, "targets"_a, nb::kw_only(),
        "soft_cap"_a = 0.0f, "gradient"_a, "threads"_a);
  m.def("packed_cross_entropy", &kernels::packed_cross_entropy, "hidden"_a, "words"_a, "scales"_a, "biases"_a,
        "targets"_a, nb::kw_only(), "group_size"_a, "bits"_a, "soft_cap"_a = 0.0f, "gradient"_a, "threads"_a);
  m.def("packed_linear", &kernels::packed_linear, "x"_a, "words"_a, "scales"_a, "biases"_a, nb::kw_only(),
        "group_size"_a, "bits"_a, "threads"_a);
  m.def("packed_linear_rows", &kernels::packed_linear_rows, "x"_a, "words"_a, "scales"_a, "biases"_a, nb::kw_only(),
        "group_size"_a, "bits"_a, "threads"_a);
  m.def("linear_rows", &kernels::linear_rows, "x"_a, "weight"_a, nb::kw_only(), "threads"_a);
  m.def("low_rank_rows", &kernels::low_rank_rows, "y"_a, "x"_a, "a"_a, "b"_a, "slots"_a, nb::kw_only(), "threads"_a);
  m.def("instruction_set", [] { return std::string(kernels::simd().name); });
  m.def("instruction_sets", &kernels::simd_names);
  m.def("use_instruction_set", &kernels::use_simd, "name"_a);
}
