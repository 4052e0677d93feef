#include "runtime/model/tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/model/checkpoint_files.h"

namespace monet {
namespace {

using ::testing::HasSubstr;

ModelConfig ConfigOf(const std::string& golden) {
  const auto config =
      ParseModelConfig(testing::ReadText(testing::GoldenFolder(golden) / "config.json"));
  EXPECT_TRUE(config.ok());
  return *config;
}

// The table's required tensors as a file would hold them.
std::vector<TensorInfo> Stored(const std::vector<TensorSpec>& table) {
  std::vector<TensorInfo> present;
  for (const TensorSpec& spec : table) {
    if (spec.presence == Presence::kRequired) {
      present.push_back({.name = spec.name, .shape = spec.shape});
    }
  }
  return present;
}

const TensorSpec& Find(const std::vector<TensorSpec>& table, const std::string& name) {
  const auto it = std::find_if(table.begin(), table.end(),
                               [&name](const TensorSpec& spec) { return spec.name == name; });
  EXPECT_NE(it, table.end()) << name;
  return *it;
}

TEST(TensorsTest, NamesAndRolesAreUnique) {
  for (const char* golden : {"vd_gqa_tied", "hd_odd"}) {
    const auto table = TensorTable(ConfigOf(golden));
    std::set<std::string> names;
    std::set<std::pair<TensorRole, int32_t>> roles;
    for (const TensorSpec& spec : table) {
      EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
      if (spec.presence == Presence::kIgnored) {
        EXPECT_EQ(spec.role, TensorRole::kIgnored);
      } else {
        EXPECT_TRUE(roles.insert({spec.role, spec.layer}).second) << spec.name;
      }
    }
  }
}

// 6 heads on 2 kv heads, tied, 5 layers with 2 a router.
TEST(TensorsTest, VerticalShapes) {
  const ModelConfig config = ConfigOf("vd_gqa_tied");
  const auto table = TensorTable(config);
  const int64_t inner = int64_t{config.experts} * config.moe_dim / 2;
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(Find(table, "model.layers.4.self_attn.k_proj.weight").shape,
            (Shape{config.hidden / 3, config.hidden}));
  EXPECT_EQ(Find(table, "model.layers.1.moe.u2.weight").shape, (Shape{inner, config.hidden}));
  EXPECT_EQ(Find(table, "model.layers.1.moe.v21.weight").shape, (Shape{config.hidden / 2, inner}));
  EXPECT_EQ(Find(table, "model.layers.1.moe.b1").shape, (Shape{config.experts, config.hidden / 2}));
  EXPECT_EQ(Find(table, "lm_head.weight").presence, Presence::kIgnored);
  std::set<int32_t> routers;
  for (const TensorSpec& spec : table) {
    if (spec.role == TensorRole::kRouter1) routers.insert(spec.layer);
  }
  EXPECT_EQ(routers, (std::set<int32_t>{0, 2, 4}));
}

TEST(TensorsTest, BytesFollowTheTable) {
  // vd_262144 is bf16 but for its 4 · 4 running statistics in fp32.
  const ModelConfig config = ConfigOf("vd_262144");
  const auto file = SafetensorsFile::Open(testing::GoldenFolder("vd_262144") / "model.safetensors");
  ASSERT_TRUE(file.ok());
  uint64_t stored = 0;
  for (const TensorInfo& info : (*file)->tensors()) {
    if (!info.name.ends_with("num_batches_tracked")) stored += info.bytes;
  }
  const auto table = TensorTable(config);
  EXPECT_EQ(TableBytes(table, TensorDType::kBF16) + 16 * 2, static_cast<int64_t>(stored));
  EXPECT_EQ(TableBytes(table, TensorDType::kF32), 2 * TableBytes(table, TensorDType::kBF16));
}

TEST(TensorsTest, ChecksEveryTensor) {
  const auto table = TensorTable(ConfigOf("hd_odd"));
  const auto stored = Stored(table);
  EXPECT_TRUE(CheckTensors(table, stored).ok());
  for (size_t i = 0; i < stored.size(); ++i) {
    SCOPED_TRACE(stored[i].name);
    auto missing = stored;
    missing.erase(missing.begin() + i);
    EXPECT_EQ(Message(CheckTensors(table, missing)), "tensor " + stored[i].name + " is missing");
    auto wide = stored;
    wide[i].shape.back() += 1;
    EXPECT_THAT(Message(CheckTensors(table, wide)),
                HasSubstr("tensor " + stored[i].name + " has shape"));
    auto flat = stored;
    flat[i].shape.insert(flat[i].shape.begin(), 1);
    EXPECT_THAT(Message(CheckTensors(table, flat)), HasSubstr("config.json asks for"));
    auto half = stored;
    half[i].dtype = TensorDType::kF16;
    EXPECT_EQ(Message(CheckTensors(table, half)),
              "tensor " + stored[i].name + " has dtype F16, allowed: F32, BF16");
    auto bf16 = stored;
    bf16[i].dtype = TensorDType::kBF16;
    EXPECT_TRUE(CheckTensors(table, bf16).ok());
  }
}

TEST(TensorsTest, RefusesSurplusTensors) {
  const auto table = TensorTable(ConfigOf("vd_tiny"));  // 2 layers a router
  for (const char* name : {"model.layers.1.router.w1.weight", "model.layers.0.moe.u.weight",
                           "model.layers.99.input_layernorm.weight", "x", "",
                           "model.layers.0.self_attn.q_proj.bias"}) {
    auto stored = Stored(table);
    stored.push_back({.name = name});
    EXPECT_EQ(
        Message(CheckTensors(table, stored)),
        std::string("tensor ") + name + " is not part of the model that config.json describes");
  }
}

TEST(TensorsTest, IgnoredTensorsMayHaveAnyShape) {
  const auto table = TensorTable(ConfigOf("vd_gqa_tied"));
  auto stored = Stored(table);
  for (const char* name :
       {"lm_head.weight", "model.layers.0.router.norm1.num_batches_tracked",
        "model.layers.3.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"}) {
    stored.push_back({.name = name, .dtype = TensorDType::kI64, .shape = {3}});
  }
  EXPECT_TRUE(CheckTensors(table, stored).ok());
}

}  // namespace
}  // namespace monet
