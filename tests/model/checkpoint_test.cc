#include "runtime/model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/model/checkpoint_files.h"

namespace monet {
namespace {

using testing::CheckpointFiles;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : files_(CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"))) {}

  std::string ErrorOf(absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const auto checkpoint = Checkpoint::Open(folder_.path());
    if (checkpoint.ok()) return "";
    EXPECT_EQ(checkpoint.status().code(), code);
    EXPECT_THAT(Message(checkpoint.status()), ::testing::Not(HasSubstr(folder_.path().string())));
    return Message(checkpoint.status());
  }
  std::filesystem::path File(const std::string& name) const { return folder_.path() / name; }
  void Replace(const std::string& name, const std::string& from, const std::string& to) {
    std::string text = testing::ReadText(File(name));
    ASSERT_NE(text.find(from), std::string::npos);
    text.replace(text.find(from), from.size(), to);
    testing::WriteText(File(name), text);
  }

  TemporaryFolder folder_;
  CheckpointFiles files_;
};

TEST_F(CheckpointTest, OpensEveryGoldenFolderAndTheDemo) {
  for (const char* name :
       {"vd_tiny", "hd_tiny", "vd_gqa_tied", "hd_odd", "vd_262144", "hd_262144", "vd_bf16"}) {
    const auto checkpoint = Checkpoint::Open(testing::GoldenFolder(name));
    EXPECT_TRUE(checkpoint.ok()) << name << ": " << checkpoint.status().ToString();
  }
  EXPECT_TRUE(Checkpoint::Open(testing::DemoFolder()).ok());
}

TEST_F(CheckpointTest, ReadsTensorsByRole) {
  files_.Write(folder_.path());
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().ToString();
  const CheckpointTensor& tensor = (*checkpoint)->Get(TensorRole::kDown21, 3);
  EXPECT_EQ(tensor.spec.name, "model.layers.3.moe.v21.weight");
  std::vector<uint8_t> bytes(tensor.info.bytes);
  ASSERT_TRUE((*checkpoint)->Read(tensor, 0, bytes).ok());
  EXPECT_EQ(bytes, files_.tensors.at(tensor.spec.name).bytes);
}

TEST_F(CheckpointTest, NamesMissingFiles) {
  EXPECT_EQ(ErrorOf(absl::StatusCode::kNotFound), "config.json is missing");
  testing::WriteText(File("config.json"), files_.config);
  EXPECT_THAT(ErrorOf(absl::StatusCode::kNotFound), HasSubstr("model.safetensors: "));
  files_.WriteShards(folder_.path(), 2);
  std::filesystem::remove(File(kShard2));
  EXPECT_THAT(ErrorOf(absl::StatusCode::kNotFound), HasSubstr(kShard2));
}

TEST_F(CheckpointTest, RefusesBadConfigFiles) {
  files_.Write(folder_.path());
  testing::WriteText(File("config.json"), std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(ErrorOf(), HasSubstr("config.json has 1048577 bytes, limit 1048576"));
  std::filesystem::remove(File("config.json"));
  std::filesystem::create_directory(File("config.json"));
  EXPECT_THAT(ErrorOf(), HasSubstr("config.json: not a regular file"));
}

TEST_F(CheckpointTest, TakesShards) {
  files_.WriteShards(folder_.path(), 3);
  EXPECT_EQ(ErrorOf(), "");
}

TEST_F(CheckpointTest, RefusesMissingAndSurplusTensors) {
  auto less = files_;
  less.tensors.erase("model.layers.2.router.w2.weight");
  less.Write(folder_.path());
  EXPECT_EQ(ErrorOf(), "model.safetensors: tensor model.layers.2.router.w2.weight is missing");
  auto more = files_;
  more.tensors["model.layers.1.router.w1.weight"] = more.tensors["model.layers.0.router.w1.weight"];
  more.Write(folder_.path());
  EXPECT_THAT(
      ErrorOf(),
      HasSubstr("model.safetensors: tensor model.layers.1.router.w1.weight is not part of"));
}

TEST_F(CheckpointTest, BatchCountersMayBeAbsent) {
  const size_t erased = std::erase_if(files_.tensors, [](const auto& entry) {
    return entry.first.ends_with("num_batches_tracked");
  });
  ASSERT_EQ(erased, 4u);
  files_.Write(folder_.path());
  EXPECT_EQ(ErrorOf(), "");
}

TEST_F(CheckpointTest, RefusesTwoFormsAtOnce) {
  files_.WriteShards(folder_.path(), 2);
  files_.Write(folder_.path());
  EXPECT_THAT(ErrorOf(), HasSubstr("both there"));
}

TEST_F(CheckpointTest, RefusesAnIndexThatDisagreesWithTheShards) {
  files_.WriteShards(folder_.path(), 2);
  const std::string good = testing::ReadText(File(kIndex));
  // The first tensor in name order lies in shard 1.
  Replace(kIndex, std::string("\"lm_head.weight\":\"") + kShard1,
          std::string("\"lm_head.weight\":\"") + kShard2);
  EXPECT_EQ(ErrorOf(), std::string(kShard1) + ": tensor lm_head.weight belongs to " + kShard2 +
                           " by " + kIndex);
  testing::WriteText(File(kIndex), good);
  Replace(kIndex, std::string("\"lm_head.weight\":\"") + kShard1 + "\",", "");
  EXPECT_EQ(ErrorOf(), std::string(kShard1) + ": tensor lm_head.weight is not listed in " + kIndex);
  testing::WriteText(File(kIndex), good);
  Replace(kIndex,
          "\"lm_head.weight\":", std::string("\"extra\":\"") + kShard1 + "\",\"lm_head.weight\":");
  EXPECT_EQ(ErrorOf(), std::string(kShard1) + ": tensor extra is missing, " + kIndex + " lists it");
}

TEST_F(CheckpointTest, RefusesATensorInTwoShards) {
  files_.WriteShards(folder_.path(), 2);
  std::filesystem::copy_file(File(kShard1), File(kShard2),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(ErrorOf(), HasSubstr(std::string(kShard2) + ": tensor "));
}

TEST(ShardIndexTest, RefusesWhatIsNotAPlainFileName) {
  const auto error = [](const std::string& shard) {
    return Message(ParseShardIndex(R"({"weight_map":{"a":)" + shard + "}}").status());
  };
  EXPECT_EQ(error(R"("a.safetensors")"), "");
  for (const char* shard :
       {R"("../a.safetensors")", R"("/etc/a.safetensors")", R"("x/a.safetensors")",
        R"("x\\a.safetensors")", R"(".safetensors")", R"("..safetensors")", R"("a.bin")", R"("")",
        R"("a\u0000.safetensors")", "1", "null", "[]"}) {
    EXPECT_THAT(error(shard), HasSubstr("not a plain file name")) << shard;
  }
  EXPECT_THAT(error("\"" + std::string(300, 'a') + ".safetensors\""), HasSubstr("plain"));
}

TEST(ShardIndexTest, RefusesBadIndexes) {
  for (const char* index : {"{}", R"({"weight_map":{}})", R"({"weight_map":[]})"}) {
    EXPECT_THAT(Message(ParseShardIndex(index).status()), HasSubstr("weight_map is missing"));
  }
  EXPECT_THAT(
      Message(
          ParseShardIndex(R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})").status()),
      HasSubstr("duplicate key \"a\""));
  std::string many = R"({"weight_map":{)";
  for (int i = 0; i <= 1024; ++i) {
    many += fmt::format("{}\"t{}\":\"s{}.safetensors\"", i == 0 ? "" : ",", i, i);
  }
  EXPECT_THAT(Message(ParseShardIndex(many + "}}").status()), HasSubstr("more than 1024 shards"));
}

}  // namespace
}  // namespace monet
