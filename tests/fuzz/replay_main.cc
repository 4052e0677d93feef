// Runs a fuzz target over every file of a corpus folder, then over damaged copies of each file
// (truncated, bytes changed), the same ones every time: what a compiler without libFuzzer can do.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kTruncations = 64;
constexpr int kMutations = 192;

using Bytes = std::vector<uint8_t>;

// A copy without slack behind it, so that a sanitizer sees a read past the end.
void RunOne(const Bytes& bytes) {
  Bytes exact(bytes);
  exact.shrink_to_fit();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void RunDamaged(const Bytes& bytes, uint32_t seed) {
  if (bytes.empty()) return;
  for (int i = 0; i < kTruncations; ++i) {
    RunOne(Bytes(bytes.begin(), bytes.begin() + bytes.size() * i / kTruncations));
  }
  std::mt19937 random(seed);
  for (int i = 0; i < kMutations; ++i) {
    Bytes damaged = bytes;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int c = 0; c < changes; ++c) {
      damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    }
    RunOne(damaged);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS_DIR (with at least one file)\n", argv[0]);
    return 1;
  }
  uint32_t seed = 0;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    const Bytes bytes{std::istreambuf_iterator<char>(in), {}};
    RunOne(bytes);
    RunDamaged(bytes, ++seed);
  }
  std::printf("%zu files replayed\n", files.size());
  return 0;
}
