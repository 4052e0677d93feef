#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "runtime/limits.h"
#include "runtime/policy/registry.h"
#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

using testing::ModelDigest;
using testing::PolicyText;
using ::testing::StartsWith;
using testing::TemporaryFolder;

constexpr MaskShape kShape{2, 3};

std::shared_ptr<const PolicySnapshot> MakeSnapshot(
    MaskShape shape, const std::vector<std::vector<uint8_t>>& bitmaps) {
  TemporaryFolder folder;
  for (size_t n = 0; n < bitmaps.size(); ++n) {
    PolicyText text;
    text.name = "p" + std::to_string(n / 2);
    text.version = std::to_string(1 + n % 2);
    text.shape = shape;
    folder.WritePolicy(text, bitmaps[n]);
  }
  PolicyText foreign;
  foreign.name = "foreign";
  foreign.model = ModelDigest(2).ToString();
  folder.Write("foreign/1.yaml", foreign.Text());
  auto snapshot = PolicySnapshot::Load(folder.path(), ModelDigest(1), shape);
  EXPECT_TRUE(snapshot.ok()) << Message(snapshot.status());
  return *std::move(snapshot);
}

std::shared_ptr<const PolicySnapshot> TwoPolicies() {
  // p0@1 removes expert 1 of router 0, p0@2 removes 7 and 8 of router 1.
  return MakeSnapshot(kShape, {{0x02, 0, 0, 0}, {0, 0, 0x80, 0x01}});
}

absl::Status Refusal(const std::vector<std::string>& references,
                     const std::vector<ExplicitExperts>& experts) {
  return ResolveMask(*TwoPolicies(), references, experts).status();
}

ExplicitExperts Group(int32_t router) {
  ExplicitExperts group;
  group.router = router;
  return group;
}

TEST(ResolveMaskTest, NothingIsTheMaskOfNone) {
  const auto snapshot = TwoPolicies();
  const Digest none = ExpertMask::None(kShape)->digest();
  for (const std::vector<ExplicitExperts>& experts :
       {std::vector<ExplicitExperts>{}, {Group(0)}, {Group(1), Group(0), Group(1)}}) {
    const auto resolved = ResolveMask(*snapshot, {}, experts);
    ASSERT_TRUE(resolved.ok());
    EXPECT_TRUE(resolved->mask->empty());
    EXPECT_EQ(resolved->mask->digest(), none);
    EXPECT_TRUE(resolved->policies.empty());
  }
}

TEST(ResolveMaskTest, UnitesPoliciesInAnyOrder) {
  const auto snapshot = TwoPolicies();
  const std::string digest = (*snapshot->Find("p0@1"))->digest.ToString();
  const auto both = ResolveMask(*snapshot, {"p0@1", "p0"}, {});
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->mask->removed(), 3);
  ASSERT_EQ(both->policies.size(), 2u);
  EXPECT_EQ(both->policies[0]->version, 1);
  EXPECT_EQ(both->policies[1]->version, 2);
  for (const std::vector<std::string>& references :
       {std::vector<std::string>{"p0", "p0@1"}, {"p0@2", "p0", "p0@1", "p0@" + digest, "p0"}}) {
    const auto resolved = ResolveMask(*snapshot, references, {});
    ASSERT_TRUE(resolved.ok());
    EXPECT_EQ(resolved->mask->digest(), both->mask->digest());
    EXPECT_EQ(resolved->policies, both->policies);
  }
}

TEST(ResolveMaskTest, OnePolicySharesItsMask) {
  const auto snapshot = TwoPolicies();
  EXPECT_EQ(ResolveMask(*snapshot, {"p0", "p0@2"}, {})->mask, (*snapshot->Find("p0"))->mask);
  // The same experts given by number have the same digest.
  ExplicitExperts group = Group(1);
  group.ids = {8, 7};
  EXPECT_EQ(ResolveMask(*snapshot, {}, {group})->mask->digest(),
            (*snapshot->Find("p0"))->mask->digest());
}

TEST(ResolveMaskTest, ErrorsNameTheField) {
  const auto refuse = [](const std::vector<std::string>& references, const char* field,
                         absl::StatusCode code) {
    const absl::Status status = Refusal(references, {});
    EXPECT_EQ(status.code(), code);
    EXPECT_THAT(Message(status), StartsWith(field));
  };
  refuse({"p0", "P"}, "mask.policies[1]: ", absl::StatusCode::kInvalidArgument);
  refuse({"none", "p0"}, "mask.policies[0]: ", absl::StatusCode::kNotFound);
  refuse({"p0", "p0", "foreign"}, "mask.policies[2]: ", absl::StatusCode::kFailedPrecondition);
  refuse(std::vector<std::string>(33, "p0"), "mask.policies: 33 entries, limit 32",
         absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Refusal(std::vector<std::string>(32, "p0"), {}).ok());
}

TEST(ResolveMaskTest, ErrorsNameTheExpert) {
  const auto refuse = [](const ExplicitExperts& group, const char* field) {
    const absl::Status status = Refusal({}, {Group(0), group});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), StartsWith(field));
  };
  for (int32_t router : {-1, 2, INT32_MAX, INT32_MIN}) {
    refuse(Group(router), "mask.experts[1].router: ");
  }
  for (int64_t bad : {int64_t{-1}, int64_t{9}, INT64_MAX, INT64_MIN}) {
    ExplicitExperts group = Group(1);
    group.ids = {8, bad};
    refuse(group, "mask.experts[1].ids[1]: ");
    group = Group(1);
    group.rows = {2, 2, bad};
    refuse(group, "mask.experts[1].rows[2]: ");
    group = Group(1);
    group.columns = {bad};
    refuse(group, "mask.experts[1].columns[0]: ");
  }
  ExplicitExperts group = Group(1);
  for (const std::vector<uint8_t>& bitmap :
       {std::vector<uint8_t>{0}, {0, 0, 0}, {0, 0x02}, std::vector<uint8_t>(1 << 20)}) {
    group.bitmap = bitmap;
    refuse(group, "mask.experts[1].bitmap: ");
  }
}

