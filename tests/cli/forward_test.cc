// monetctl forward, as a process, on golden checkpoints and on damaged copies of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/model/safetensors.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Tensor {
  std::string name;
  TensorDType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

Tensor ReadTensor(const SafetensorsFile& file, const TensorInfo& info) {
  Tensor tensor{info.name, info.dtype, info.shape, std::vector<uint8_t>(info.bytes)};
  EXPECT_TRUE(file.Read(info, 0, tensor.bytes).ok());
  return tensor;
}

std::vector<Tensor> ReadAll(const fs::path& path) {
  const auto file = SafetensorsFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<Tensor> tensors;
  for (const TensorInfo& info : (*file)->tensors()) tensors.push_back(ReadTensor(**file, info));
  return tensors;
}

void WriteAll(const fs::path& path, const std::vector<Tensor>& tensors) {
  std::vector<TensorToWrite> list;
  for (const Tensor& tensor : tensors) {
    list.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes});
  }
  ASSERT_TRUE(WriteSafetensors(path, list).ok());
}

Tensor Ids(const std::vector<int64_t>& shape, const std::vector<int32_t>& ids) {
  Tensor tensor{"input_ids", TensorDType::kI32, shape,
                std::vector<uint8_t>(ids.size() * sizeof(int32_t))};
  std::memcpy(tensor.bytes.data(), ids.data(), tensor.bytes.size());
  return tensor;
}

std::vector<float> Floats(const fs::path& path, const std::string& name,
                          std::vector<int64_t>* shape) {
  for (const Tensor& tensor : ReadAll(path)) {
    if (tensor.name != name) continue;
    EXPECT_EQ(tensor.dtype, TensorDType::kF32);
    *shape = tensor.shape;
    std::vector<float> values(tensor.bytes.size() / sizeof(float));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
  }
  ADD_FAILURE() << path << " has no " << name;
  return {};
}

// The promise of the command: within 2e-4 of the logits' standard deviation.
void ExpectClose(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  double sum = 0, squares = 0;
  for (float value : want) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const double count = static_cast<double>(want.size());
  const double deviation = std::sqrt(squares / count - (sum / count) * (sum / count));
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << "at " << i;
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]));
  }
  EXPECT_LE(worst, 2e-4 * deviation);
}

class ForwardTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = WriteTemporaryFile("folder", "");
    fs::remove(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static fs::path Golden(const std::string& name) {
    return fs::path(MONET_SOURCE_DIR) / "tests/data/golden" / name;
  }

  // A writable checkpoint with vd_tiny's content.
  fs::path CopyCheckpoint() {
    const fs::path copy = folder_ / "checkpoint";
    fs::create_directory(copy);
    for (const char* file : {"config.json", "model.safetensors"}) {
      fs::copy_file(Golden("vd_tiny") / file, copy / file);
      fs::permissions(copy / file, fs::perms::owner_write, fs::perm_options::add);
    }
    return copy;
  }

  CommandResult Forward(const fs::path& model, const fs::path& ids,
                        std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"forward", "--model", model,          "--ids",
                                          ids,       "--out",   folder_ / "out"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunMonetctl(arguments);
  }

  // Exit code 2, one line, nothing written.
  void ExpectRefused(const CommandResult& result, const std::string& message) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.errors, StartsWith("monetctl: "));
    EXPECT_THAT(result.errors, HasSubstr(message));
    EXPECT_EQ(result.errors.find('\n'), result.errors.size() - 1) << result.errors;
    EXPECT_THAT(result.output, IsEmpty());
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  }

  void ExpectIdsRefused(const std::vector<Tensor>& tensors, const std::string& message,
                        const std::vector<std::string>& more = {}) {
    WriteAll(folder_ / "ids", tensors);
    ExpectRefused(Forward(Golden("vd_tiny"), folder_ / "ids", more), message);
  }

  fs::path folder_;
};

TEST_F(ForwardTest, GivesTheGoldenLogits) {
  for (const char* name : {"vd_tiny", "hd_odd"}) {
    const fs::path golden = Golden(name) / "golden.safetensors";
    std::vector<float> unmasked;
    for (const char* backend : {"reference", "cpu"}) {
      for (const std::string mask : {"", "masked.random30.", "masked.rows.", "masked.all."}) {
        SCOPED_TRACE(fmt::format("{} {} '{}'", name, backend, mask));
        std::vector<std::string> more = {"--backend", backend};
        if (!mask.empty()) more.insert(more.end(), {"--removed-key", mask + "removed"});
        const CommandResult result = Forward(Golden(name), golden, more);
        ASSERT_EQ(result.exit_code, 0) << result.errors;
        EXPECT_THAT(result.output, IsEmpty());
        EXPECT_THAT(result.errors, IsEmpty());
        std::vector<int64_t> shape, golden_shape;
        const std::vector<float> logits = Floats(folder_ / "out", "logits", &shape);
        ExpectClose(logits, Floats(golden, mask + "logits", &golden_shape));
        EXPECT_EQ(shape, golden_shape);
        if (mask.empty()) {
          unmasked = logits;
        } else {
          EXPECT_NE(logits, unmasked);
        }
      }
    }
  }
}

TEST_F(ForwardTest, ThreadsChangeNoBit) {
  const fs::path golden = Golden("vd_tiny") / "golden.safetensors";
  std::vector<int64_t> shape;
  ASSERT_EQ(Forward(Golden("vd_tiny"), golden, {"--threads", "1"}).exit_code, 0);
  const std::vector<float> one = Floats(folder_ / "out", "logits", &shape);
  ASSERT_EQ(Forward(Golden("vd_tiny"), golden, {"--threads", "3"}).exit_code, 0);
  EXPECT_EQ(Floats(folder_ / "out", "logits", &shape), one);
}

