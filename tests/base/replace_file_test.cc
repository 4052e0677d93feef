#include "runtime/base/replace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace monet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ReplaceFileTest : public ::testing::Test {
 protected:
  ReplaceFileTest() {
    std::string pattern = ::testing::TempDir() + "monet-replace-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~ReplaceFileTest() override { fs::remove_all(folder_); }

  static std::string Read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static mode_t Mode(const fs::path& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  auto Entries() const { return std::distance(fs::directory_iterator(folder_), {}); }
  void ExpectRefused(const fs::path& path, const std::string& text) {
    const auto before = fs::symlink_status(path).type();
    for (const absl::Status& status : {CheckReplaceable(path), ReplaceFile(path, "new")}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path;
      EXPECT_THAT(Message(status), HasSubstr(text)) << path;
    }
    EXPECT_EQ(fs::symlink_status(path).type(), before) << path;
  }

  fs::path folder_;
};

TEST_F(ReplaceFileTest, WritesAndReplaces) {
  const fs::path path = folder_ / "file";
  ASSERT_TRUE(ReplaceFile(path, "one", {.new_mode = 0600}).ok());
  EXPECT_EQ(Read(path), "one");
  EXPECT_EQ(Mode(path), 0600u);
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);  // more than a usual umask leaves
  ASSERT_TRUE(CheckReplaceable(path).ok());
  ASSERT_TRUE(ReplaceFile(path, "two").ok());
  EXPECT_EQ(Read(path), "two");
  EXPECT_EQ(Mode(path), 0666u);
  EXPECT_EQ(Entries(), 1);
}

TEST_F(ReplaceFileTest, LeavesWhatIsNoFile) {
  const fs::path fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  ExpectRefused(fifo, "not a regular file");
  fs::create_symlink("fifo", folder_ / "link");
  ExpectRefused(folder_ / "link", "not a regular file");
  fs::create_directory(folder_ / "folder");
  ExpectRefused(folder_ / "folder", "not a regular file");
  ExpectRefused(folder_ / "none" / "file", "no such folder");
  EXPECT_EQ(Entries(), 3);
}

TEST_F(ReplaceFileTest, LeavesDevices) {
  // A node of its own with the numbers of /dev/full: the machine's own one is not put at risk.
  const fs::path device = folder_ / "full";
  if (mknod(device.c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0) {
    GTEST_SKIP() << "this user may not make devices: " << std::generic_category().message(errno);
  }
  ExpectRefused(device, "not a regular file");
}

TEST_F(ReplaceFileTest, KeepsLinks) {
  const fs::path link = folder_ / "link";
  fs::create_directory(folder_ / "folder");
  fs::create_symlink("folder/file", link);
  ExpectRefused(link, "a link that leads to no file");
  EXPECT_FALSE(fs::exists(folder_ / "folder/file"));
  std::ofstream(folder_ / "folder/file") << "old";
  ASSERT_TRUE(ReplaceFile(link, "new").ok());
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(Read(folder_ / "folder/file"), "new");
  fs::create_symlink("loop", folder_ / "loop");
  ExpectRefused(folder_ / "loop", "");
}

TEST_F(ReplaceFileTest, LetsOneWriterIn) {
  const fs::path path = folder_ / "file";
  std::ofstream(folder_ / "file.new") << "another's";
  const absl::Status status = ReplaceFile(path, "mine", {.one_writer = true});
  EXPECT_EQ(Message(status),
            "file.new is there: another writer is at work, or one was interrupted");
  EXPECT_EQ(Read(folder_ / "file.new"), "another's");
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(ReplaceFile(path, "mine").ok());
}

// No room for the new file: as on a full disk, but for root too.
TEST_F(ReplaceFileTest, AFailedWriteLeavesTheOldFile) {
  const fs::path path = folder_ / "file";
  std::ofstream(path) << "old";
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = ReplaceFile(path, std::string(10000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(status), HasSubstr("cannot be written: "));
  EXPECT_EQ(Read(path), "old");
  EXPECT_EQ(Entries(), 1);
}

// Its own name for the new file may be taken by a link that leads elsewhere.
TEST_F(ReplaceFileTest, WritesThroughNoLeftOver) {
  const fs::path path = folder_ / "file";
  std::ofstream(folder_ / "other") << "kept";
  const std::string left_over = fmt::format(".{}.{}.tmp", path.filename().string(), getpid());
  fs::create_symlink("other", path.parent_path() / left_over);
  ASSERT_TRUE(ReplaceFile(path, "new").ok());
  EXPECT_EQ(Read(path), "new");
  EXPECT_FALSE(fs::is_symlink(path));
  EXPECT_EQ(Read(folder_ / "other"), "kept");
}

}  // namespace
}  // namespace monet
