// exp, tanh and what is made of them, written so that compilers vectorise them: no branches, no calls, no tables.
// Everything is in an unnamed namespace: these headers are compiled for several instruction sets, and a linker that
// merged the copies could hand AVX-512 code to a processor without it.
#pragma once

#include <cstdint>

namespace {

inline float as_float(std::int32_t bits) { return __builtin_bit_cast(float, bits); }

// exp(x) = 2ⁿ · exp(r) with n = round(x / ln 2), |r| ≤ ln 2 / 2; ln 2 in two parts (Cody and Waite), exp(r) by the
// polynomial of Cephes' expf (S. Moshier). At most 1 ulp off in [−87.3, 88.3]. Below it is 0, not a denormal, which would
// cost hundreds of cycles wherever it goes; above, exp(88.3). NaN stays.
inline float exp_approx(float x) {
  const float low = -87.33654f, high = 88.37626f;
  float y = x < low ? low : x;
  y = y > high ? high : y;
  // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer, also where SSE2 has no instruction for it.
  const float n = (y * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  float r = y - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  p *= as_float((static_cast<std::int32_t>(n) + 127) << 23);
  return x < low ? 0.0f : p;
}

// 1 / (1 + exp(−x)), and 0 below −86.
inline float sigmoid(float x) {
  const float limit = -86.0f, y = x < limit ? limit : x, s = 1.0f / (1.0f + exp_approx(-y));
  return x < limit ? 0.0f : s;
}

// Cephes' tanhf: an odd polynomial below 0.625, where 1 − 2/(e²ˣ + 1) would lose digits.
inline float tanh_approx(float x) {
  const float x2 = x * x;
  float p = -5.70498872745e-3f;
  p = p * x2 + 2.06390887954e-2f;
  p = p * x2 - 5.37397155531e-2f;
  p = p * x2 + 1.33314422036e-1f;
  p = p * x2 - 3.33332819422e-1f;
  const float small = p * x2 * x + x;
  const float large = 1.0f - 2.0f / (exp_approx(2.0f * x) + 1.0f);
  return x2 < 0.390625f ? small : large;
}

}  // namespace
