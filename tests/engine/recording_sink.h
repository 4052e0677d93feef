// A sink that keeps what it gets and can be made to have no room. Thread-safe.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"

namespace monet {

// Everything that came out of one request.
struct Record {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;
  std::vector<std::vector<SampledToken>> top_logprobs;
  PromptLogprobs prompt;
  std::vector<TokenActivation> routing;
  int deltas = 0;
  std::optional<EngineResult> result;  // once it has ended
};

class RecordingSink : public EngineSink {
 public:
  bool HasRoom() override {
    const std::lock_guard lock(mutex_);
    ++asked_;
    changed_.notify_all();
    return room_ != 0;
  }

  void OnDelta(EngineDelta delta) override {
    const std::lock_guard lock(mutex_);
    EXPECT_NE(room_, 0) << "a delta without room";
    EXPECT_FALSE(record_.result) << "a delta after the end";
    EXPECT_FALSE(delta.token_ids.empty() && delta.prompt.token_ids.empty() &&
                 delta.routing.empty());
    EXPECT_TRUE(delta.prompt.token_ids.empty() || record_.token_ids.empty());
    if (room_ > 0) --room_;
    record_.text += delta.text;
    record_.token_ids.insert(record_.token_ids.end(), delta.token_ids.begin(),
                             delta.token_ids.end());
    record_.logprobs.insert(record_.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    Append(delta.top_logprobs, &record_.top_logprobs);
    Append(delta.prompt.token_ids, &record_.prompt.token_ids);
    Append(delta.prompt.logprobs, &record_.prompt.logprobs);
    Append(delta.prompt.top, &record_.prompt.top);
    Append(delta.routing, &record_.routing);
    ++record_.deltas;
    changed_.notify_all();
  }

  void OnFinish(EngineResult result) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(record_.result) << "ended twice";
    record_.result = std::move(result);
    changed_.notify_all();
  }

  // How many deltas may come; -1: any number.
  void SetRoom(int room) {
    const std::lock_guard lock(mutex_);
    room_ = room;
  }

  Record record() const {
    const std::lock_guard lock(mutex_);
    return record_;
  }
  bool ended() const { return record().result.has_value(); }

  // Each waits up to a minute, for slow machines; false when it did not happen.
  bool WaitForEnd() {
    return Wait([this] { return record_.result.has_value(); });
  }
  bool WaitForDeltas(int count) {
    return Wait([this, count] { return record_.deltas >= count; });
  }
  bool WaitUntilAsked(int times) {
    return Wait([this, times] { return asked_ >= times; });
  }

 private:
  template <typename T>
  static void Append(const std::vector<T>& from, std::vector<T>* to) {
    to->insert(to->end(), from.begin(), from.end());
  }

  template <typename Condition>
  bool Wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), condition);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Record record_;
  int room_ = -1;
  int asked_ = 0;
};

// Ids and log-probabilities of alternatives in one list, to compare bits.
inline std::vector<float> Flat(const std::vector<std::vector<SampledToken>>& top) {
  std::vector<float> values;
  for (const auto& list : top) {
    for (const SampledToken& token : list) {
      values.push_back(static_cast<float>(token.id));
      values.push_back(token.logprob);
    }
  }
  return values;
}

}  // namespace monet
