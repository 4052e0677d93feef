#include "runtime/policy/attribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "runtime/policy/student.h"

namespace monet {
namespace {

// The sums of one label over the halves that count.
class LabelView {
 public:
  LabelView(const RoutingSums& sums, int32_t label, Halves halves) : sums_(sums), label_(label) {
    if (halves != Halves::kSecond) Include(0);
    if (halves != Halves::kFirst) Include(1);
  }

  double tokens() const { return static_cast<double>(tokens_); }
  double documents() const { return static_cast<double>(documents_); }
  double scores() const { return static_cast<double>(scores_) * kScoreUnit; }
  double score_squares() const { return static_cast<double>(score_squares_) * kScoreSquareUnit; }

  double Weight(size_t expert) const { return Sum(sums_.weights, expert) * kWeightUnit; }
  double Mean(size_t expert) const { return Sum(sums_.means, expert) * kWeightUnit; }
  double MeanSquare(size_t expert) const {
    return Sum(sums_.mean_squares, expert) * kMeanSquareUnit;
  }
  double Square(size_t expert) const { return Sum(sums_.squares, expert) * kSquareUnit; }
  double Product(size_t expert) const { return Sum(sums_.products, expert) * kWeightUnit; }
  double Active(size_t expert) const { return Sum(sums_.active, expert); }
  // Routing probability; 0 without tokens.
  double Probability(size_t expert) const { return tokens_ == 0 ? 0 : Weight(expert) / tokens(); }

 private:
  void Include(int32_t half) {
    const LabelTotals& totals = sums_.totals(label_, half);
    tokens_ += totals.tokens;
    documents_ += totals.documents;
    scores_ += totals.scores;
    score_squares_ += totals.score_squares;
    firsts_[parts_++] = sums_.First(label_, half);
  }
  template <typename T>
  double Sum(const std::vector<T>& values, size_t expert) const {
    double sum = 0;
    for (size_t part = 0; part < parts_; ++part) {
      sum += static_cast<double>(values[firsts_[part] + expert]);
    }
    return sum;
  }

  const RoutingSums& sums_;
  const int32_t label_;
  int64_t tokens_ = 0, documents_ = 0, scores_ = 0, score_squares_ = 0;
  size_t firsts_[RoutingSums::kHalves] = {};
  size_t parts_ = 0;
};

// The probability, without a difference between the labels, of as great a lead of the target. 1
// where nothing can be said: fewer than two documents, or no spread.
double WelchUpperTail(const LabelView& target, const LabelView& second, size_t expert) {
  if (target.documents() < 2 || second.documents() < 2) return 1;
  const auto mean_and_error = [&](const LabelView& label) {
    const double n = label.documents();
    const double mean = label.Mean(expert) / n;
    const double variance = (label.MeanSquare(expert) - n * mean * mean) / (n - 1);
    return std::pair(mean, std::max(variance, 0.0) / n);
  };
  const auto [target_mean, target_error] = mean_and_error(target);
  const auto [second_mean, second_error] = mean_and_error(second);
  const double error = target_error + second_error;
  if (!(error > 0)) return 1;
  const double freedom = error * error /
                         (target_error * target_error / (target.documents() - 1) +
                          second_error * second_error / (second.documents() - 1));
  return StudentUpperTail((target_mean - second_mean) / std::sqrt(error), freedom);
}

// One expert against the second label.
struct Candidate {
  size_t expert = 0;
  double p = 0;         // of the target
  double second_p = 0;  // of the second label
  double tail = 1;      // of the Welch test

  double specificity() const {
    return second_p > 0 ? p / second_p : std::numeric_limits<double>::infinity();
  }
};

// Benjamini and Hochberg: the greatest tail that is still a discovery; below 0 for none.
double DiscoveryBound(const std::vector<Candidate>& candidates, double rate) {
  std::vector<double> tails;
  for (const Candidate& candidate : candidates) tails.push_back(candidate.tail);
  std::sort(tails.begin(), tails.end());
  const auto count = static_cast<double>(tails.size());
  for (size_t k = tails.size(); k > 0; --k) {
    if (tails[k - 1] <= static_cast<double>(k) * rate / count) return tails[k - 1];
  }
  return -1;
}

class Attribution {
 public:
  Attribution(const RoutingSums& sums, const AttributionRule& rule, Halves halves)
      : sums_(sums), rule_(rule) {
    for (int32_t label = 0; label < sums.labels(); ++label) {
      labels_.emplace_back(sums, label, halves);
    }
  }

  std::vector<bool> ByLabel() const {
    std::vector<Candidate> found;
    const size_t group = sums_.cells() / static_cast<size_t>(sums_.shape().routers);
    for (size_t first = 0; first < sums_.cells(); first += group) {
      const std::vector<Candidate> discovered = Discover(first, first + group);
      found.insert(found.end(), discovered.begin(), discovered.end());
    }
    if (rule_.kind == AttributionRule::Kind::kTop) KeepTop(&found);
    std::vector<bool> selected(sums_.cells());
    for (const Candidate& candidate : found) selected[candidate.expert] = true;
    return selected;
  }

