#include "runtime/sample/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "runtime/base/status.h"
#include "runtime/sample/philox.h"

namespace monet {
namespace {

using Words = std::array<uint32_t, 4>;

// Random123's own known answers (tests/kat_vectors, "philox4x32 10").
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformAt, UsesEveryBitOfItsArguments) {
  EXPECT_EQ(UniformAt(0, 0, 0), static_cast<double>(0x6627e8d5e169c58d >> 11) * 0x1p-53);
  std::set<double> seen;
  seen.insert(UniformAt(0, 0, 0));
  for (int bit = 0; bit < 64; ++bit) {
    seen.insert(UniformAt(uint64_t{1} << bit, 0, 0));
    seen.insert(UniformAt(0, 0, uint64_t{1} << bit));
    if (bit < 32) seen.insert(UniformAt(0, uint32_t{1} << bit, 0));
  }
  EXPECT_EQ(seen.size(), 1u + 64 + 64 + 32);
}

TEST(UniformAt, IsUniformOverPositions) {
  constexpr int kBins = 64;
  constexpr int kDraws = 64000;
  std::vector<int> bins(kBins);
  for (int n = 0; n < kDraws; ++n) {
    const double u = UniformAt(7, 0, n);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<int>(u * kBins)];
  }
  double chi2 = 0;
  for (int count : bins) chi2 += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi2, 121.1);  // 63 degrees of freedom, p = 1e-5
}

// What a sequence holds, for the reference.
struct Sequence {
  std::vector<int32_t> prompt;
  std::vector<int32_t> generated;
  std::vector<int32_t> forbidden;
};

// Bias, penalties and forbidden tokens, token by token, straight from their definitions.
std::vector<double> ReferenceLogits(const std::vector<float>& logits, const SamplingParams& params,
                                    const Sequence& sequence) {
  std::vector<double> result(logits.begin(), logits.end());
  for (size_t n = 0; n < result.size(); ++n) {
    const auto id = static_cast<int32_t>(n);
    double& logit = result[n];
    for (const LogitBias& entry : params.logit_bias) {
      if (entry.id == id) logit += entry.bias;
    }
    const auto times = [id](const std::vector<int32_t>& ids) {
      return std::count(ids.begin(), ids.end(), id);
    };
    const auto generated = times(sequence.generated);
    if (generated + times(sequence.prompt) > 0) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    logit -= params.frequency_penalty * static_cast<double>(generated);
    if (generated > 0) logit -= params.presence_penalty;
    if (times(sequence.forbidden) > 0) logit = -std::numeric_limits<double>::infinity();
  }
  return result;
}

// The definitions, word by word: probabilities of what the filters leave, by token id.
std::vector<double> ReferenceDistribution(const std::vector<float>& raw,
                                          const SamplingParams& params,
                                          const Sequence& sequence = {}) {
  const std::vector<double> logits = ReferenceLogits(raw, params, sequence);
  const size_t vocabulary = logits.size();
  std::vector<size_t> order(vocabulary);
  for (size_t id = 0; id < vocabulary; ++id) order[id] = id;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> result(vocabulary, 0.0);
  if (params.temperature == 0) {
    result[order[0]] = 1;
    return result;
  }
  const double best = logits[order[0]];
  const auto relative = [&](size_t id) {
    return std::exp((logits[id] - best) / params.temperature);
  };
  while (relative(order.back()) < params.min_p) order.pop_back();
  if (params.top_k > 0) order.resize(std::min<size_t>(order.size(), params.top_k));
  double total = 0;
  for (size_t id : order) total += relative(id);
  double cumulative = 0;
  double kept = 0;
  for (size_t id : order) {
    if (params.top_p < 1 && cumulative >= params.top_p) break;
    const double p = relative(id) / total;
    cumulative += p;
    kept += p;
    result[id] = p;
  }
  for (double& p : result) p /= kept;
  return result;
}

std::vector<float> RandomLogits(uint32_t seed, size_t vocabulary) {
  std::mt19937 random(seed);
  std::vector<float> logits(vocabulary);
  // Quarters, so that ties happen.
  for (float& logit : logits) logit = static_cast<float>(static_cast<int>(random() % 33) - 16) / 4;
  return logits;
}

