#include "runtime/policy/routing_sums.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <tuple>
#include <vector>

namespace monet {
namespace {

constexpr MaskShape kShape{2, 5};
constexpr int32_t kLabels = 3;

// A document as lists, one for each token.
struct Document {
  struct Active {
    int32_t router, i, j;
    double weight;
  };
  int32_t label = 0, half = 0;
  double score = 0;
  std::vector<std::vector<Active>> tokens;
};

std::vector<Document> RandomDocuments(std::mt19937& random) {
  std::vector<Document> documents(40);
  for (Document& document : documents) {
    document.label = static_cast<int32_t>(random() % kLabels);
    document.half = static_cast<int32_t>(random() % 2);
    document.score = static_cast<double>(random() % 2001) / 1000 - 1;
    document.tokens.resize(1 + random() % 30);
    for (auto& token : document.tokens) {
      for (int32_t expert = 0; expert < 50; ++expert) {
        if (random() % 4 != 0) continue;
        const double weight = static_cast<double>(random()) / 1e9;  // up to 4.3
        token.push_back({expert / 25, expert % 25 / 5, expert % 5, random() % 9 == 0 ? 0 : weight});
      }
    }
  }
  return documents;
}

RoutingSums SumsOf(const std::vector<Document>& documents, bool scored) {
  RoutingSums sums(kShape, kLabels, scored);
  DocumentRouting routing(kShape);
  for (const Document& document : documents) {
    routing.Clear();
    for (const auto& token : document.tokens) {
      routing.AddToken();
      for (const auto& active : token)
        routing.Add(active.router, active.i, active.j, active.weight);
    }
    EXPECT_TRUE(sums.Add(document.label, document.half, routing, document.score).ok());
  }
  return sums;
}

// The definition, in double.
TEST(RoutingSumsTest, AgreesWithTheDefinition) {
  std::mt19937 random(1);
  const auto documents = RandomDocuments(random);
  const RoutingSums sums = SumsOf(documents, true);
  for (int32_t label = 0; label < kLabels; ++label) {
    for (int32_t half = 0; half < 2; ++half) {
      LabelTotals totals;
      double scores = 0, score_squares = 0;
      std::vector<double> g(50), mean(50), mean2(50), g2(50), gt(50);
      std::vector<uint32_t> active(50);
      for (const Document& document : documents) {
        if (document.label != label || document.half != half) continue;
        const auto tokens = static_cast<double>(document.tokens.size());
        ++totals.documents;
        totals.tokens += std::ssize(document.tokens);
        scores += document.score * tokens;
        score_squares += document.score * document.score * tokens;
        std::vector<double> own(50);
        for (const auto& token : document.tokens) {
          for (const auto& a : token) {
            const int32_t expert = a.router * 25 + a.i * 5 + a.j;
            own[expert] += a.weight;
            g2[expert] += a.weight * a.weight;
            gt[expert] += a.weight * document.score;
            active[expert] += a.weight > 0 ? 1 : 0;
          }
        }
        for (int32_t expert = 0; expert < 50; ++expert) {
          g[expert] += own[expert];
          mean[expert] += own[expert] / tokens;
          mean2[expert] += own[expert] / tokens * own[expert] / tokens;
        }
      }
      EXPECT_EQ(sums.totals(label, half).documents, totals.documents);
      EXPECT_EQ(sums.totals(label, half).tokens, totals.tokens);
      const auto& got = sums.totals(label, half);
      EXPECT_NEAR(static_cast<double>(got.scores) * kScoreUnit, scores, 1e-3);
      EXPECT_NEAR(static_cast<double>(got.score_squares) * kScoreSquareUnit, score_squares, 1e-3);
      for (size_t expert = 0; expert < 50; ++expert) {
        const size_t at = sums.First(label, half) + expert;
        EXPECT_NEAR(static_cast<double>(sums.weights[at]) * kWeightUnit, g[expert], 1e-6);
        EXPECT_NEAR(static_cast<double>(sums.means[at]) * kWeightUnit, mean[expert], 1e-7);
        EXPECT_NEAR(static_cast<double>(sums.mean_squares[at]) * kMeanSquareUnit, mean2[expert],
                    1e-7);
        EXPECT_NEAR(static_cast<double>(sums.squares[at]) * kSquareUnit, g2[expert], 1e-6);
        EXPECT_NEAR(static_cast<double>(sums.products[at]) * kWeightUnit, gt[expert], 2e-3);
        EXPECT_EQ(sums.active[at], active[expert]);
      }
    }
  }
}

TEST(RoutingSumsTest, OrderChangesNoBit) {
  std::mt19937 random(2);
  auto documents = RandomDocuments(random);
  const RoutingSums sums = SumsOf(documents, true);
  for (int n = 0; n < 5; ++n) {
    std::shuffle(documents.begin(), documents.end(), random);
    const RoutingSums other = SumsOf(documents, true);
    EXPECT_EQ(other.weights, sums.weights);
    EXPECT_EQ(other.means, sums.means);
    EXPECT_EQ(other.mean_squares, sums.mean_squares);
    EXPECT_EQ(other.active, sums.active);
    EXPECT_EQ(other.squares, sums.squares);
    EXPECT_EQ(other.products, sums.products);
    for (int32_t label = 0; label < kLabels; ++label) {
      EXPECT_EQ(other.totals(label, 1), sums.totals(label, 1));
    }
  }
  const RoutingSums plain = SumsOf(documents, false);
  EXPECT_EQ(plain.weights, sums.weights);
  EXPECT_TRUE(plain.squares.empty() && plain.products.empty());
  EXPECT_EQ(RoutingSums::Bytes(kShape, kLabels, false), 50 * 3 * 2 * 28);
  EXPECT_EQ(RoutingSums::Bytes(kShape, kLabels, true), 50 * 3 * 2 * 44);
}

TEST(RoutingSumsTest, SumsNeverWrap) {
  RoutingSums sums(kShape, 1, true);
  DocumentRouting routing(kShape);
  routing.AddToken();
  routing.Add(1, 4, 4, kMaxCollectedWeight);
  // The square of the mean is 2^14, in units of 2^-48.
  sums.mean_squares[49] = UINT64_MAX - (uint64_t{1} << 62) + 1;
  EXPECT_FALSE(sums.Add(0, 0, routing, kMaxCollectedScore).ok());
  RoutingSums scores(kShape, 1, true);
  scores.totals(0, 1).score_squares = INT64_MAX - 1;
  EXPECT_EQ(scores.Add(0, 1, routing, -1).code(), absl::StatusCode::kOutOfRange);
  RoutingSums products(kShape, 1, true);
  products.products[49] = INT64_MIN + 1;
  EXPECT_FALSE(products.Add(0, 0, routing, -1).ok());
  EXPECT_TRUE(products.Add(0, 1, routing, -1).ok());
  // Within one document.
  DocumentRouting document(kShape);
  for (int token = 0; token < 1024; ++token) {
    document.AddToken();
    document.Add(0, 0, 0, kMaxCollectedWeight);
  }
  RoutingSums full(kShape, 1, false);
  EXPECT_FALSE(full.Add(0, 0, document).ok());
  document.Clear();
  document.AddToken();
  EXPECT_TRUE(full.Add(0, 1, document).ok());
}

}  // namespace
}  // namespace monet
