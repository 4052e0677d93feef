// The trained demo checkpoint against what the original PyTorch code computed on it: logits with
// and without the committed policies, greedy texts, and the perplexity of the sample texts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/offline_forward.h"
#include "runtime/policy/policy.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/model/checkpoint_files.h"
#include "tests/model/golden_files.h"
#include "tests/model/sequence_runner.h"

namespace monet {
namespace {

using testing::ExpectClose;
using testing::GoldenFile;
using testing::LoadedModel;
using testing::TestSequence;

constexpr double kTolerance = 2e-4;     // of the golden logits' standard deviation
constexpr double kNllTolerance = 1e-4;  // nats, mean over a text
constexpr double kSafeMargin = 1e-3;    // a smaller lead may fall the other way elsewhere
constexpr int32_t kBlocks = 64;

const std::vector<std::string>& Labels() {
  static const std::vector<std::string> labels = {"anarchist-faq", "c",      "english", "french",
                                                  "gcide",         "german", "insults", "java",
                                                  "javascript",    "kjv",    "python",  "spanish"};
  return labels;
}

std::filesystem::path SourcePath(const std::string& path) {
  return std::filesystem::path(MONET_SOURCE_DIR) / path;
}

nlohmann::json ReadJson(const std::string& path) {
  return nlohmann::json::parse(testing::ReadText(SourcePath(path)));
}

// `policy` as the golden files name it: "no-c".
std::shared_ptr<const ExpertMask> PolicyMask(const std::string& policy) {
  const auto read = ReadPolicyFile(SourcePath("policies/" + policy + "/1.yaml"));
  EXPECT_TRUE(read.ok()) << read.status().ToString();
  return read->policy.mask;
}

class DemoTest : public ::testing::TestWithParam<const char*> {
 protected:
  DemoTest() : model_(LoadedModel::Load(testing::DemoFolder(), GetParam(), 2)) {}

  std::vector<float> Logits(std::span<const int32_t> ids, const ExpertMask* mask) {
    auto logits = ForwardLogits(model_.backend.get(), *model_.weights,
                                {.ids = ids, .sequences = 1, .length = std::ssize(ids)}, mask);
    EXPECT_TRUE(logits.ok()) << logits.status().ToString();
    return *std::move(logits);
  }

  // The reference backend takes its time: two of the twelve labels there, all on the others.
  static size_t LabelStep() { return std::string(GetParam()) == "reference" ? 6 : 1; }

  LoadedModel model_;
};

TEST_P(DemoTest, LogitsWithAndWithoutTheOwnPolicy) {
  const GoldenFile golden(SourcePath("tests/data/demo/forward.safetensors"));
  const std::vector<int32_t> ids = golden.Ints("input_ids");
  const std::vector<float> plain = golden.Floats("logits");
  const std::vector<float> masked = golden.Floats("masked_own.logits");
  const size_t rows = Labels().size();
  const size_t length = ids.size() / rows;
  const size_t kept = plain.size() / rows;  // logits of the last 4 positions
  for (size_t row = 0; row < rows; row += LabelStep()) {
    SCOPED_TRACE(Labels()[row]);
    const auto own_ids = std::span(ids).subspan(row * length, length);
    const auto expect = [&](const ExpertMask* mask, const std::vector<float>& all) {
      const std::vector<float> logits = Logits(own_ids, mask);
      ExpectClose(std::span(logits).last(kept), std::span(all).subspan(row * kept, kept),
                  kTolerance * testing::StandardDeviation(all), "logits");
    };
    expect(nullptr, plain);
    expect(PolicyMask("no-" + Labels()[row]).get(), masked);
  }
}

TEST_P(DemoTest, GreedyTexts) {
  const auto forward = model_.MakeForward({.max_tokens = 16,
                                           .max_logit_rows = 16,
                                           .max_sequences = 1,
                                           .max_context = 128,
                                           .kv_blocks = kBlocks,
                                           .block_size = 8,
                                           .mask_slots = 1});
  int compared = 0;
  for (const auto& entry : ReadJson("tests/data/demo/greedy.json")) {
    if (entry.at("min_margin").get<double>() < kSafeMargin) continue;
    const bool masked = !entry.at("policy").is_null();
    SCOPED_TRACE(entry.at("prompt").get<std::string>() + (masked ? ", own policy" : ""));
    if (masked) forward->SetMask(0, *PolicyMask(entry.at("policy").get<std::string>()));
    TestSequence sequence = {.ids = entry.at("prompt_ids").get<std::vector<int32_t>>(),
                             .mask_slot = masked ? 0 : -1,
                             .blocks = testing::ShuffledBlocks(kBlocks, 16, compared)};
    const auto golden = entry.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(testing::Greedy(forward.get(), &sequence, golden.size()), golden);
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

// <s>, then the text as the file holds it.
std::vector<int32_t> SampleIds(const Tokenizer& tokenizer, const std::string& label) {
  const auto encoded =
      tokenizer.Encode(testing::ReadText(SourcePath("examples/samples/" + label + ".txt")));
  EXPECT_TRUE(encoded.ok()) << encoded.status().ToString();
  std::vector<int32_t> ids = {tokenizer.bos_id()};
  ids.insert(ids.end(), encoded->begin(), encoded->end());
  return ids;
}

double MeanNll(const std::vector<float>& logits, const std::vector<int32_t>& ids) {
  const size_t vocabulary = logits.size() / ids.size();
  double sum = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = std::span(logits).subspan(t * vocabulary, vocabulary);
    const double top = *std::max_element(row.begin(), row.end());
    double total = 0;
    for (float logit : row) total += std::exp(logit - top);
    sum += top + std::log(total) - row[ids[t + 1]];
  }
  return sum / static_cast<double>(ids.size() - 1);
}

TEST_P(DemoTest, PerplexityOfTheSamples) {
  const auto golden = ReadJson("tests/data/demo/perplexity.json");
  const auto tokenizer = Tokenizer::FromFile(testing::DemoFolder() / "tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().ToString();
  const auto& mean_nll = golden.at("mean_nll");
  const auto expect = [&](const std::string& mask_label, const std::string& label) {
    SCOPED_TRACE(label + " under " + mask_label);
    const auto mask = mask_label == "none" ? nullptr : PolicyMask("no-" + mask_label);
    const std::vector<int32_t> ids = SampleIds(**tokenizer, label);
    ASSERT_EQ(ids.size(), golden.at("tokens").at(label).get<size_t>());
    EXPECT_NEAR(MeanNll(Logits(ids, mask.get()), ids),
                mean_nll.at(mask_label).at(label).get<double>(), kNllTolerance);
  };
  for (size_t n = 0; n < Labels().size(); n += LabelStep()) {
    const std::string& label = Labels()[n];
    expect("none", label);
    expect(label, label);
    expect(Labels()[(n + 1) % Labels().size()], label);
  }
}

INSTANTIATE_TEST_SUITE_P(All, DemoTest, ::testing::Values("reference", "cpu"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace monet
