// Runs a fuzz target over every file of a corpus folder, then over changed copies of each file
// (truncated, bytes changed, and what the target's own mutator makes of it), the same ones every
// time: what a compiler without libFuzzer can do. With -max_total_time=SECONDS it goes on with
// new changes until then. An input that ends the process is left in ./crash-input.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Defined by targets whose input has a structure worth keeping; libFuzzer calls it too.
extern "C" __attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                                                size_t max_size, unsigned seed);
// Only where a sanitizer is linked.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr int kTruncations = 64;
constexpr int kMutations = 192;
constexpr int kOwnMutations = 2000;
constexpr size_t kMaxGrowth = 16 << 10;  // bytes that one change may add
constexpr std::string_view kTimeArgument = "-max_total_time=";

using Bytes = std::vector<uint8_t>;

const Bytes* running = nullptr;

void SaveInput() {
  if (running == nullptr) return;
  if (std::FILE* file = std::fopen("crash-input", "wb")) {
    std::fwrite(running->data(), 1, running->size(), file);
    std::fclose(file);
    std::fprintf(stderr, "the input is in ./crash-input (%zu bytes)\n", running->size());
  }
  running = nullptr;
}

void SaveOnSignal(int signal) {
  SaveInput();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// A copy without slack behind it, so that a sanitizer sees a read past the end.
void RunOne(const Bytes& bytes) {
  Bytes exact(bytes);
  exact.shrink_to_fit();
  running = &exact;
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  running = nullptr;
}

Bytes Damaged(Bytes bytes, std::mt19937* random) {
  const int changes = 1 + static_cast<int>((*random)() % 4);
  for (int c = 0; c < changes && !bytes.empty(); ++c) {
    bytes[(*random)() % bytes.size()] = static_cast<uint8_t>((*random)());
  }
  return bytes;
}

// Changes on top of changes, so that several of them meet in one input.
Bytes ChangedByTarget(const Bytes& bytes, std::mt19937* random) {
  Bytes changed = bytes;
  const int rounds = 1 + static_cast<int>((*random)() % 3);
  for (int i = 0; i < rounds; ++i) {
    const size_t size = changed.size();
    changed.resize(size + kMaxGrowth);
    changed.resize(LLVMFuzzerCustomMutator(changed.data(), size, changed.size(), (*random)()));
  }
  return changed;
}

void RunChanged(const Bytes& bytes, uint32_t seed) {
  std::mt19937 random(seed);
  for (int i = 0; i < kTruncations && !bytes.empty(); ++i) {
    RunOne(Bytes(bytes.begin(), bytes.begin() + bytes.size() * i / kTruncations));
  }
  for (int i = 0; i < kMutations && !bytes.empty(); ++i) RunOne(Damaged(bytes, &random));
  if (LLVMFuzzerCustomMutator == nullptr) return;
  for (int i = 0; i < kOwnMutations; ++i) RunOne(ChangedByTarget(bytes, &random));
}

// Returns how many inputs it ran.
int64_t RunFor(std::chrono::seconds time, const std::vector<Bytes>& corpus) {
  const auto end = std::chrono::steady_clock::now() + time;
  std::mt19937 random(0);
  int64_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) {
    const Bytes& bytes = corpus[random() % corpus.size()];
    const bool own = LLVMFuzzerCustomMutator != nullptr && random() % 4 != 0;
    RunOne(own ? ChangedByTarget(bytes, &random) : Damaged(bytes, &random));
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  std::chrono::seconds time{0};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kTimeArgument)) {
      time = std::chrono::seconds(std::atoi(argument.substr(kTimeArgument.size()).data()));
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argument)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr,
                 "usage: %s [-max_total_time=SECONDS] CORPUS_DIR (with at least one file)\n",
                 argv[0]);
    return 1;
  }
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(SaveInput);
  std::signal(SIGABRT, SaveOnSignal);
  std::vector<Bytes> corpus;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    RunOne(corpus.back());
    RunChanged(corpus.back(), static_cast<uint32_t>(corpus.size()));
  }
  const int64_t more = RunFor(time, corpus);
  std::printf("%zu files replayed, %lld more inputs\n", files.size(), static_cast<long long>(more));
  return 0;
}
