#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/limits.h"
#include "runtime/policy/registry.h"
#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ModelDigest;
using ::testing::Not;
using testing::PolicyText;
using ::testing::StartsWith;
using testing::TemporaryFolder;

constexpr MaskShape kShape{2, 3};
const std::vector<uint8_t> kBitmap = {0x02, 0x00, 0x80, 0x01};
const std::vector<uint8_t> kOther = {0x01, 0x00, 0x00, 0x00};

absl::StatusOr<std::shared_ptr<const PolicySnapshot>> Load(const fs::path& directory) {
  return PolicySnapshot::Load(directory, ModelDigest(1), kShape);
}

std::string Refusal(const TemporaryFolder& folder) {
  const auto snapshot = Load(folder.path());
  if (snapshot.ok()) return "accepted";
  EXPECT_EQ(snapshot.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(snapshot.status()), Not(HasSubstr(folder.path().string())));
  return Message(snapshot.status());
}

void WritePolicy(const TemporaryFolder& folder, const std::string& name, int version,
                 const std::vector<uint8_t>& bitmap, uint8_t model = 1) {
  PolicyText text;
  text.name = name;
  text.version = std::to_string(version);
  text.model = ModelDigest(model).ToString();
  folder.WritePolicy(text, bitmap);
}

absl::StatusCode Code(const PolicySnapshot& snapshot, std::string_view reference) {
  return snapshot.Find(reference).status().code();
}

TEST(PolicySnapshotTest, OrdersByNameThenVersion) {
  TemporaryFolder folder;
  WritePolicy(folder, "b", 10, kBitmap);
  WritePolicy(folder, "b", 9, kOther);
  WritePolicy(folder, "a", 2, kBitmap);
  WritePolicy(folder, "a-b", 1, kBitmap);
  const auto snapshot = Load(folder.path());
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  std::vector<std::string> order;
  for (const auto& policy : (*snapshot)->policies()) {
    order.push_back(policy->name + "@" + std::to_string(policy->version));
  }
  EXPECT_EQ(order, (std::vector<std::string>{"a@2", "a-b@1", "b@9", "b@10"}));
  EXPECT_EQ((*snapshot)->model(), ModelDigest(1));
  EXPECT_EQ((*snapshot)->shape(), kShape);
}

TEST(PolicySnapshotTest, FindsByNameVersionAndDigest) {
  TemporaryFolder folder;
  WritePolicy(folder, "p", 9, kOther);
  WritePolicy(folder, "p", 10, kBitmap);
  WritePolicy(folder, "q", 1, kBitmap);
  const auto loaded = Load(folder.path());
  ASSERT_TRUE(loaded.ok());
  const PolicySnapshot& snapshot = **loaded;
  EXPECT_EQ((*snapshot.Find("p"))->version, 10);
  EXPECT_EQ((*snapshot.Find("p@9"))->version, 9);
  EXPECT_EQ((*snapshot.Find("q"))->name, "q");
  const Digest digest = (*snapshot.Find("p@9"))->digest;
  EXPECT_EQ((*snapshot.Find("p@" + digest.ToString()))->version, 9);
  // q holds p@10's experts but not p@9's.
  EXPECT_EQ(Code(snapshot, "q@" + digest.ToString()), absl::StatusCode::kNotFound);
}

TEST(PolicySnapshotTest, FailsClosed) {
  TemporaryFolder folder;
  WritePolicy(folder, "p", 1, kBitmap);
  WritePolicy(folder, "p", 2, kBitmap, /*model=*/2);
  WritePolicy(folder, "foreign", 1, kBitmap, /*model=*/2);
  const auto loaded = Load(folder.path());
  ASSERT_TRUE(loaded.ok()) << Message(loaded.status());
  const PolicySnapshot& snapshot = **loaded;
  ASSERT_EQ(snapshot.policies().size(), 1u);
  EXPECT_EQ((*snapshot.Find("p"))->version, 1);  // the highest of this model
  EXPECT_EQ(Code(snapshot, "p@2"), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Code(snapshot, "foreign"), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Code(snapshot, "foreign@1"), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Code(snapshot, "p@3"), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(snapshot, "foreign@2"), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(snapshot, "none"), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(snapshot, "p@" + Digest().ToString()), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(snapshot.Find("none").status()), "policy none is not known");
}

