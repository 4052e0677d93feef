// Sixteen logical fp32 lanes as one AVX-512 register. Contract: lanes_generic.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace monet::kernels::avx512 {
namespace {

constexpr int kRowTile = 4;
constexpr int kOutTile = 4;
constexpr int kSingleRowOutTile = 8;
constexpr int kColumnTile = 8;

struct Lanes {
  __m512 v;
};

inline Lanes Set1(float value) { return {_mm512_set1_ps(value)}; }
inline Lanes Zero() { return {_mm512_setzero_ps()}; }
inline __mmask16 FirstOf16(int n) { return static_cast<__mmask16>((1u << n) - 1); }
inline __m512 Widen(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}
inline Lanes Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Lanes LoadN(const float* p, int n) { return {_mm512_maskz_loadu_ps(FirstOf16(n), p)}; }
inline Lanes Load(const uint16_t* p) {
  return {Widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Lanes LoadN(const uint16_t* p, int n) {
  return {Widen(_mm256_maskz_loadu_epi16(FirstOf16(n), p))};
}
inline void Store(float* p, const Lanes& a) { _mm512_storeu_ps(p, a.v); }
inline void StoreN(float* p, const Lanes& a, int n) { _mm512_mask_storeu_ps(p, FirstOf16(n), a.v); }

inline Lanes Add(const Lanes& a, const Lanes& b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes Sub(const Lanes& a, const Lanes& b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes Mul(const Lanes& a, const Lanes& b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes Fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline Lanes Max(const Lanes& a, const Lanes& b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes ZeroBelow(const Lanes& v, const Lanes& x, float bound) {
  const __mmask16 keep = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(bound), _CMP_NLT_UQ);
  return {_mm512_maskz_mov_ps(keep, v.v)};
}
inline Lanes AddExponent(const Lanes& a, const Lanes& n) {
  return {_mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(a.v), _mm512_slli_epi32(_mm512_castps_si512(n.v), 23)))};
}

inline float Sum(const Lanes& a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float MaxOf(const Lanes& a) {
  const __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

}  // namespace
}  // namespace monet::kernels::avx512
