#include "runtime/model/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/model/checkpoint_files.h"

namespace monet {
namespace {

using testing::CheckpointFiles;
using testing::TemporaryFolder;

std::string FingerprintOf(const std::filesystem::path& directory, int32_t threads = 2) {
  const auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) {
    ADD_FAILURE() << checkpoint.status().ToString();
    return "";
  }
  const auto digest = FingerprintCheckpoint(**checkpoint, threads);
  EXPECT_TRUE(digest.ok()) << digest.status().ToString();
  return digest->ToString();
}

std::string FingerprintOf(const CheckpointFiles& files) {
  TemporaryFolder folder;
  files.Write(folder.path());
  return FingerprintOf(folder.path());
}

// The committed policies name the fingerprint that a Python script computed from the definition.
TEST(FingerprintTest, EqualsTheOtherImplementation) {
  const std::string policy =
      testing::ReadText(std::filesystem::path(MONET_SOURCE_DIR) / "policies/no-c/1.yaml");
  EXPECT_THAT(policy,
              ::testing::HasSubstr("model: " + FingerprintOf(testing::DemoFolder()) + "\n"));
}

// The definition once more, byte by byte.
TEST(FingerprintTest, HashesTheDocumentedBytes) {
  const auto config =
      ParseModelConfig(testing::ReadText(testing::GoldenFolder("hd_odd") / "config.json"));
  ASSERT_TRUE(config.ok());
  const Digest bytes = Sha256(std::vector<uint8_t>{1, 2});
  const std::string raw(reinterpret_cast<const char*>(bytes.bytes.data()), 32);
  const std::string canonical = CanonicalConfig(*config);
  std::string text("monet-model-1\0\2\0\0\0", 18);
  text += std::string("\1\0\0\0a\4\0\0\0BF16\2\0\0\0\3\0\0\0\0\1\0\0", 25) + raw;
  text += std::string("\1\0\0\0b\3\0\0\0F32\0\0\0\0", 16) + raw;
  text += std::string{static_cast<char>(canonical.size() & 0xff),
                      static_cast<char>(canonical.size() >> 8), 0, 0};
  text += canonical;
  EXPECT_EQ(ModelFingerprint(*config, {{"b", "F32", {}, bytes}, {"a", "BF16", {3, 256}, bytes}}),
            Hasher().Update(text).Finish());
}

class FingerprintStabilityTest : public ::testing::Test {
 protected:
  FingerprintStabilityTest()
      : files_(CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"))),
        original_(FingerprintOf(testing::GoldenFolder("vd_tiny"))) {}

  CheckpointFiles files_;
  std::string original_;
};

TEST_F(FingerprintStabilityTest, DoesNotDependOnThreads) {
  for (int32_t threads : {1, 3, 8}) {
    EXPECT_EQ(FingerprintOf(testing::GoldenFolder("vd_tiny"), threads), original_);
  }
}

TEST_F(FingerprintStabilityTest, DoesNotDependOnSharding) {
  EXPECT_EQ(FingerprintOf(files_), original_);
  for (int shards : {1, 2, 5}) {
    TemporaryFolder folder;
    files_.WriteShards(folder.path(), shards);
    EXPECT_EQ(FingerprintOf(folder.path()), original_) << shards;
  }
}

TEST_F(FingerprintStabilityTest, DoesNotDependOnHowConfigIsSaved) {
  files_.SetConfig("torch_dtype", "\"float64\"");
  files_.SetConfig("transformers_version", "\"9.9\"");
  files_.SetConfig("something_new", "{\"a\": [1, 2]}");
  files_.SetConfig("rope_theta", "10000");  // was 10000.0
  files_.SetConfig("bos_token_id", "3");
  files_.SetConfig("max_position_embeddings", "64");
  EXPECT_EQ(FingerprintOf(files_), original_);
}

TEST_F(FingerprintStabilityTest, DoesNotDependOnIgnoredTensors) {
  const auto inv_freq = testing::OwnedTensor::Floats({2}, {1, 2});
  files_.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = inv_freq;
  files_.tensors["model.layers.0.router.norm1.num_batches_tracked"].bytes[0] ^= 1;
  files_.tensors.erase("model.layers.0.router.norm2.num_batches_tracked");
  EXPECT_EQ(FingerprintOf(files_), original_);
}

TEST_F(FingerprintStabilityTest, ATiedHeadIsIgnored) {
  CheckpointFiles tied = CheckpointFiles::Read(testing::GoldenFolder("vd_gqa_tied"));
  const std::string original = FingerprintOf(tied);
  tied.tensors["lm_head.weight"] = testing::OwnedTensor::Floats({1}, {7});
  EXPECT_EQ(FingerprintOf(tied), original);
}

TEST_F(FingerprintStabilityTest, ChangesWithEveryTensor) {
  std::set<std::string> seen = {original_};
  for (auto& [name, tensor] : files_.tensors) {
    if (name.ends_with("num_batches_tracked")) continue;
    tensor.bytes.back() ^= 1;  // sign, exponent or mantissa of the last element
    EXPECT_TRUE(seen.insert(FingerprintOf(files_)).second) << name;
    tensor.bytes.back() ^= 1;
  }
  EXPECT_EQ(FingerprintOf(files_), original_);
}

TEST_F(FingerprintStabilityTest, ChangesWhenTensorsSwap) {
  std::swap(files_.tensors["model.layers.0.moe.v11.weight"],
            files_.tensors["model.layers.0.moe.v12.weight"]);
  EXPECT_NE(FingerprintOf(files_), original_);
}

TEST_F(FingerprintStabilityTest, ChangesWithTheMathsOfTheConfig) {
  std::set<std::string> seen = {original_};
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"moe_topk", "3"}, {"rope_theta", "20000"}, {"rms_norm_eps", "1e-5"}}) {
    CheckpointFiles changed = files_;
    changed.SetConfig(key, value);
    EXPECT_TRUE(seen.insert(FingerprintOf(changed)).second) << key;
  }
}

}  // namespace
}  // namespace monet