  std::vector<bool> ByCorrelation() const {
    double n = 0, t = 0, tt = 0;
    for (const LabelView& label : labels_) {
      n += label.tokens();
      t += label.scores();
      tt += label.score_squares();
    }
    std::vector<bool> selected(sums_.cells());
    for (size_t expert = 0; expert < sums_.cells(); ++expert) {
      double g = 0, gg = 0, gt = 0, active = 0;
      for (const LabelView& label : labels_) {
        g += label.Weight(expert);
        gg += label.Square(expert);
        gt += label.Product(expert);
        active += label.Active(expert);
      }
      const double spread = (n * gg - g * g) * (n * tt - t * t);
      if (active < static_cast<double>(rule_.min_tokens) || !(spread > 0)) continue;
      selected[expert] = (n * gt - g * t) / std::sqrt(spread) > rule_.threshold;
    }
    return selected;
  }

 private:
  const LabelView& target() const { return labels_[static_cast<size_t>(rule_.target)]; }

  // The experts of one router group that pass the rule and, if there is one, the test.
  std::vector<Candidate> Discover(size_t begin, size_t end) const {
    const bool tested = rule_.false_discovery_rate < 1;
    std::vector<Candidate> candidates;
    for (size_t expert = begin; expert < end; ++expert) {
      if (target().Active(expert) < static_cast<double>(rule_.min_tokens)) continue;
      Candidate candidate{expert, target().Probability(expert)};
      const LabelView* const second = SecondOf(expert);
      candidate.second_p = second->Probability(expert);
      if (tested) candidate.tail = WelchUpperTail(target(), *second, expert);
      candidates.push_back(candidate);
    }
    const double bound = tested ? DiscoveryBound(candidates, rule_.false_discovery_rate) : 1;
    std::erase_if(candidates, [&](const Candidate& candidate) {
      return candidate.tail > bound || !Passes(candidate);
    });
    return candidates;
  }

  bool Passes(const Candidate& candidate) const {
    if (rule_.kind == AttributionRule::Kind::kTop) return candidate.p > candidate.second_p;
    return candidate.p > 0 && candidate.p >= rule_.ratio * candidate.second_p;
  }

  const LabelView* SecondOf(size_t expert) const {
    const LabelView* second = nullptr;
    for (const LabelView& label : labels_) {
      if (&label == &target()) continue;
      if (second == nullptr || label.Probability(expert) > second->Probability(expert)) {
        second = &label;
      }
    }
    return second;
  }

  void KeepTop(std::vector<Candidate>* found) const {
    std::sort(found->begin(), found->end(), [](const Candidate& a, const Candidate& b) {
      return std::tuple(-a.specificity(), -a.p, a.expert) <
             std::tuple(-b.specificity(), -b.p, b.expert);
    });
    const auto most = static_cast<size_t>(rule_.top);
    if (found->size() > most) found->resize(most);
  }

  const RoutingSums& sums_;
  const AttributionRule& rule_;
  std::vector<LabelView> labels_;
};

absl::Status CheckRule(const RoutingSums& sums, const AttributionRule& rule) {
  if (rule.kind == AttributionRule::Kind::kCorrelation) {
    return sums.scored() ? absl::OkStatus() : InvalidArgument("the statistics have no scores");
  }
  if (sums.labels() < 2) return InvalidArgument("the statistics have one label only");
  if (rule.target < 0 || rule.target >= sums.labels()) {
    return InvalidArgument("target is {}, there are {} labels", rule.target, sums.labels());
  }
  if (!(rule.false_discovery_rate > 0 && rule.false_discovery_rate <= 1)) {
    return InvalidArgument("the false-discovery rate must be above 0 and at most 1");
  }
  for (int32_t label = 0; label < sums.labels(); ++label) {
    if (sums.totals(label, 0).tokens + sums.totals(label, 1).tokens == 0) {
      return InvalidArgument("label {} has no tokens", label);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<bool>> SelectExperts(const RoutingSums& sums,
                                                const AttributionRule& rule, Halves halves) {
  MONET_RETURN_IF_ERROR(CheckRule(sums, rule));
  const Attribution attribution(sums, rule, halves);
  return rule.kind == AttributionRule::Kind::kCorrelation ? attribution.ByCorrelation()
                                                          : attribution.ByLabel();
}

double JaccardOf(const std::vector<bool>& a, const std::vector<bool>& b, MaskShape shape,
                 int32_t router) {
  const size_t group = a.size() / static_cast<size_t>(shape.routers);
  int64_t both = 0, either = 0;
  for (size_t n = router * group; n < (router + 1) * group; ++n) {
    both += a[n] && b[n] ? 1 : 0;
    either += a[n] || b[n] ? 1 : 0;
  }
  return either == 0 ? 1 : static_cast<double>(both) / static_cast<double>(either);
}

}  // namespace monet
