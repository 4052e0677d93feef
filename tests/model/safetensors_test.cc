#include "runtime/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/limits.h"
#include "tests/model/checkpoint_files.h"

namespace monet {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string LengthPrefix(uint64_t length) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(length >> (8 * i) & 0xff);
  return out;
}

std::string FileOf(const std::string& header, size_t data_bytes) {
  return LengthPrefix(header.size()) + header + std::string(data_bytes, 'x');
}

class SafetensorsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<SafetensorsFile>> OpenBytes(const std::string& bytes) {
    testing::WriteText(folder_.path() / "a.safetensors", bytes);
    return SafetensorsFile::Open(folder_.path() / "a.safetensors");
  }
  // "" when the file opens.
  std::string ErrorOf(const std::string& bytes) {
    const auto file = OpenBytes(bytes);
    if (file.ok()) return "";
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(file.status()), ::testing::StartsWith("a.safetensors: "));
    return Message(file.status());
  }
  std::string ErrorOf(const std::string& header, size_t data_bytes) {
    return ErrorOf(FileOf(header, data_bytes));
  }

  TemporaryFolder folder_;
};

TEST_F(SafetensorsTest, ReadsWhatTheFormatAllows) {
  const auto file = OpenBytes(FileOf(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
      R"("a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("e":{"dtype":"F32","shape":[0,4],"data_offsets":[8,8]}}    )",
      20));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  ASSERT_EQ((*file)->tensors().size(), 3u);
  EXPECT_EQ((*file)->tensors()[0].name, "a");
  EXPECT_EQ((*file)->tensors()[1].name, "e");
  EXPECT_EQ((*file)->tensors()[2].name, "b");
  const TensorInfo* b = (*file)->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, TensorDType::kBF16);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->bytes, 12u);
  EXPECT_EQ((*file)->Find("c"), nullptr);
}

TEST_F(SafetensorsTest, ReadsPartsOfATensor) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  const auto file = OpenBytes(LengthPrefix(header.size()) + header + "wxyz");
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const TensorInfo* a = (*file)->Find("a");
  std::vector<uint8_t> two(2);
  ASSERT_TRUE((*file)->Read(*a, 1, two).ok());
  EXPECT_EQ(two, (std::vector<uint8_t>{'x', 'y'}));
  EXPECT_FALSE((*file)->Read(*a, 3, two).ok());
  EXPECT_FALSE((*file)->Read(*a, UINT64_MAX, two).ok());
}

TEST_F(SafetensorsTest, RefusesBadHeaderLengths) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("too short for a header"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("too short for a header"));
  EXPECT_THAT(ErrorOf(LengthPrefix(0)), HasSubstr("does not begin with {"));
  EXPECT_THAT(ErrorOf(LengthPrefix(3) + "{}"), HasSubstr("header has 3 bytes, the file only 10"));
  EXPECT_THAT(ErrorOf(LengthPrefix(UINT64_MAX) + "{}"), HasSubstr("limit 104857600"));
  EXPECT_THAT(ErrorOf(LengthPrefix(uint64_t{1} << 63) + "{}"), HasSubstr("limit"));
  EXPECT_THAT(ErrorOf(LengthPrefix(limits::kMaxSafetensorsHeaderBytes + 1) + "{}"),
              HasSubstr("limit"));
}