TEST(PolicySnapshotTest, RefusesMalformedReferences) {
  const auto snapshot = PolicySnapshot::Empty(ModelDigest(1), kShape);
  for (const std::string& reference : {std::string(),
                                       std::string("@1"),
                                       std::string("p@"),
                                       std::string("p@0"),
                                       std::string("p@01"),
                                       std::string("p@-1"),
                                       std::string("p@+1"),
                                       std::string("p@1.0"),
                                       std::string("p@1 "),
                                       std::string("p@2147483648"),
                                       std::string("p@99999999999999999999"),
                                       std::string("p@1@1"),
                                       std::string("P"),
                                       std::string("p/1"),
                                       std::string("../p"),
                                       std::string("p\0", 2),
                                       std::string("p@latest"),
                                       std::string("p@sha256:12"),
                                       std::string(64, 'a'),
                                       std::string("p@sha256:") + std::string(64, 'A'),
                                       std::string(1 << 20, 'p')}) {
    EXPECT_EQ(Code(*snapshot, reference), absl::StatusCode::kInvalidArgument) << reference;
  }
  EXPECT_EQ(Code(*snapshot, "p@2147483647"), absl::StatusCode::kNotFound);
}

TEST(PolicySnapshotTest, AcceptsAMountedConfigMap) {
  TemporaryFolder folder;
  // name/..data -> ..2026_01, name/1.yaml -> ..data/1.yaml, as the kubelet writes it.
  TemporaryFolder plain;
  WritePolicy(plain, "p", 1, kBitmap);
  fs::create_directories(folder.path() / "p/..2026_01");
  for (const char* file : {"1.yaml", "1.mask"}) {
    fs::copy_file(plain.path() / "p" / file, folder.path() / "p/..2026_01" / file);
    fs::create_symlink(fs::path("..data") / file, folder.path() / "p" / file);
  }
  fs::create_directory_symlink("..2026_01", folder.path() / "p/..data");
  // A whole folder behind a link.
  WritePolicy(folder, ".2026_02/q", 1, kBitmap);
  folder.Write(".2026_02/q/1.yaml", [&] {
    PolicyText text;
    text.name = "q";
    return text.Text();
  }());
  fs::remove(folder.path() / ".2026_02/q/1.mask");
  fs::create_directory_symlink(".2026_02/q", folder.path() / "q");
  const auto snapshot = Load(folder.path());
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  EXPECT_EQ((*snapshot)->policies().size(), 2u);
}

TEST(PolicySnapshotTest, RefusesAnythingElseInTheDirectory) {
  const auto with = [](const char* file, std::string_view bytes) {
    TemporaryFolder folder;
    WritePolicy(folder, "p", 1, kBitmap);
    folder.Write(file, bytes);
    return Refusal(folder);
  };
  EXPECT_EQ(with(".hidden", "x"), "accepted");
  EXPECT_EQ(with(".git/x", "x"), "accepted");
  EXPECT_EQ(with("p/.hidden", "x"), "accepted");
  // A flat layout is not accepted.
  EXPECT_EQ(with("no-test.yaml", PolicyText().Text()),
            "no-test.yaml: not a folder with a policy's name");
  EXPECT_EQ(with("README", "x"), "README: not a folder with a policy's name");
  EXPECT_EQ(with("P/1.yaml", "x"), "P: not a folder with a policy's name");
  EXPECT_EQ(with("p/README", "x"), "p/README: neither a policy file nor the mask file of one");
  // A writer that was interrupted leaves a mask, or what it meant to rename.
  EXPECT_EQ(with("p/2.mask", "x"), "accepted");
  EXPECT_EQ(with("p/.2.yaml.17.tmp", "x"), "accepted");
  EXPECT_THAT(with("p/q/1.yaml", "x"), StartsWith("p/q: neither"));
  EXPECT_THAT(with("p/01.yaml", PolicyText().Text()), StartsWith("p/01.yaml: "));
  EXPECT_THAT(with("p/2.yaml", PolicyText().Text()), StartsWith("p/2.yaml: name is"));
  EXPECT_THAT(with("p/2.yaml", "garbage"), StartsWith("p/2.yaml: line 1"));
  EXPECT_THAT(with("p/1.mask", "garbage"), StartsWith("p/1.yaml: experts.file (line 8)"));
}

