// Student's t-distribution, for the tests of attribution rules.
#pragma once

namespace monet {

// P(T >= t) for `freedom` degrees of freedom, with an absolute error below 1e-10 for up to
// 1000 of them and below 1e-8 for up to a million. REQUIRES: freedom > 0, t finite.
double StudentUpperTail(double t, double freedom);

}  // namespace monet
