// Matrix products by the BLAS that the process has: its symbols are bound when the extension is loaded, to MKL where
// mlx_engine.blas has put it into the global scope, else to what MLX itself links.
#pragma once

#include <cstdint>

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);

namespace kernels {

enum Form { kPlain = 111, kTransposed = 112 };

// Row-major c (m, n) ← alpha · op(a) (m, k) · op(b) (k, n) + beta · c; ld: floats from a stored row to the next.
inline void gemm(Form a_form, Form b_form, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                 std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
  constexpr int row_major = 101;
  cblas_sgemm(row_major, a_form, b_form, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

}  // namespace kernels
