// Sixteen logical fp32 lanes in portable C++. The other instruction sets must agree to the bit:
// fused multiply-add with one rounding, IEEE add, subtract, multiply, the maximum of MAXPS
// (b when either is NaN), and Sum as a tree of halves.
//
// Included only by its own translation unit, and everything is in an unnamed namespace: code built
// with one instruction set's flags must never be picked by the linker for another.
#pragma once

#include <stdint.h>

namespace monet::kernels::generic {
namespace {

constexpr int kRowTile = 1;
constexpr int kOutTile = 1;
constexpr int kSingleRowOutTile = 1;
constexpr int kColumnTile = 4;

struct Lanes {
  float v[16];
};

inline Lanes Set1(float value) {
  Lanes r;
  for (float& lane : r.v) lane = value;
  return r;
}
inline Lanes Zero() { return Set1(0); }
inline Lanes Load(const float* p) {
  Lanes r;
  __builtin_memcpy(r.v, p, sizeof(r.v));
  return r;
}
// The first n of 16 lanes, the others +0; reads nothing beyond.
inline Lanes LoadN(const float* p, int n) {
  Lanes r = Zero();
  for (int i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
}
inline Lanes LoadN(const uint16_t* p, int n) {
  Lanes r = Zero();
  for (int i = 0; i < n; ++i) {
    const uint32_t bits = static_cast<uint32_t>(p[i]) << 16;
    __builtin_memcpy(&r.v[i], &bits, sizeof(bits));
  }
  return r;
}
inline Lanes Load(const uint16_t* p) { return LoadN(p, 16); }
inline void Store(float* p, const Lanes& a) { __builtin_memcpy(p, a.v, sizeof(a.v)); }
inline void StoreN(float* p, const Lanes& a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}

inline Lanes Add(Lanes a, const Lanes& b) {
  for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
  return a;
}
inline Lanes Sub(Lanes a, const Lanes& b) {
  for (int i = 0; i < 16; ++i) a.v[i] -= b.v[i];
  return a;
}
inline Lanes Mul(Lanes a, const Lanes& b) {
  for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
  return a;
}
// a · b + c
inline Lanes Fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
inline Lanes Max(Lanes a, const Lanes& b) {
  for (int i = 0; i < 16; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
// v where x >= bound or x is NaN, else +0.
inline Lanes ZeroBelow(Lanes v, const Lanes& x, float bound) {
  for (int i = 0; i < 16; ++i) v.v[i] = x.v[i] < bound ? 0.0f : v.v[i];
  return v;
}
// Adds the low bits of n's representation to the exponent of a.
inline Lanes AddExponent(const Lanes& a, const Lanes& n) {
  uint32_t bits[16];
  uint32_t exponent[16];
  __builtin_memcpy(bits, a.v, sizeof(bits));
  __builtin_memcpy(exponent, n.v, sizeof(exponent));
  for (int i = 0; i < 16; ++i) bits[i] += exponent[i] << 23;
  Lanes r;
  __builtin_memcpy(r.v, bits, sizeof(bits));
  return r;
}

inline float Sum(Lanes a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  }
  return a.v[0];
}
inline float MaxOf(Lanes a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  }
  return a.v[0];
}

}  // namespace
}  // namespace monet::kernels::generic