// p = 1e-6 quantile of chi-square by Wilson and Hilferty.
double ChiSquareLimit(int degrees) {
  const double a = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1 - a + 4.7534 * std::sqrt(a), 3);
}

// What changes from draw to draw.
enum class Along { kPositions, kSamples, kSeeds };

// Draws many times and holds the frequencies against the expected probabilities.
void ExpectDraws(const std::vector<float>& logits, const SamplingParams& params,
                 const Sequence& sequence, uint64_t seed, Along along = Along::kPositions) {
  TokenHistory history;
  history.AddPrompt(sequence.prompt);
  for (int32_t id : sequence.generated) history.AddGenerated(id);
  const SequenceContext context = {&history, sequence.forbidden};
  const std::vector<double> expected = ReferenceDistribution(logits, params, sequence);
  constexpr int kDraws = 20000;
  Sampler sampler;
  std::vector<int> counts(logits.size());
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto n = [&](Along axis) { return static_cast<uint32_t>(axis == along ? draw : 0); };
    ++counts[sampler
                 .Sample(logits, params, context, seed + n(Along::kSeeds), n(Along::kSamples),
                         n(Along::kPositions))
                 .id];
  }
  double chi2 = 0;
  int degrees = -1;
  for (size_t id = 0; id < logits.size(); ++id) {
    const double mean = expected[id] * kDraws;
    if (expected[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered out";
    } else if (mean < 5) {  // too rare for the approximation, but not for ever
      EXPECT_LT(counts[id], 40) << "token " << id;
    } else {
      ++degrees;
      chi2 += (counts[id] - mean) * (counts[id] - mean) / mean;
    }
  }
  if (degrees > 0) {
    EXPECT_LT(chi2, ChiSquareLimit(degrees));
  }
}

TEST(SampleToken, DrawsFromTheReferenceDistribution) {
  const std::vector<SamplingParams> cases = {
      {1.0, 0, 1.0}, {0.5, 0, 1.0}, {2.5, 0, 1.0}, {1.0, 5, 1.0},  {1.0, 1, 1.0},  {1.0, 24, 1.0},
      {1.0, 0, 0.9}, {1.0, 0, 0.3}, {0.7, 6, 0.8}, {1.5, 24, 0.5}, {1.0, 0, 1e-9}, {0.0, 0, 1.0}};
  for (size_t n = 0; n < cases.size(); ++n) {
    SCOPED_TRACE(n);
    ExpectDraws(RandomLogits(static_cast<uint32_t>(n), 24), cases[n], {}, 1234 + n);
  }
}

TEST(SampleToken, DrawsFromTheReferenceDistributionOverCompletionsAndSeeds) {
  for (const Along along : {Along::kSamples, Along::kSeeds}) {
    for (uint32_t n = 0; n < 6; ++n) {
      SCOPED_TRACE(n);
      ExpectDraws(RandomLogits(n + 20, 24), {}, {}, 5678 + n, along);
    }
  }
}

// Two completions of a call (n), two neighbouring seeds, two positions: the pair is as frequent as
// the product says.
TEST(SampleToken, NeighboursAreIndependent) {
  const std::vector<float> logits = {0, 0, 0, 0};
  constexpr int kDraws = 20000;
  for (const Along along : {Along::kPositions, Along::kSamples, Along::kSeeds}) {
    std::vector<int> counts(16);
    for (int draw = 0; draw < kDraws; ++draw) {
      const auto id = [&](uint32_t next) {
        const auto n = [&](Along axis) { return axis == along ? next : 0; };
        return Sampler()
            .Sample(logits, {}, {}, 1000 + 2 * draw + n(Along::kSeeds), n(Along::kSamples),
                    n(Along::kPositions))
            .id;
      };
      ++counts[4 * id(0) + id(1)];
    }
    double chi2 = 0;
    for (int count : counts) chi2 += std::pow(count - kDraws / 16.0, 2) / (kDraws / 16.0);
    EXPECT_LT(chi2, ChiSquareLimit(15)) << static_cast<int>(along);
  }
}

