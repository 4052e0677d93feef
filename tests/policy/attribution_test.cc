// The rules against their definitions, written out over the documents themselves.
#include "runtime/policy/attribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "runtime/policy/student.h"

namespace monet {
namespace {

constexpr MaskShape kShape{2, 4};
constexpr int32_t kLabels = 3;
constexpr size_t kExperts = 32;  // R·E²

struct Document {
  int32_t label = 0, half = 0;
  double score = 0;
  std::vector<std::array<double, kExperts>> tokens;
};

// Every expert leans to a label, some strongly, some not at all.
std::vector<Document> Make(uint32_t seed, int documents = 60) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<Document> made(static_cast<size_t>(documents));
  for (Document& document : made) {
    document.label = static_cast<int32_t>(random() % kLabels);
    document.half = static_cast<int32_t>(random() % 2);
    document.score = std::round(unit(random) * 1024) / 1024;
    document.tokens.resize(3 + random() % 8);
    for (auto& token : document.tokens) {
      token.fill(0);
      for (size_t expert = 0; expert < kExperts; ++expert) {
        if (unit(random) > 0.5) continue;
        const double lean = document.label == static_cast<int32_t>(expert % kLabels)
                                ? static_cast<double>(expert) / 8
                                : 0;
        // Exact in 2^-20, so that fixed point loses nothing.
        const double weight = unit(random) * (1 + lean + (expert % 5 == 0 ? document.score : 0));
        token[expert] = std::round(weight * 0x1p20) * 0x1p-20;
      }
    }
  }
  return made;
}

RoutingSums SumsOf(const std::vector<Document>& documents, bool scored) {
  RoutingSums sums(kShape, kLabels, scored);
  DocumentRouting routing(kShape);
  for (const Document& document : documents) {
    routing.Clear();
    for (const auto& token : document.tokens) {
      routing.AddToken();
      for (int32_t expert = 0; expert < static_cast<int32_t>(kExperts); ++expert) {
        routing.Add(expert / 16, expert % 16 / 4, expert % 4, token[static_cast<size_t>(expert)]);
      }
    }
    EXPECT_TRUE(sums.Add(document.label, document.half, routing, document.score).ok());
  }
  return sums;
}

// What the rules need to know of an expert and a label.
struct Facts {
  double probability = 0;
  int64_t active = 0;
  std::vector<double> means;  // of documents
};

Facts FactsOf(const std::vector<Document>& documents, int32_t label, size_t expert) {
  Facts facts;
  double sum = 0;
  double tokens = 0;
  for (const Document& document : documents) {
    if (document.label != label) continue;
    double own = 0;
    for (const auto& token : document.tokens) {
      own += token[expert];
      facts.active += token[expert] > 0 ? 1 : 0;
    }
    sum += own;
    tokens += static_cast<double>(document.tokens.size());
    facts.means.push_back(own / static_cast<double>(document.tokens.size()));
  }
  facts.probability = sum / tokens;
  return facts;
}

// By the textbook.
double Welch(const std::vector<double>& a, const std::vector<double>& b) {
  const auto moments = [](const std::vector<double>& values) {
    double mean = 0, variance = 0;
    for (double value : values) mean += value / static_cast<double>(values.size());
    for (double value : values) variance += (value - mean) * (value - mean);
    return std::pair(mean, variance / static_cast<double>(values.size() - 1));
  };
  const auto [mean_a, variance_a] = moments(a);
  const auto [mean_b, variance_b] = moments(b);
  const auto n_a = static_cast<double>(a.size()), n_b = static_cast<double>(b.size());
  const double va = variance_a / n_a, vb = variance_b / n_b;
  const double freedom = (va + vb) * (va + vb) / (va * va / (n_a - 1) + vb * vb / (n_b - 1));
  return StudentUpperTail((mean_a - mean_b) / std::sqrt(va + vb), freedom);
}

struct Judged {
  size_t expert;
  double p, second, tail;
};

// Experts of one router that have enough tokens.
std::vector<Judged> Judge(const std::vector<Document>& documents, const AttributionRule& rule,
                          size_t router) {
  std::vector<Judged> judged;
  for (size_t expert = router * 16; expert < router * 16 + 16; ++expert) {
    const Facts target = FactsOf(documents, rule.target, expert);
    if (target.active < rule.min_tokens) continue;
    Facts second{.probability = -1};
    for (int32_t label = 0; label < kLabels; ++label) {
      if (label == rule.target) continue;
      const Facts other = FactsOf(documents, label, expert);
      if (other.probability > second.probability) second = other;
    }
    judged.push_back(
        {expert, target.probability, second.probability, Welch(target.means, second.means)});
  }
  return judged;
}

bool IsDiscovery(const Judged& one, const std::vector<Judged>& all, double rate) {
  if (rate == 1) return true;
  // There is a k with k tails at or below k·rate/m, and this one is among them.
  for (size_t k = 1; k <= all.size(); ++k) {
    const double bound = static_cast<double>(k) * rate / static_cast<double>(all.size());
    const auto below = std::count_if(all.begin(), all.end(),
                                     [&](const Judged& other) { return other.tail <= bound; });
    if (below >= static_cast<std::ptrdiff_t>(k) && one.tail <= bound) return true;
  }
  return false;
}

std::vector<bool> ByDefinition(const std::vector<Document>& documents,
                               const AttributionRule& rule) {
  std::vector<Judged> found;
  for (size_t router = 0; router < 2; ++router) {
    const auto judged = Judge(documents, rule, router);
    for (const Judged& one : judged) {
      const bool passes = rule.kind == AttributionRule::Kind::kTop
                              ? one.p > one.second
                              : one.p >= rule.ratio * one.second;
      if (passes && IsDiscovery(one, judged, rule.false_discovery_rate)) found.push_back(one);
    }
  }
  if (rule.kind == AttributionRule::Kind::kTop) {
    std::sort(found.begin(), found.end(),
              [](const Judged& a, const Judged& b) { return a.p / a.second > b.p / b.second; });
    found.resize(std::min(found.size(), static_cast<size_t>(rule.top)));
  }
  std::vector<bool> selected(kExperts);
  for (const Judged& one : found) selected[one.expert] = true;
  return selected;
}

std::vector<bool> Select(const RoutingSums& sums, const AttributionRule& rule,
                         Halves halves = Halves::kBoth) {
  const auto selected = SelectExperts(sums, rule, halves);
  EXPECT_TRUE(selected.ok()) << Message(selected.status());
  return selected.ok() ? *selected : std::vector<bool>();
}

int64_t Count(const std::vector<bool>& selected) {
  return std::count(selected.begin(), selected.end(), true);
}

TEST(AttributionTest, RulesAreTheirDefinitions) {
  std::vector<int64_t> counts;
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    const auto documents = Make(seed);
    const RoutingSums sums = SumsOf(documents, false);
    for (int32_t target = 0; target < kLabels; ++target) {
      for (const double rate : {1.0, 0.2, 0.05, 1e-6}) {
        for (const int64_t min_tokens : {int64_t{0}, int64_t{30}, int64_t{75}}) {
          AttributionRule rule{.target = target,
                               .ratio = 1.5,
                               .min_tokens = min_tokens,
                               .false_discovery_rate = rate};
          EXPECT_EQ(Select(sums, rule), ByDefinition(documents, rule)) << seed << " " << rate;
          counts.push_back(Count(Select(sums, rule)));
          rule.kind = AttributionRule::Kind::kTop;
          rule.top = 3;
          EXPECT_EQ(Select(sums, rule), ByDefinition(documents, rule)) << seed << " " << rate;
          EXPECT_LE(Count(Select(sums, rule)), 3);
        }
      }
    }
  }
  std::sort(counts.begin(), counts.end());
  EXPECT_EQ(counts.front(), 0);
  EXPECT_GT(counts.back(), 4);
}

