#include "runtime/policy/student.h"

#include <cmath>

namespace monet {
namespace {

// The continued fraction of the incomplete beta function by Lentz's method (NIST DLMF 8.17.22).
double BetaFraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  constexpr double kPrecision = 1e-15;
  constexpr int kMost = 10000;
  const auto nonzero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1;
  double d = 1 / nonzero(1 - (a + b) * x / (a + 1));
  double result = d;
  for (int m = 1; m < kMost; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    result *= d * c;
    if (std::abs(d * c - 1) < kPrecision) break;
  }
  return result;
}

// log Γ without the global sign of std::lgamma. REQUIRES: x > 0.
double LogGamma(double x) {
  int sign = 0;
  return lgamma_r(x, &sign);
}

// I_x(a, b), the regularised incomplete beta function.
double RegularBeta(double x, double a, double b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(LogGamma(a + b) - LogGamma(a) - LogGamma(b) + a * std::log(x) + b * std::log1p(-x));
  // The fraction converges fast on this side.
  if (x < (a + 1) / (a + b + 2)) return front * BetaFraction(x, a, b) / a;
  return 1 - front * BetaFraction(1 - x, b, a) / b;
}

}  // namespace

double StudentUpperTail(double t, double freedom) {
  const double both = RegularBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
  return t >= 0 ? both / 2 : 1 - both / 2;
}

}  // namespace monet