TEST_F(SafetensorsTest, RefusesBadJson) {
  EXPECT_THAT(ErrorOf("[]", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(ErrorOf(" {}", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(ErrorOf("{", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{}{}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\xff\":{}}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":" + std::string(100'000, '['), 0), HasSubstr("nested deeper than"));
  EXPECT_THAT(ErrorOf("{\"a\":" + std::string(100'000, '{'), 0), HasSubstr("not valid JSON"));
  EXPECT_EQ(ErrorOf("{}", 0), "");
}

TEST_F(SafetensorsTest, RefusesBadEntries) {
  const auto error = [this](const std::string& entry, size_t bytes) {
    return ErrorOf("{\"a\":" + entry + "}", bytes);
  };
  EXPECT_THAT(error("1", 0), HasSubstr("tensor a: not an object"));
  EXPECT_THAT(error("{}", 0), HasSubstr("dtype is missing"));
  EXPECT_THAT(error(R"({"dtype":3,"shape":[],"data_offsets":[0,4]})", 4), HasSubstr("dtype"));
  EXPECT_THAT(error(R"({"dtype":"F31","shape":[],"data_offsets":[0,4]})", 4),
              HasSubstr("unknown dtype \"F31\""));
  EXPECT_THAT(error(R"({"dtype":"F32","data_offsets":[0,4]})", 4), HasSubstr("shape is missing"));
  EXPECT_THAT(error(R"({"dtype":"F32","shape":[]})", 4), HasSubstr("data_offsets is not"));
  for (const char* offsets :
       {"[0]", "[0,4,4]", "[-1,4]", "[0.0,4]", "[\"0\",4]", "4", "[0,18446744073709551616]"}) {
    EXPECT_THAT(
        error(std::string(R"({"dtype":"F32","shape":[],"data_offsets":)") + offsets + "}", 4),
        HasSubstr("data_offsets is not two integers"))
        << offsets;
  }
  for (const char* shape : {"[-1]", "[1.0]", "[\"1\"]", "[true]", "[18446744073709551615]"}) {
    EXPECT_THAT(
        error(std::string(R"({"dtype":"F32","shape":)") + shape + R"(,"data_offsets":[0,4]})", 4),
        HasSubstr("a dimension is not an integer"))
        << shape;
  }
  EXPECT_THAT(error(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1),
              HasSubstr("9 dimensions, limit 8"));
  EXPECT_THAT(error(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1})", 1),
              HasSubstr("unknown key \"x\""));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":[]})", 0), HasSubstr("__metadata__"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{"a":1}})", 0), HasSubstr("__metadata__"));
}

TEST_F(SafetensorsTest, RefusesShapesThatDoNotFitTheBytes) {
  const auto error = [this](const std::string& shape, size_t bytes) {
    return ErrorOf(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,)" +
                       std::to_string(bytes) + "]}}",
                   bytes);
  };
  EXPECT_EQ(error("[2]", 8), "");
  EXPECT_THAT(error("[3]", 8), HasSubstr("8 bytes of data, shape and dtype ask for 12"));
  EXPECT_THAT(error("[1]", 8), HasSubstr("ask for 4"));
  EXPECT_THAT(error("[0]", 8), HasSubstr("ask for 0"));
  // 2^62 · 4 wraps to 0, 2^32 · 2^30 · 4 too.
  EXPECT_THAT(error("[4611686018427387904]", 0), HasSubstr("overflows"));
  EXPECT_THAT(error("[4294967296,1073741824]", 0), HasSubstr("overflows"));
}

TEST_F(SafetensorsTest, RefusesOffsetsThatDoNotTileTheData) {
  const auto entry = [](const std::string& name, int count, int begin, int end) {
    return "\"" + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(count) +
           R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  const auto error = [&](const std::string& a, const std::string& b, size_t bytes) {
    return ErrorOf("{" + a + "," + b + "}", bytes);
  };
  EXPECT_EQ(error(entry("a", 4, 0, 4), entry("b", 4, 4, 8), 8), "");
  EXPECT_EQ(error(entry("a", 4, 4, 8), entry("b", 4, 0, 4), 8), "");
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("b", 4, 2, 6), 6), HasSubstr("data begins at 2"));
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("b", 4, 0, 4), 4), HasSubstr("data begins at 0"));
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("b", 4, 5, 9), 9), HasSubstr("data begins at 5"));
  EXPECT_THAT(error(entry("a", 4, 1, 5), entry("b", 4, 5, 9), 9), HasSubstr("data begins at 1"));
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("b", 4, 4, 8), 9), HasSubstr("9 bytes of data"));
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("b", 4, 4, 8), 7), HasSubstr("beyond 7 bytes"));
  EXPECT_THAT(error(entry("a", 4, 4, 0), entry("b", 4, 4, 8), 8), HasSubstr("reversed"));
  EXPECT_THAT(error(entry("a", 4, 0, 4), entry("a", 4, 4, 8), 8), HasSubstr("duplicate key"));
  EXPECT_THAT(ErrorOf("{}", 1), HasSubstr("1 bytes of data, the tensors cover 0"));
}