TEST(AttributionTest, HalvesAreDocumentsOfTheHalf) {
  const auto documents = Make(3, 120);
  const RoutingSums sums = SumsOf(documents, false);
  const AttributionRule rule{.target = 2, .ratio = 1.3, .min_tokens = 5};
  std::vector<std::vector<bool>> halves;
  for (int32_t half = 0; half < 2; ++half) {
    std::vector<Document> own;
    for (const Document& document : documents) {
      if (document.half == half) own.push_back(document);
    }
    halves.push_back(Select(sums, rule, half == 0 ? Halves::kFirst : Halves::kSecond));
    EXPECT_EQ(halves.back(), ByDefinition(own, rule));
  }
  int64_t both = 0, either = 0;
  for (size_t expert = 16; expert < 32; ++expert) {
    both += halves[0][expert] && halves[1][expert] ? 1 : 0;
    either += halves[0][expert] || halves[1][expert] ? 1 : 0;
  }
  ASSERT_GT(both, 0);
  EXPECT_EQ(JaccardOf(halves[0], halves[1], kShape, 1),
            static_cast<double>(both) / static_cast<double>(either));
  EXPECT_EQ(JaccardOf(std::vector<bool>(32), std::vector<bool>(32), kShape, 0), 1);
}

TEST(AttributionTest, CorrelationIsPearsons) {
  const auto documents = Make(5);
  const RoutingSums sums = SumsOf(documents, true);
  int64_t selected = 0;
  for (const double threshold : {-0.1, 0.0, 0.05, 0.1}) {
    const AttributionRule rule{
        .kind = AttributionRule::Kind::kCorrelation, .threshold = threshold, .min_tokens = 190};
    const auto found = Select(sums, rule);
    selected += Count(found);
    for (size_t expert = 0; expert < kExperts; ++expert) {
      double n = 0, mean_g = 0, mean_t = 0, active = 0;
      for (const Document& document : documents) {
        for (const auto& token : document.tokens) {
          ++n;
          mean_g += token[expert];
          mean_t += document.score;
          active += token[expert] > 0 ? 1 : 0;
        }
      }
      mean_g /= n;
      mean_t /= n;
      double gt = 0, gg = 0, tt = 0;
      for (const Document& document : documents) {
        for (const auto& token : document.tokens) {
          gt += (token[expert] - mean_g) * (document.score - mean_t);
          gg += (token[expert] - mean_g) * (token[expert] - mean_g);
          tt += (document.score - mean_t) * (document.score - mean_t);
        }
      }
      EXPECT_EQ(found[expert], active >= 190 && gt / std::sqrt(gg * tt) > threshold) << expert;
    }
  }
  EXPECT_GT(selected, 0);
}