TEST(PolicySnapshotTest, RefusesLinksToNothingAndPipes) {
  TemporaryFolder folder;
  fs::create_directories(folder.path() / "p");
  fs::create_symlink("nowhere", folder.path() / "p/1.yaml");
  EXPECT_EQ(Refusal(folder), "p/1.yaml: no such file");
  fs::remove(folder.path() / "p/1.yaml");
  ASSERT_EQ(::mkfifo((folder.path() / "p/1.yaml").c_str(), 0600), 0);
  EXPECT_EQ(Refusal(folder), "p/1.yaml: not a regular file");
}

TEST(PolicySnapshotTest, RefusesThisModelInAnotherShape) {
  TemporaryFolder folder;
  PolicyText text;
  text.shape = {3, 3};
  folder.Write("no-test/1.yaml", text.Text());
  EXPECT_EQ(Refusal(folder),
            "no-test/1.yaml: 3 routers and 3 experts a side; the model has 2 and 3");
  text.model = ModelDigest(2).ToString();
  folder.Write("no-test/1.yaml", text.Text());
  EXPECT_EQ(Refusal(folder), "accepted");
}

TEST(PolicySnapshotTest, RefusesAMissingDirectoryAndTooManyPolicies) {
  EXPECT_THAT(Message(Load("/no/such/directory").status()), StartsWith("policy directory: "));
  TemporaryFolder folder;
  PolicyText text;
  for (size_t n = 1; n <= limits::kMaxPolicies; ++n) {
    text.version = std::to_string(n);
    folder.Write("no-test/" + text.version + ".yaml", text.Text());
  }
  EXPECT_EQ(Refusal(folder), "accepted");
  text.version = "4097";
  folder.Write("no-test/4097.yaml", text.Text());
  EXPECT_THAT(Refusal(folder), HasSubstr("more than 4096 policies"));
}

TEST(PolicySnapshotTest, RefusesVersionsThatChanged) {
  TemporaryFolder folder;
  WritePolicy(folder, "p", 1, kBitmap);
  WritePolicy(folder, "foreign", 1, kBitmap, /*model=*/2);
  const auto first = Load(folder.path());
  ASSERT_TRUE(first.ok());
  const auto reload = [&] {
    const auto next = PolicySnapshot::Load(folder.path(), ModelDigest(1), kShape, first->get());
    return next.ok() ? "accepted" : Message(next.status());
  };
  WritePolicy(folder, "p", 2, kOther);
  EXPECT_EQ(reload(), "accepted");
  const std::string changed = ": the content of a version has changed; give it another number";
  WritePolicy(folder, "p", 1, kOther);
  EXPECT_EQ(reload(), "p/1.yaml" + changed);
  WritePolicy(folder, "p", 1, kBitmap, /*model=*/2);  // the same version of another model
  EXPECT_EQ(reload(), "accepted");
  WritePolicy(folder, "p", 1, kBitmap);
  EXPECT_EQ(reload(), "accepted");
  WritePolicy(folder, "foreign", 1, kOther, /*model=*/2);
  EXPECT_EQ(reload(), "foreign/1.yaml" + changed);
}