TEST(SampleToken, DrawsFromTheReferenceDistributionWithMinP) {
  const std::vector<SamplingParams> cases = {
      {1.0, 0, 1.0, 0.2},  {1.0, 0, 1.0, 1.0}, {2.0, 0, 1.0, 0.5}, {0.5, 0, 1.0, 0.05},
      {1.0, 3, 1.0, 0.05}, {1.0, 0, 0.8, 0.1}, {1.5, 4, 0.7, 0.3}, {1.0, 0, 1.0, 1e-9}};
  for (size_t n = 0; n < cases.size(); ++n) {
    SCOPED_TRACE(n);
    ExpectDraws(RandomLogits(static_cast<uint32_t>(n + 50), 24), cases[n], {}, 77 + n);
  }
}

TEST(SampleToken, DrawsFromTheReferenceDistributionWithBiasAndPenalties) {
  const Sequence sequence = {{1, 2, 3, 3, 9}, {3, 5, 5, 5, 7, 11}, {}};
  std::vector<SamplingParams> cases(10);
  cases[0].presence_penalty = 1.5;
  cases[1].presence_penalty = -2;
  cases[2].frequency_penalty = 0.7;
  cases[3].frequency_penalty = -0.5;
  cases[4].repetition_penalty = 1.8;
  cases[5].repetition_penalty = 0.4;
  cases[6].logit_bias = {{0, 2.5}, {5, -100}, {23, 1}};
  cases[7].logit_bias = {{4, 100}};
  for (size_t n : {8, 9}) {  // all at once
    cases[n].repetition_penalty = 1.3;
    cases[n].presence_penalty = 0.3;
    cases[n].frequency_penalty = 0.2;
    cases[n].logit_bias = {{3, 1.5}, {7, -1}};
    cases[n].temperature = 1.4;
    cases[n].min_p = 0.02;
  }
  cases[9].top_k = 12;
  cases[9].top_p = 0.9;
  for (size_t n = 0; n < cases.size(); ++n) {
    SCOPED_TRACE(n);
    ExpectDraws(RandomLogits(static_cast<uint32_t>(n + 100), 24), cases[n], sequence, 4321 + n);
    Sequence forbids = sequence;
    forbids.forbidden = {0, 3, 4, 20, 24, -1, 1000};  // the last three are no ids of it
    ExpectDraws(RandomLogits(static_cast<uint32_t>(n + 150), 24), cases[n], forbids, 99 + n);
  }
}

TEST(SampleToken, GreedyFollowsBiasPenaltiesAndForbiddenTokens) {
  const std::vector<float> logits = {1, 4, 3.5, -1};
  SamplingParams greedy;
  greedy.temperature = 0;
  const auto choose = [&](const SamplingParams& params, const Sequence& sequence) {
    TokenHistory history;
    history.AddPrompt(sequence.prompt);
    for (int32_t id : sequence.generated) history.AddGenerated(id);
    const SequenceContext context = {&history, sequence.forbidden};
    return Sampler().Sample(logits, params, context, 1, 0, 0);
  };
  EXPECT_EQ(choose(greedy, {}).id, 1);
  EXPECT_EQ(choose(greedy, {{}, {}, {1}}).id, 2);
  SamplingParams params = greedy;
  params.presence_penalty = 1;
  EXPECT_EQ(choose(params, {{1}, {}, {}}).id, 1);  // the prompt does not count
  EXPECT_EQ(choose(params, {{}, {1}, {}}).id, 2);
  EXPECT_EQ(choose(params, {{}, {1, 1, 1, 2}, {}}).id, 1);  // once, however often
  params = greedy;
  params.frequency_penalty = 0.4;
  EXPECT_EQ(choose(params, {{1, 1}, {1}, {}}).id, 1);
  EXPECT_EQ(choose(params, {{}, {1, 1}, {}}).id, 2);
  params = greedy;
  params.repetition_penalty = 1.5;
  EXPECT_EQ(choose(params, {{1}, {}, {}}).id, 2);  // the prompt counts
  params = greedy;
  params.logit_bias = {{3, 5.5}};
  EXPECT_EQ(choose(params, {}).id, 3);
  // What is told is the model's own log-probability all the same.
  EXPECT_EQ(choose(params, {}).logprob, LogProb(logits, 3));
}

