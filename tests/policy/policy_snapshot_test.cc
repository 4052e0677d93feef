#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
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
  EXPECT_EQ(with("p/2.mask", "x"), "p/2.mask: neither a policy file nor the mask file of one");
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
  WritePolicy(folder, "p", 1, kBitmap, /*model=*/2);  // the model is content too
  EXPECT_EQ(reload(), "p/1.yaml" + changed);
  WritePolicy(folder, "p", 1, kBitmap);
  EXPECT_EQ(reload(), "accepted");
  WritePolicy(folder, "foreign", 1, kOther, /*model=*/2);
  EXPECT_EQ(reload(), "foreign/1.yaml" + changed);
}

TEST(PolicySnapshotTest, LoadsTheDemoPolicies) {
  const fs::path directory = fs::path(MONET_SOURCE_DIR) / "policies";
  const auto one = ReadPolicyFile(directory / "no-python/1.yaml");
  ASSERT_TRUE(one.ok()) << Message(one.status());
  const auto snapshot = PolicySnapshot::Load(directory, one->model, MaskShape{2, 256});
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  EXPECT_EQ((*snapshot)->policies().size(), 12u);
  for (const auto& policy : (*snapshot)->policies()) {
    EXPECT_GT(policy->mask->removed(), 0);
    // The description says how many, as the script that wrote it counted.
    EXPECT_THAT(policy->description,
                HasSubstr("(" + std::to_string(policy->mask->removed()) + " "));
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