TEST(ResolveMaskTest, BoundsTheEntries) {
  ExplicitExperts group = Group(0);
  group.ids.assign(limits::kMaxExplicitExperts, 0);
  EXPECT_TRUE(Refusal({}, {group}).ok());
  group.rows = {0};
  EXPECT_EQ(Message(Refusal({}, {group})),
            "mask.experts: 1048577 ids, rows and columns, limit 1048576");
  std::vector<ExplicitExperts> groups(limits::kMaxMaskRouterEntries);
  EXPECT_TRUE(Refusal({}, groups).ok());
  groups.emplace_back();
  EXPECT_EQ(Message(Refusal({}, groups)), "mask.experts: 1025 entries, limit 1024");
}

TEST(ResolveMaskTest, RepeatedColumnsCostNothing) {
  const MaskShape shape{1, 4096};
  const auto snapshot = PolicySnapshot::Empty(ModelDigest(1), shape);
  ExplicitExperts group;
  group.columns.assign(limits::kMaxExplicitExperts - 1, 7);
  const std::clock_t begin = std::clock();  // this process's own time, whatever else runs
  const auto resolved = ResolveMask(*snapshot, {}, {group});
  // Setting 2^20 · 4096 bits, each in another cache line, takes many seconds.
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 2.0);
  ASSERT_TRUE(resolved.ok());
  EXPECT_EQ(resolved->mask->removed(), 4096);
}

// A set of experts, the plain way.
using Removed = std::vector<std::vector<bool>>;  // (R, E²)

void RemoveBitmap(const MaskShape& shape, int32_t router, std::span<const uint8_t> bitmap,
                  Removed* removed) {
  for (int32_t e = 0; e < shape.experts * shape.experts; ++e) {
    if (bitmap[e / 8] >> (e % 8) & 1) (*removed)[router][e] = true;
  }
}

ExplicitExperts RandomGroup(const MaskShape& shape, std::mt19937& random, Removed* removed) {
  const int32_t side = shape.experts;
  ExplicitExperts group;
  group.router = static_cast<int32_t>(random() % shape.routers);
  auto& router = (*removed)[group.router];
  for (int n = random() % 4; n > 0; --n) {
    group.ids.push_back(random() % (side * side));
    router[group.ids.back()] = true;
  }
  for (int n = random() % 8 == 0 ? 2 : 0; n > 0; --n) {
    group.rows.push_back(random() % side);
    for (int32_t j = 0; j < side; ++j) router[group.rows.back() * side + j] = true;
  }
  for (int n = random() % 8 == 0 ? 2 : 0; n > 0; --n) {
    group.columns.push_back(random() % side);
    for (int32_t i = 0; i < side; ++i) router[i * side + group.columns.back()] = true;
  }
  if (random() % 4 == 0) {
    group.bitmap = testing::RandomBitmap({1, side}, 20, random);
    RemoveBitmap(shape, group.router, group.bitmap, removed);
  }
  return group;
}

TEST(ResolveMaskTest, EqualsBruteForce) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    const MaskShape shape{1 + static_cast<int32_t>(random() % 3),
                          1 + static_cast<int32_t>(random() % 6)};
    std::vector<std::vector<uint8_t>> bitmaps;
    for (int n = 0; n < 4; ++n) {
      bitmaps.push_back(testing::RandomBitmap(shape, static_cast<int>(random() % 40), random));
    }
    const auto snapshot = MakeSnapshot(shape, bitmaps);
    for (int request = 0; request < 50; ++request) {
      Removed removed(shape.routers, std::vector<bool>(shape.experts * shape.experts));
      std::vector<std::string> references;
      for (int n = random() % 4; n > 0; --n) {
        const size_t policy = random() % bitmaps.size();
        references.push_back(fmt::format("p{}@{}", policy / 2, 1 + policy % 2));
        for (int32_t r = 0; r < shape.routers; ++r) {
          const auto part = std::span(bitmaps[policy]).subspan(r * shape.BytesPerRouter());
          RemoveBitmap(shape, r, part, &removed);
        }
      }
      std::vector<ExplicitExperts> experts;
      for (int n = random() % 3; n > 0; --n) {
        experts.push_back(RandomGroup(shape, random, &removed));
      }
      const auto resolved = ResolveMask(*snapshot, references, experts);
      ASSERT_TRUE(resolved.ok()) << Message(resolved.status());
      int64_t count = 0;
      for (int32_t r = 0; r < shape.routers; ++r) {
        for (int32_t e = 0; e < shape.experts * shape.experts; ++e) {
          count += removed[r][e];
          ASSERT_EQ(resolved->mask->Removes(r, e / shape.experts, e % shape.experts),
                    removed[r][e]);
        }
      }
      ASSERT_EQ(resolved->mask->removed(), count);
      // Neither order nor repetition changes the digest.
      std::shuffle(references.begin(), references.end(), random);
      std::shuffle(experts.begin(), experts.end(), random);
      if (!experts.empty()) experts.push_back(experts[0]);
      ASSERT_EQ(ResolveMask(*snapshot, references, experts)->mask->digest(),
                resolved->mask->digest());
    }
  }
}

}  // namespace
}  // namespace monet