TEST_F(SafetensorsTest, RefusesEveryTruncationOfARealFile) {
  const std::string whole =
      testing::ReadText(testing::GoldenFolder("vd_262144") / "golden.safetensors");
  ASSERT_EQ(ErrorOf(whole), "");
  for (size_t length = 0; length < whole.size(); length += 211) {
    EXPECT_NE(ErrorOf(whole.substr(0, length)), "") << length;
  }
  EXPECT_NE(ErrorOf(whole.substr(0, whole.size() - 1)), "");
  EXPECT_NE(ErrorOf(whole + '\0'), "");
}

TEST_F(SafetensorsTest, AFileThatShrinksWhileOpenIsAnError) {
  const auto file =
      OpenBytes(FileOf(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 9));
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(folder_.path() / "a.safetensors", 20);
  std::vector<uint8_t> out(9);
  const absl::Status status = (*file)->Read((*file)->tensors()[0], 0, out);
  EXPECT_THAT(Message(status), HasSubstr("a.safetensors: the file is shorter"));
}

TEST_F(SafetensorsTest, RefusesWhatIsNotAFile) {
  const auto missing = SafetensorsFile::Open(folder_.path() / "none.safetensors");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("none.safetensors"));
  EXPECT_THAT(Message(missing.status()), ::testing::Not(HasSubstr(folder_.path().string())));
  EXPECT_THAT(Message(SafetensorsFile::Open(folder_.path()).status()),
              HasSubstr("not a regular file"));
  const auto fifo = folder_.path() / "fifo.safetensors";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(Message(SafetensorsFile::Open(fifo).status()), HasSubstr("not a regular file"));
}

TEST_F(SafetensorsTest, WritesWhatItReads) {
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto path = folder_.path() / "w.safetensors";
  ASSERT_TRUE(WriteSafetensors(path, {{"z", TensorDType::kF32, {2, 1}, bytes},
                                      {"a", TensorDType::kU8, {0}, {}},
                                      {"\xc3\xa4", TensorDType::kI64, {}, bytes}})
                  .ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const TensorInfo* z = (*file)->Find("z");
  ASSERT_NE(z, nullptr);
  EXPECT_EQ(z->shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(z->offset % 8, 0u);
  std::vector<uint8_t> read(8);
  ASSERT_TRUE((*file)->Read(*z, 0, read).ok());
  EXPECT_EQ(read, bytes);
  EXPECT_EQ((*file)->Find("\xc3\xa4")->shape, std::vector<int64_t>{});
  EXPECT_EQ((*file)->Find("a")->bytes, 0u);
}

TEST_F(SafetensorsTest, WriterRefusesBadTensors) {
  const std::vector<uint8_t> bytes(4);
  const auto code = [&](const std::vector<TensorToWrite>& tensors) {
    return EncodeSafetensors(tensors).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({{"a", TensorDType::kF32, {2}, bytes}}), kInvalid);
  EXPECT_EQ(code({{"__metadata__", TensorDType::kF32, {1}, bytes}}), kInvalid);
  EXPECT_EQ(code({{"a", TensorDType::kF32, {1}, bytes}, {"a", TensorDType::kF32, {1}, bytes}}),
            kInvalid);
  EXPECT_EQ(code({{"a", TensorDType::kF32, {1}, bytes}}), absl::StatusCode::kOk);
}

// A pipe, a device or a folder is not what somebody wants to have a file in the place of.
TEST_F(SafetensorsTest, WriterLeavesWhatIsNoFile) {
  const std::vector<uint8_t> bytes(4);
  const std::vector<TensorToWrite> tensors = {{"a", TensorDType::kF32, {1}, bytes}};
  const auto fifo = folder_.path() / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const absl::Status status = WriteSafetensors(fifo, tensors);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status), "fifo: not a regular file");
  EXPECT_TRUE(std::filesystem::is_fifo(fifo));
  EXPECT_EQ(Message(WriteSafetensors(folder_.path() / "no" / "such", tensors)),
            "such: there is no such folder");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

}  // namespace
}  // namespace monet