TEST(SampleToken, InvertsTheCumulativeSumExactly) {
  // The same uniform number, the cumulative sum by hand: equal choices, not only equal frequencies.
  const std::vector<float> logits = RandomLogits(99, 50);
  const std::vector<double> p = ReferenceDistribution(logits, {});
  for (uint64_t position = 0; position < 2000; ++position) {
    const double u = UniformAt(5, 3, position);
    double sum = 0;
    int32_t expected = 0;
    while (sum + p[expected] <= u) sum += p[expected++];
    EXPECT_EQ(SampleToken(logits, {}, 5, 3, position).id, expected);
  }
}

TEST(SampleToken, GreedyTakesTheLowestIdOfATie) {
  SamplingParams greedy;
  greedy.temperature = 0;
  EXPECT_EQ(SampleToken(std::vector<float>{1, 3, 2, 3}, greedy, 1, 0, 0).id, 1);
  EXPECT_EQ(SampleToken(std::vector<float>{-0.0f, 0.0f}, greedy, 1, 0, 0).id, 0);
}

TEST(SampleToken, CutsTiesByLowerIdFirst) {
  const std::vector<float> logits(10, 0.5f);
  std::set<int32_t> by_k;
  std::set<int32_t> by_p;
  for (uint64_t position = 0; position < 500; ++position) {
    by_k.insert(SampleToken(logits, {1.0, 3, 1.0}, 1, 0, position).id);
    by_p.insert(SampleToken(logits, {1.0, 0, 0.35}, 1, 0, position).id);
  }
  EXPECT_EQ(by_k, (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(by_p, (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(SampleToken, ReportsTheModelsOwnLogProbability) {
  const std::vector<float> logits = RandomLogits(3, 100);
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit));
  for (uint64_t position = 0; position < 100; ++position) {
    const SampledToken token = SampleToken(logits, {0.3, 20, 0.7}, 9, 0, position);
    EXPECT_NEAR(token.logprob, logits[token.id] - std::log(sum), 1e-6);
    EXPECT_EQ(token.logprob, LogProb(logits, token.id));
  }
}

TEST(Sampler, TopIsTheMostProbableWithTheModelsLogProbabilities) {
  Sampler sampler;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> logits = RandomLogits(seed, 40);  // with ties
    std::vector<int32_t> order(40);
    for (int32_t id = 0; id < 40; ++id) order[id] = id;
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    for (int32_t count : {0, 1, 7, 40, 50}) {
      const std::vector<SampledToken> top = sampler.Top(logits, count);
      ASSERT_EQ(top.size(), static_cast<size_t>(std::min(count, 40)));
      for (size_t n = 0; n < top.size(); ++n) {
        EXPECT_EQ(top[n].id, order[n]);
        EXPECT_EQ(top[n].logprob, LogProb(logits, order[n]));
      }
    }
  }
}

TEST(SampleToken, DependsOnSeedSampleAndPositionOnly) {
  const std::vector<float> logits = RandomLogits(4, 200);
  Sampler sampler;
  std::set<int32_t> seeds;
  std::set<int32_t> samples;
  std::set<int32_t> positions;
  for (uint32_t n = 0; n < 50; ++n) {
    // Calls of other shapes in between leave no trace.
    sampler.Sample(RandomLogits(n, 300), {1.0, 7, 0.5}, n, n, n);
    EXPECT_EQ(sampler.Sample(logits, {}, 11, 0, 5).id, SampleToken(logits, {}, 11, 0, 5).id);
    seeds.insert(SampleToken(logits, {}, n, 0, 0).id);
    samples.insert(SampleToken(logits, {}, 0, n, 0).id);
    positions.insert(SampleToken(logits, {}, 0, 0, n).id);
  }
  EXPECT_GT(seeds.size(), 10u);
  EXPECT_GT(samples.size(), 10u);
  EXPECT_GT(positions.size(), 10u);
}

TEST(SampleToken, SurvivesExtremes) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const std::vector<float> logits = {-kMax, kMax, 0, kMax};
  for (double temperature : {1e-308, 1e-3, 1.0, 100.0}) {
    for (uint64_t position = 0; position < 50; ++position) {
      const SampledToken token = SampleToken(logits, {temperature, 0, 1.0}, 1, 0, position);
      EXPECT_TRUE(token.id == 1 || token.id == 3);
      EXPECT_NEAR(token.logprob, -std::log(2.0), 1e-6);
    }
  }
  TokenHistory history;
  for (int32_t id = 0; id < 4; ++id) history.AddGenerated(id);
  SamplingParams extreme;
  extreme.temperature = 1e-6;
  extreme.repetition_penalty = kMinRepetitionPenalty;
  extreme.logit_bias = {{0, 100}, {1, -100}};
  for (uint64_t position = 0; position < 50; ++position) {
    const int32_t id = Sampler().Sample(logits, extreme, {&history, {}}, 1, 0, position).id;
    EXPECT_TRUE(id == 1 || id == 3);
  }
  EXPECT_EQ(SampleToken(std::vector<float>{-3}, {1.0, 1, 0.5}, 1, 0, 0).id, 0);
  EXPECT_EQ(SampleToken(std::vector<float>{-3}, {1.0, 1, 0.5}, 1, 0, 0).logprob, 0);
}

TEST(CheckSamplingParams, NamesFieldAndRange) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(CheckSamplingParams({0, 0, 1}, 32).ok());
  EXPECT_TRUE(CheckSamplingParams({100, 32, 1e-300}, 32).ok());
  for (double bad : {-1.0, 100.1, kNan, kInf, -kInf}) {
    const absl::Status status = CheckSamplingParams({bad, 0, 1}, 32);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(Message(status).find("temperature"), std::string::npos);
  }
  for (double bad : {-0.5, 0.0, 1.1, kNan, kInf, -kInf}) {
    EXPECT_NE(Message(CheckSamplingParams({1, 0, bad}, 32)).find("top_p"), std::string::npos);
  }
  for (int32_t bad : {-1, 33, std::numeric_limits<int32_t>::max()}) {
    EXPECT_NE(Message(CheckSamplingParams({1, bad, 1}, 32)).find("top_k"), std::string::npos);
  }
}