TEST_F(ForwardTest, RefusesDamagedCheckpoints) {
  const fs::path golden = Golden("vd_tiny") / "golden.safetensors";
  const fs::path checkpoint = CopyCheckpoint();
  const fs::path weights = checkpoint / "model.safetensors";
  const std::vector<Tensor> tensors = ReadAll(weights);

  fs::resize_file(weights, fs::file_size(weights) - 1);
  ExpectRefused(Forward(checkpoint, golden), "model.safetensors");
  fs::resize_file(weights, 5);
  ExpectRefused(Forward(checkpoint, golden), "model.safetensors");

  std::vector<Tensor> missing = tensors;
  const std::string gone = "model.layers.2.moe.v12.weight";
  ASSERT_EQ(std::erase_if(missing, [&](const Tensor& tensor) { return tensor.name == gone; }), 1u);
  WriteAll(weights, missing);
  ExpectRefused(Forward(checkpoint, golden), gone);

  std::vector<Tensor> surplus = tensors;
  surplus.push_back(Tensor{"model.extra.weight", TensorDType::kF32, {1}, {0, 0, 0, 0}});
  WriteAll(weights, surplus);
  ExpectRefused(Forward(checkpoint, golden), "model.extra.weight");

  fs::remove(weights);
  ExpectRefused(Forward(checkpoint, golden), "model.safetensors");

  // And the copy itself was fine.
  WriteAll(weights, tensors);
  EXPECT_EQ(Forward(checkpoint, golden).exit_code, 0);
}

TEST_F(ForwardTest, RefusesDamagedConfigurations) {
  const fs::path golden = Golden("vd_tiny") / "golden.safetensors";
  const fs::path path = CopyCheckpoint() / "config.json";
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const auto expect_refused = [&](const std::string& content, const std::string& message) {
    std::ofstream(path, std::ios::trunc) << content;
    ExpectRefused(Forward(path.parent_path(), golden), message);
  };
  nlohmann::json config = nlohmann::json::parse(text.str());
  config["hidden_act"] = "silu";
  expect_refused(config.dump(), "hidden_act");
  config["hidden_act"] = "relu2";
  config["moe_topk"] = -1;
  expect_refused(config.dump(), "moe_topk");
  expect_refused(text.str().substr(0, 40), "config.json");
  fs::remove(path);
  ExpectRefused(Forward(path.parent_path(), golden), "config.json");
  ExpectRefused(Forward(folder_ / "nowhere", golden), "config.json");
}

TEST_F(ForwardTest, RefusesBadTokenIds) {
  ExpectIdsRefused({Ids({1, 3}, {1, -1, 2})}, "input_ids[0, 1] is -1");
  ExpectIdsRefused({Ids({2, 2}, {1, 2, 3, 1 << 30})}, "input_ids[1, 1] is 1073741824");
  ExpectIdsRefused({Ids({1, 5000}, std::vector<int32_t>(5000, 1))}, "5000 positions");
  ExpectIdsRefused({Ids({1, 0}, {})}, "[1, 0]");
  ExpectIdsRefused({Ids({3}, {1, 2, 3})}, "I32 with 1 axes, must be I32 with 2");
  Tensor wide = Ids({1, 2}, {1, 0, 2, 0});
  wide.dtype = TensorDType::kI64;
  ExpectIdsRefused({wide}, "I64 with 2 axes, must be I32 with 2");
  wide.name = "ids";
  ExpectIdsRefused({wide}, "no tensor 'input_ids'");
  ExpectRefused(Forward(Golden("vd_tiny"), folder_ / "nothing"), "nothing");
  ExpectRefused(Forward(Golden("vd_tiny"), Golden("vd_tiny") / "config.json"), "config.json");
}

TEST_F(ForwardTest, RefusesBadMasks) {
  const Tensor ids = Ids({1, 2}, {1, 2});
  ExpectIdsRefused({ids}, "no tensor 'mask'", {"--removed-key", "mask"});
  const Tensor small{"mask", TensorDType::kU8, {1, 1}, {0}};
  ExpectIdsRefused({ids, small}, "'mask' is [1, 1], must be [", {"--removed-key", "mask"});
  const Tensor typed{"mask", TensorDType::kF32, {1, 1}, {0, 0, 0, 0}};
  ExpectIdsRefused({ids, typed}, "must be U8", {"--removed-key", "mask"});
}

TEST_F(ForwardTest, RefusesBadArguments) {
  const fs::path golden = Golden("vd_tiny") / "golden.safetensors";
  ExpectRefused(Forward(Golden("vd_tiny"), golden, {"--backend", "gpu"}), "gpu");
  ExpectRefused(Forward(Golden("vd_tiny"), golden, {"--threads", "0"}), "threads");
  ExpectRefused(RunMonetctl({"forward", "--model", Golden("vd_tiny"), "--ids", golden}), "--out");
  ExpectRefused(RunMonetctl({"forward", "--model", Golden("vd_tiny"), "--ids", golden, "--out",
                             folder_ / "no/out"}),
                "no such folder");
  const fs::path fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const fs::path dangling = folder_ / "dangling";
  fs::create_symlink("nothing", dangling);
  const auto into = [&](const fs::path& out) {
    return RunMonetctl({"forward", "--model", Golden("vd_tiny"), "--ids", golden, "--out", out});
  };
  ExpectRefused(into(fifo), "not a regular file");
  ExpectRefused(into(dangling), "leads to no file");
  EXPECT_TRUE(fs::is_fifo(fifo));
  EXPECT_TRUE(fs::is_symlink(dangling));
}

}  // namespace
}  // namespace monet::cli