TEST(PolicySnapshotTest, AVersionThatWentAwayComesBackWithItsOwnContentOnly) {
  TemporaryFolder folder;
  WritePolicy(folder, "p", 1, kBitmap);
  auto current = Load(folder.path());
  ASSERT_TRUE(current.ok());
  const auto reload = [&]() -> std::string {
    auto next = PolicySnapshot::Load(folder.path(), ModelDigest(1), kShape, (*current).get());
    if (!next.ok()) return Message(next.status());
    current = std::move(next);
    return "accepted";
  };
  fs::remove_all(folder.path() / "p");
  EXPECT_EQ(reload(), "accepted");
  WritePolicy(folder, "q", 1, kBitmap);
  EXPECT_EQ(reload(), "accepted");
  WritePolicy(folder, "p", 1, kOther);
  EXPECT_EQ(reload(), "p/1.yaml: the content of a version has changed; give it another number");
  EXPECT_EQ(reload(), "p/1.yaml: the content of a version has changed; give it another number");
  WritePolicy(folder, "p", 1, kBitmap);
  EXPECT_EQ(reload(), "accepted");
  EXPECT_TRUE((*current)->Find("p@1").ok());
}

TEST(PolicySnapshotTest, ModelsShareNamesAndVersions) {
  TemporaryFolder folder;
  const auto write = [&](uint8_t model, const std::string& file, const std::string& id) {
    PolicyText text;
    text.model = ModelDigest(model).ToString();
    text.experts = "{inline: [{router: 0, ids: [" + id + "]}]}";
    folder.Write("no-test/" + file, text.Text());
  };
  write(1, "1.01010101.yaml", "4");
  write(2, "1.020202020202.yaml", "5");
  write(3, "1.yaml", "6");
  for (const uint8_t model : {1, 2, 3}) {
    const auto snapshot = PolicySnapshot::Load(folder.path(), ModelDigest(model), kShape);
    ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
    ASSERT_EQ((*snapshot)->policies().size(), 1u);
    for (const char* reference : {"no-test", "no-test@1"}) {
      const auto policy = (*snapshot)->Find(reference);
      ASSERT_TRUE(policy.ok()) << Message(policy.status());
      const int32_t expert = 3 + model;
      EXPECT_TRUE((*policy)->mask->Removes(0, expert / 3, expert % 3));
      EXPECT_EQ((*policy)->mask->removed(), 1);
    }
  }
  const auto fourth = PolicySnapshot::Load(folder.path(), ModelDigest(4), kShape);
  ASSERT_TRUE(fourth.ok());
  EXPECT_EQ((*fourth)->Find("no-test@1").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message((*fourth)->Find("no-test@1").status()),
            "policy no-test@1 belongs to another model");

  write(1, "1.0101010101.yaml", "4");
  EXPECT_EQ(Refusal(folder),
            "no-test/1.0101010101.yaml: another file is of the same version and model");
  fs::remove(folder.path() / "no-test/1.0101010101.yaml");
  for (const char* file : {"1.02020202.yaml", "1.0101010.yaml", "1..yaml", "1.01010101.x.yaml",
                           "1.0101010G.yaml", "01.yaml", "2.01010101.yaml"}) {
    write(1, file, "4");
    EXPECT_THAT(Refusal(folder), StartsWith(std::string("no-test/") + file + ": ")) << file;
    fs::remove(folder.path() / "no-test" / file);
  }
}

