// Sixteen logical fp32 lanes as two AVX2 registers. Contract: lanes_generic.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace monet::kernels::avx2 {
namespace {

constexpr int kRowTile = 2;
constexpr int kOutTile = 2;
constexpr int kSingleRowOutTile = 4;
constexpr int kColumnTile = 4;

struct Lanes {
  __m256 lo, hi;
};

inline Lanes Set1(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Lanes Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }

// All ones in the first n of 8 lanes.
inline __m256i FirstOf8(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Lanes LoadN(const float* p, int n) {
  return {_mm256_maskload_ps(p, FirstOf8(n)), _mm256_maskload_ps(p + 8, FirstOf8(n - 8))};
}
inline __m256 Widen(__m128i bf16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
}
inline Lanes Load(const uint16_t* p) {
  return {Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline Lanes LoadN(const uint16_t* p, int n) {
  uint16_t padded[16] = {};
  for (int i = 0; i < n; ++i) padded[i] = p[i];
  return Load(padded);
}
inline void Store(float* p, const Lanes& a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline void StoreN(float* p, const Lanes& a, int n) {
  _mm256_maskstore_ps(p, FirstOf8(n), a.lo);
  _mm256_maskstore_ps(p + 8, FirstOf8(n - 8), a.hi);
}

inline Lanes Add(const Lanes& a, const Lanes& b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline Lanes Sub(const Lanes& a, const Lanes& b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline Lanes Mul(const Lanes& a, const Lanes& b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline Lanes Fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Lanes Max(const Lanes& a, const Lanes& b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline Lanes ZeroBelow(const Lanes& v, const Lanes& x, float bound) {
  const __m256 limit = _mm256_set1_ps(bound);
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.lo, limit, _CMP_LT_OQ), v.lo),
          _mm256_andnot_ps(_mm256_cmp_ps(x.hi, limit, _CMP_LT_OQ), v.hi)};
}
inline __m256 AddExponent(__m256 a, __m256 n) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}
inline Lanes AddExponent(const Lanes& a, const Lanes& n) {
  return {AddExponent(a.lo, n.lo), AddExponent(a.hi, n.hi)};
}

inline float Sum(const Lanes& a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float MaxOf(const Lanes& a) {
  const __m256 s8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

}  // namespace
}  // namespace monet::kernels::avx2
