// Rules that say which experts serve a label, from sums over labelled documents. Deterministic.
//
// p(l) of an expert is its routing probability Σg / tokens on label l; t is the target, s the
// second label: of the others the one with the greatest p, the first of equal ones.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/expert_mask.h"
#include "runtime/policy/routing_sums.h"

namespace monet {

struct AttributionRule {
  enum class Kind : uint8_t {
    kRatio,        // p(t) > 0 and p(t) >= ratio · p(s)
    kTop,          // the `top` experts with the greatest p(t) / p(s), among those with p(t) > p(s);
                   // of equal ones the greater p(t), then the lower number first
    kCorrelation,  // Pearson's r between g and the token's score above `threshold`; all labels
  };

  Kind kind = Kind::kRatio;
  int32_t target = 0;  // label; not of kCorrelation
  double ratio = 2;
  int64_t top = 0;
  double threshold = 0;
  // Tokens with g > 0 that an expert needs (of the target; for kCorrelation of all labels).
  int64_t min_tokens = 30;
  // False-discovery rate, (0, 1], of a one-sided Welch test on documents' mean g, t against s, by
  // Benjamini and Hochberg's procedure over the experts of a router group that have min_tokens; 1:
  // no test. Not of kCorrelation. With min_tokens 0 and 1 here the rule is the paper's.
  double false_discovery_rate = 0.05;
};

// Which documents count.
enum class Halves : uint8_t { kBoth, kFirst, kSecond };

// The experts by the rule, as flags (R, E²), router 0 first. Errors: INVALID_ARGUMENT for a rule
// that the sums cannot serve: fewer than two labels, no scores, a target without tokens.
absl::StatusOr<std::vector<bool>> SelectExperts(const RoutingSums& sums,
                                                const AttributionRule& rule,
                                                Halves halves = Halves::kBoth);

// Of the experts chosen by either, the share chosen by both; 1 when neither chooses any. One router
// group.
double JaccardOf(const std::vector<bool>& a, const std::vector<bool>& b, MaskShape shape,
                 int32_t router);

}  // namespace monet