TEST(CheckSamplingParams, NamesFieldAndRangeOfPenaltiesAndBias) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const auto refusal = [](auto change) {
    SamplingParams params;
    change(params);
    const absl::Status status = CheckSamplingParams(params, 32);
    return status.ok() ? "" : Message(status);
  };
  using P = SamplingParams;
  const auto refused = [&](const char* text, double bad, auto set) {
    const std::string message = refusal([&](P& p) { set(p, bad); });
    EXPECT_EQ(message.find(text), 0u) << message << " for " << bad;
  };
  for (double bad : {kNan, kInf, -kInf, -2.5, 2.5}) {
    refused("presence_penalty is", bad, [](P& p, double v) { p.presence_penalty = v; });
    refused("frequency_penalty is", bad, [](P& p, double v) { p.frequency_penalty = v; });
    refused("repetition_penalty is", bad, [](P& p, double v) { p.repetition_penalty = v; });
    refused("min_p is", bad, [](P& p, double v) { p.min_p = v; });
    refused("logit_bias of token 3", bad * 50, [](P& p, double v) { p.logit_bias = {{3, v}}; });
  }
  refused("repetition_penalty is", 0, [](P& p, double v) { p.repetition_penalty = v; });
  EXPECT_EQ(refusal([](P& p) {
              p.logit_bias = {{32, 0}};
            }),
            "logit_bias has token 32, must be from 0 to 31");
  EXPECT_EQ(refusal([](P& p) { p.logit_bias.resize(1025); }),
            "logit_bias has 1025 entries, limit 1024");
  EXPECT_EQ(refusal([](P& p) { p = {100, 32, 1, 1, -2, 2, 1e-6, {{0, -100}, {31, 100}}}; }), "");
}

}  // namespace
}  // namespace monet
