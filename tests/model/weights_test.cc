#include "runtime/model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/bf16.h"
#include "kernels/reference/reference_backend.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/fingerprint.h"
#include "tests/model/checkpoint_files.h"
#include "tests/model/delegating_backend.h"

namespace monet {
namespace {

using testing::CheckpointFiles;
using ::testing::HasSubstr;
using testing::OwnedTensor;
using testing::TemporaryFolder;

std::vector<float> FloatsOf(const OwnedTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / DTypeBytes(tensor.dtype));
  for (size_t i = 0; i < out.size(); ++i) {
    if (tensor.dtype == TensorDType::kBF16) {
      uint16_t bits = 0;
      std::memcpy(&bits, tensor.bytes.data() + 2 * i, 2);
      out[i] = kernels::WidenBf16(bits);
    } else {
      std::memcpy(&out[i], tensor.bytes.data() + 4 * i, 4);
    }
  }
  return out;
}

class WeightsTest : public ::testing::Test {
 protected:
  WeightsTest() : backend_(kernels::MakeReferenceBackend()) {}

  std::unique_ptr<Weights> Load(const std::filesystem::path& directory, int32_t threads = 2) {
    auto weights = LoadWeights(directory, backend_.get(), threads);
    EXPECT_TRUE(weights.ok()) << weights.status().ToString();
    return weights.ok() ? *std::move(weights) : nullptr;
  }
  absl::Status ErrorOf(const CheckpointFiles& files) {
    TemporaryFolder folder;
    files.Write(folder.path());
    return LoadWeights(folder.path(), backend_.get(), 2).status();
  }
  std::vector<uint8_t> Out(const void* device, size_t bytes) {
    std::vector<uint8_t> host(bytes);
    backend_->CopyOut(host.data(), device, bytes);
    return host;
  }
  std::vector<float> Floats(const float* device, size_t count) {
    std::vector<float> host(count);
    backend_->CopyOut(host.data(), device, count * sizeof(float));
    return host;
  }
  void ExpectMatrix(const kernels::Matrix& matrix, const OwnedTensor& tensor) {
    EXPECT_EQ((std::vector<int64_t>{matrix.rows, matrix.cols}), tensor.shape);
    EXPECT_EQ(matrix.dtype == kernels::DType::kBF16, tensor.dtype == TensorDType::kBF16);
    EXPECT_EQ(Out(matrix.data, tensor.bytes.size()), tensor.bytes);
  }

  std::unique_ptr<kernels::Backend> backend_;
};

TEST_F(WeightsTest, KeepsMatricesAsStoredAndWidensTheRest) {
  for (const char* name : {"vd_bf16", "hd_odd"}) {
    const CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder(name));
    const auto weights = Load(testing::GoldenFolder(name));
    ASSERT_NE(weights, nullptr);
    const ModelConfig& config = weights->config();
    ExpectMatrix(weights->embedding, files.tensors.at("model.embed_tokens.weight"));
    ExpectMatrix(weights->head, files.tensors.at("lm_head.weight"));
    EXPECT_EQ(Floats(weights->final_norm, config.hidden),
              FloatsOf(files.tensors.at("model.norm.weight")));
    ASSERT_EQ(weights->layers.size(), static_cast<size_t>(config.layers));
    ASSERT_EQ(weights->routers.size(), static_cast<size_t>(config.Routers()));
    for (int32_t n = 0; n < config.layers; ++n) {
      const LayerWeights& layer = weights->layers[n];
      const auto at = [&files, n](const std::string& tensor) -> const OwnedTensor& {
        return files.tensors.at(fmt::format("model.layers.{}.{}", n, tensor));
      };
      ExpectMatrix(layer.q, at("self_attn.q_proj.weight"));
      ExpectMatrix(layer.k, at("self_attn.k_proj.weight"));
      ExpectMatrix(layer.v, at("self_attn.v_proj.weight"));
      ExpectMatrix(layer.o, at("self_attn.o_proj.weight"));
      EXPECT_EQ(Floats(layer.input_norm, config.hidden), FloatsOf(at("input_layernorm.weight")));
      EXPECT_EQ(Floats(layer.post_attention_norm, config.hidden),
                FloatsOf(at("post_attention_layernorm.weight")));
      const bool vertical = config.decompose == kernels::Decompose::kVertical;
      ExpectMatrix(layer.experts.up1.weight, at(vertical ? "moe.u1.weight" : "moe.u.weight"));
      EXPECT_EQ(Floats(layer.experts.up1.bias, config.experts * config.UpUnits()),
                FloatsOf(at(vertical ? "moe.u1.bias" : "moe.u.bias")));
      EXPECT_EQ(layer.experts.decompose, config.decompose);
      EXPECT_EQ(layer.experts.down1.blocks != nullptr, vertical);
    }
  }
}

TEST_F(WeightsTest, FoldsThresholds) {
  const CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"));
  const auto weights = Load(testing::GoldenFolder("vd_tiny"));
  ASSERT_NE(weights, nullptr);
  const ModelConfig& config = weights->config();
  const auto means = FloatsOf(files.tensors.at("model.layers.2.router.norm2.running_mean"));
  const auto variances = FloatsOf(files.tensors.at("model.layers.2.router.norm2.running_var"));
  const auto thresholds = Floats(weights->routers[1].threshold2, config.routing_heads);
  for (int32_t h = 0; h < config.routing_heads; ++h) {
    EXPECT_EQ(thresholds[h], static_cast<float>(RouterThreshold(means[h], variances[h],
                                                                config.top_k, config.experts)));
  }
}

