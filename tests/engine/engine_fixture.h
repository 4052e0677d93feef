// An engine with its thread over the model whose cache slots hold hashes, and a gate that holds the
// thread inside a step.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "runtime/engine/engine.h"
#include "tests/engine/hash_model.h"
#include "tests/engine/recording_sink.h"

namespace monet {

inline constexpr int32_t kHashVocabulary = 48;
inline constexpr MaskShape kHashShape{.routers = HashModel::kRouters,
                                      .experts = HashModel::kExperts};

inline StepLimits TestLimits() {
  StepLimits limits;
  limits.max_tokens = 16;
  limits.max_logit_rows = 16;
  limits.max_sequences = 8;
  limits.max_context = 64;
  limits.kv_blocks = 64;
  limits.block_size = 4;
  limits.mask_slots = 2;
  return limits;
}

// No eos: requests run to max_tokens.
inline TokenText Letters() {
  return {.bytes = [](int32_t id) { return std::string_view("abcdefgh").substr(id % 8, 1); }};
}

inline EngineRequest Generate(int32_t max_tokens, uint64_t seed = 1) {
  EngineRequest request;
  request.prompt_ids = {1, 5, 9};
  request.max_tokens = max_tokens;
  request.seed = seed;
  request.logprobs = true;
  request.mask = ExpertMask::None(kHashShape);
  return request;
}

inline std::shared_ptr<const ExpertMask> Mask(uint8_t byte) {
  return *ExpertMask::FromBitmap(kHashShape, {byte, byte, byte, byte});
}

// Lets the test hold the engine's thread inside a step.
class Gate {
 public:
  void Close() { Set(true); }
  void Open() { Set(false); }
  void Pass() {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !closed_; });
    waiting_ = false;
  }
  void AwaitArrival() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_; });
  }

 private:
  void Set(bool closed) {
    const std::lock_guard lock(mutex_);
    closed_ = closed;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  bool waiting_ = false;
};

class EngineTest : public testing::Test {
 protected:
  void Start(EngineOptions options = {}, StepLimits limits = TestLimits()) {
    model = std::make_unique<HashModel>(limits, kHashVocabulary, [this](int32_t) { gate.Pass(); });
    engine =
        std::make_unique<Engine>(model.get(), Letters(), options, [this](const StepReport& report) {
          EXPECT_GT(report.tokens, 0);
          ++steps_reported;
        });
  }
  // Eight places, and one request that runs.
  void StartWithSharedQueue() {
    EngineOptions options;
    options.max_queue = 8;
    options.share_queue = true;
    StepLimits limits = TestLimits();
    limits.max_sequences = 1;
    Start(options, limits);
  }
  void TearDown() override {
    gate.Open();
    engine.reset();
  }

  std::shared_ptr<RecordingSink> Submit(EngineRequest request, int room = -1) {
    auto sink = std::make_shared<RecordingSink>();
    sink->SetRoom(room);
    const auto id = engine->Submit(std::move(request), sink);
    EXPECT_TRUE(id.ok()) << Message(id.status());
    if (id.ok()) last_id = *id;
    return sink;
  }

  static absl::StatusCode CodeOf(const std::shared_ptr<RecordingSink>& sink) {
    EXPECT_TRUE(sink->WaitForEnd());
    const Record record = sink->record();
    return record.result ? record.result->status.code() : absl::StatusCode::kUnknown;
  }

  Gate gate;
  std::atomic<int64_t> steps_reported = 0;
  std::unique_ptr<HashModel> model;
  std::unique_ptr<Engine> engine;
  Engine::RequestId last_id = 0;
};

}  // namespace monet