// Whatever becomes of the bytes of a policy, it is taken with the content that it was made with, or
// for another model, or the directory is refused.
TEST(PolicySnapshotTest, DamageNeverChangesAPolicy) {
  TemporaryFolder whole;
  std::mt19937 random(7);
  const MaskShape shape{2, 3};
  WritePolicy(whole, "p", 1, testing::RandomBitmap(shape, 40, random));
  const auto before = Load(whole.path());
  ASSERT_TRUE(before.ok());
  const Digest digest = (*(*before)->Find("p@1"))->digest;
  int refused = 0, same = 0;
  const auto judge = [&](const TemporaryFolder& folder, const std::string& damage) {
    const auto snapshot = Load(folder.path());
    if (!snapshot.ok()) {
      ++refused;
      return;
    }
    ++same;
    for (const auto& policy : (*snapshot)->policies()) {
      EXPECT_EQ(policy->name, "p") << damage;
      EXPECT_EQ(policy->digest, digest) << damage;
    }
    EXPECT_NE(Code(**snapshot, "p@2"), absl::StatusCode::kOk) << damage;
  };
  for (const char* file : {"p/1.yaml", "p/1.mask"}) {
    std::ifstream in(whole.path() / file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    ASSERT_FALSE(bytes.empty());
    TemporaryFolder folder;
    fs::copy(whole.path() / "p", folder.path() / "p");
    for (size_t n = 0; n < bytes.size(); ++n) {
      folder.Write(file, bytes.substr(0, n));
      judge(folder, fmt::format("{} cut to {}", file, n));
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = bytes;
        damaged[n] = static_cast<char>(damaged[n] ^ (1 << bit));
        folder.Write(file, damaged);
        judge(folder, fmt::format("{} byte {} bit {}", file, n, bit));
      }
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(same, 0);  // a last newline, another model's fingerprint
}

TEST(PolicySnapshotTest, HugeFilesAreNotRead) {
  for (const char* file : {"p/1.yaml", "p/1.mask"}) {
    TemporaryFolder folder;
    WritePolicy(folder, "p", 1, kBitmap);
    fs::resize_file(folder.path() / file, uint64_t{1} << 40);  // sparse
    EXPECT_THAT(Refusal(folder), HasSubstr("limit")) << file;
  }
}

TEST(VersionHistoryTest, ForgetsTheFirstThatWent) {
  Policy policy;
  policy.name = "p";
  policy.version = 1;
  VersionHistory history;
  ASSERT_TRUE(history.Add(policy).ok());
  const size_t most = limits::kMaxRetiredVersions;
  for (size_t generation = 0; generation < 2; ++generation) {
    VersionHistory next;
    next.Follow(history);
    for (size_t n = 0; n < most; ++n) {
      policy.version = static_cast<int32_t>(2 + generation * most + n);
      ASSERT_TRUE(next.Add(policy).ok());
    }
    next.Finish();
    history = std::move(next);
  }
  EXPECT_EQ(history.retired(), most);
  VersionHistory last;
  last.Follow(history);
  last.Finish();
  EXPECT_EQ(last.retired(), most);
  policy.digest.bytes[0] = 1;
  const auto add = [&](int32_t version) {
    policy.version = version;
    return last.Add(policy).ok();
  };
  EXPECT_TRUE(add(1));
  EXPECT_TRUE(add(2));  // of the first generation
  EXPECT_FALSE(add(static_cast<int32_t>(2 + most)));
}

TEST(PolicySnapshotTest, LoadsTheDemoPolicies) {
  const fs::path directory = fs::path(MONET_SOURCE_DIR) / "policies";
  const auto one = ReadPolicyFile(directory / "no-python/1.yaml");
  ASSERT_TRUE(one.ok()) << Message(one.status());
  const auto snapshot = PolicySnapshot::Load(directory, one->policy.model, MaskShape{2, 256});
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  EXPECT_EQ((*snapshot)->policies().size(), 12u);
  for (const auto& policy : (*snapshot)->policies()) {
    EXPECT_GT(policy->mask->removed(), 0);
    // The description says how many, as the script that wrote it counted.
    EXPECT_THAT(policy->description, HasSubstr(fmt::format("({} ", policy->mask->removed())));
  }
}

TEST(PolicyRegistryTest, ReadersKeepWhatTheyGot) {
  TemporaryFolder folder;
  WritePolicy(folder, "p", 1, kBitmap);
  PolicyRegistry registry(*Load(folder.path()));
  const auto before = registry.Current();
  registry.Swap(PolicySnapshot::Empty(ModelDigest(1), kShape));
  EXPECT_TRUE(before->Find("p").ok());
  EXPECT_FALSE(registry.Current()->Find("p").ok());
}

}  // namespace
}  // namespace monet