TEST_F(WeightsTest, TopKOfAllExpertsKeepsAll) {
  CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"));
  files.SetConfig("moe_topk", "16");
  TemporaryFolder folder;
  files.Write(folder.path());
  const auto weights = Load(folder.path());
  ASSERT_NE(weights, nullptr);
  for (float threshold : Floats(weights->routers[0].threshold1, weights->config().routing_heads)) {
    EXPECT_EQ(threshold, -std::numeric_limits<float>::infinity());
  }
}

TEST_F(WeightsTest, RunningStatisticsMayBeBf16) {
  CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"));
  OwnedTensor& mean = files.tensors.at("model.layers.0.router.norm1.running_mean");
  const size_t heads = mean.shape[0];
  mean.dtype = TensorDType::kBF16;
  mean.bytes.assign(2 * heads, 0);
  mean.bytes[1] = 0x40;  // 0x4000 is 2.0
  TemporaryFolder folder;
  files.Write(folder.path());
  const auto weights = Load(folder.path());
  ASSERT_NE(weights, nullptr);
  const auto variances = FloatsOf(files.tensors.at("model.layers.0.router.norm1.running_var"));
  const ModelConfig& config = weights->config();
  EXPECT_EQ(Floats(weights->routers[0].threshold1, heads)[0],
            static_cast<float>(RouterThreshold(2.0, variances[0], config.top_k, config.experts)));
}

TEST_F(WeightsTest, RopeTables) {
  const auto weights = Load(testing::GoldenFolder("vd_gqa_tied"));  // rope_theta 5e4
  ASSERT_NE(weights, nullptr);
  const ModelConfig& config = weights->config();
  const int32_t half = config.HeadDim() / 2;
  const auto cos = Floats(weights->rope_cos, config.max_context * half);
  const auto sin = Floats(weights->rope_sin, config.max_context * half);
  for (int32_t p : {0, 1, config.max_context - 1}) {
    for (int32_t f : {0, 1, half - 1}) {
      const double angle = p / std::pow(5e4, 2.0 * f / config.HeadDim());
      EXPECT_NEAR(cos[p * half + f], std::cos(angle), 1e-7);
      EXPECT_NEAR(sin[p * half + f], std::sin(angle), 1e-7);
    }
  }
}

TEST_F(WeightsTest, ATiedHeadIsTheEmbedding) {
  const auto weights = Load(testing::GoldenFolder("vd_gqa_tied"));
  ASSERT_NE(weights, nullptr);
  EXPECT_EQ(weights->head.data, weights->embedding.data);
}

TEST_F(WeightsTest, FingerprintIsTheCheckpoints) {
  const auto checkpoint = Checkpoint::Open(testing::GoldenFolder("hd_odd"));
  ASSERT_TRUE(checkpoint.ok());
  const auto digest = FingerprintCheckpoint(**checkpoint, 2);
  ASSERT_TRUE(digest.ok());
  for (int32_t threads : {1, 2, 5}) {
    const auto weights = Load(testing::GoldenFolder("hd_odd"), threads);
    ASSERT_NE(weights, nullptr);
    EXPECT_EQ(weights->fingerprint(), *digest);
  }
}

TEST_F(WeightsTest, RefusesWhatIsNotFinite) {
  const CheckpointFiles good = CheckpointFiles::Read(testing::GoldenFolder("vd_bf16"));
  for (const char* name : {"model.embed_tokens.weight", "model.layers.1.moe.v22.weight",
                           "model.layers.0.moe.b1", "model.layers.0.input_layernorm.weight"}) {
    for (uint8_t top : {0x7f, 0xff}) {
      CheckpointFiles files = good;
      OwnedTensor& tensor = files.tensors.at(name);
      ASSERT_EQ(tensor.dtype, TensorDType::kBF16);
      tensor.bytes[tensor.bytes.size() - 1] = top;
      tensor.bytes[tensor.bytes.size() - 2] = top == 0x7f ? 0x80 : 0xc1;  // infinity, NaN
      const absl::Status status = ErrorOf(files);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(Message(status), fmt::format("model.safetensors: tensor {} holds a NaN or an "
                                             "infinity",
                                             name));
    }
  }
}

TEST_F(WeightsTest, RefusesANegativeVariance) {
  CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"));
  files.tensors.at("model.layers.0.router.norm2.running_var").bytes[3] |= 0x80;
  EXPECT_THAT(Message(ErrorOf(files)),
              HasSubstr("model.layers.0.router.norm2.running_var holds a negative variance"));
}

TEST_F(WeightsTest, ErrorsOfTheCheckpointPassThrough) {
  TemporaryFolder folder;
  EXPECT_EQ(LoadWeights(folder.path(), backend_.get(), 1).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(WeightsTest, ReportsWhenTheBackendIsOutOfMemoryAndLeaksNothing) {
  for (int budget : {0, 1, 20}) {
    testing::PoorBackend poor(backend_.get(), budget);
    const auto weights = LoadWeights(testing::GoldenFolder("vd_tiny"), &poor, 2);
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(poor.live(), 0);
  }
  testing::PoorBackend rich(backend_.get(), 1000);
  EXPECT_TRUE(LoadWeights(testing::GoldenFolder("vd_tiny"), &rich, 2).ok());
  EXPECT_EQ(rich.live(), 0);
}

}  // namespace
}  // namespace monet
