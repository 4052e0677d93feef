// An engine core over a scripted model and a clock that each step moves on by 10 ms.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/engine_core.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/scripted_model.h"

namespace monet {

inline constexpr int32_t kEos = 2;
inline constexpr MaskShape kShape{.routers = 1, .experts = 4};

// Token 3 is "a", 4 is "b" and so on; 28 and 29 are the two bytes of "é"; 30 is a word.
inline std::string_view BytesOf(int32_t id) {
  static const std::vector<std::string> kPieces = [] {
    std::vector<std::string> pieces(ScriptedModel::kVocabulary);
    for (int32_t n = 3; n < 28; ++n) pieces[n] = std::string(1, static_cast<char>('a' + n - 3));
    pieces[28] = "\xC3";
    pieces[29] = "\xA9";
    pieces[30] = " word";
    return pieces;
  }();
  return kPieces[id];
}

inline StepLimits SmallLimits() {
  StepLimits limits;
  limits.max_tokens = 8;
  limits.max_logit_rows = 8;
  limits.max_sequences = 4;
  limits.max_context = 32;
  limits.kv_blocks = 16;
  limits.block_size = 4;
  limits.mask_slots = 2;
  return limits;
}

class EngineCoreTest : public testing::Test {
 protected:
  // The text is "abcdef…" unless scripted: position p holds 3 + p.
  void Start(std::vector<int32_t> script = {}, StepLimits limits = SmallLimits(),
             EngineOptions options = {}) {
    if (script.empty()) {
      for (int32_t p = 0; p < 32; ++p) script.push_back(3 + p % 25);
    }
    model = std::make_unique<ScriptedModel>(limits, script, [this](const StepBatch& batch) {
      now += std::chrono::milliseconds(10);
      if (on_run) on_run(batch);
    });
    core = std::make_unique<EngineCore>(std::make_unique<SyncExecutor>(model.get()),
                                        TokenText{BytesOf, kEos}, options, [this] { return now; });
  }

  static EngineRequest Generate(std::vector<int32_t> prompt, int32_t max_tokens) {
    EngineRequest request;
    request.prompt_ids = std::move(prompt);
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0;
    request.mask = ExpertMask::None(kShape);
    return request;
  }

  std::shared_ptr<RecordingSink> Add(EngineRequest request, int room = -1) {
    EXPECT_TRUE(core->Check(request).ok());
    auto sink = std::make_shared<RecordingSink>();
    sink->SetRoom(room);
    core->Add(++last_id, std::move(request), sink, now);
    return sink;
  }

  bool Step() {
    std::optional<StepReport> report;
    const bool busy = core->RunStep(&report);
    core->scheduler().CheckInvariants();
    return busy;
  }

  void RunAll() {
    for (int step = 0; step < 1000 && Step(); ++step) {
    }
  }

  Record RunOne(EngineRequest request) {
    const auto sink = Add(std::move(request));
    RunAll();
    EXPECT_TRUE(sink->ended());
    return sink->record();
  }

  Clock::time_point now{};
  std::function<void(const StepBatch&)> on_run;
  std::unique_ptr<ScriptedModel> model;
  std::unique_ptr<EngineCore> core;
  Engine::RequestId last_id = 0;
};

}  // namespace monet