// What comes of labels that mean nothing: the paper's rule finds experts, the test next to none.
TEST(AttributionTest, ShuffledLabelsAreNull) {
  int64_t by_paper = 0, tested = 0;
  std::mt19937 random(9);
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    auto documents = Make(seed, 30);
    for (Document& document : documents) document.label = static_cast<int32_t>(random() % kLabels);
    const RoutingSums sums = SumsOf(documents, false);
    AttributionRule rule{.ratio = 1.1, .min_tokens = 0, .false_discovery_rate = 1};
    by_paper += Count(Select(sums, rule));
    rule.false_discovery_rate = 0.05;
    tested += Count(Select(sums, rule));
  }
  EXPECT_GT(by_paper, 50);
  EXPECT_LE(tested, 5);
}

TEST(AttributionTest, RefusesWhatCannotBe) {
  const RoutingSums sums = SumsOf(Make(1), false);
  const auto code = [](const RoutingSums& of, const AttributionRule& rule) {
    return SelectExperts(of, rule).status().code();
  };
  const auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(sums, {.kind = AttributionRule::Kind::kCorrelation}), kBad);
  EXPECT_EQ(code(sums, {.target = 3}), kBad);
  EXPECT_EQ(code(sums, {.false_discovery_rate = 0}), kBad);
  EXPECT_EQ(code(sums, {.false_discovery_rate = 1.1}), kBad);
  EXPECT_EQ(code(RoutingSums(kShape, 1, false), {}), kBad);
  EXPECT_EQ(code(RoutingSums(kShape, 2, false), {}), kBad);
  EXPECT_EQ(code(sums, {}), absl::StatusCode::kOk);
}

TEST(StudentTest, TabulatedValues) {
  // Critical values of the usual tables: upper tail, degrees of freedom, t.
  const std::array<double, 3> rows[] = {
      {0.05, 1, 6.313751514675043}, {0.025, 2, 4.302652729911275}, {0.05, 10, 1.8124611228107335},
      {0.01, 30, 2.457261542407},   {0.001, 5, 5.893429531356011}, {0.4, 3, 0.2766706623326899}};
  for (const auto& [tail, freedom, t] : rows) {
    EXPECT_NEAR(StudentUpperTail(t, freedom), tail, 1e-10) << freedom;
    EXPECT_NEAR(StudentUpperTail(-t, freedom), 1 - tail, 1e-10) << freedom;
  }
  EXPECT_NEAR(StudentUpperTail(1, 1), 0.25, 1e-12);  // Cauchy
  // Nearly normal: φ(z)·(z³ + z) / 4ν is what is left.
  EXPECT_NEAR(StudentUpperTail(1.6448536269514722, 1e6), 0.05 + 1.5716e-7, 1e-8);
  EXPECT_EQ(StudentUpperTail(0, 7.5), 0.5);
  EXPECT_GT(StudentUpperTail(40, 50), 0);
  EXPECT_LT(StudentUpperTail(40, 50), 1e-30);
}

}  // namespace
}  // namespace monet
