// The real scheduler, key/value pool, sampler and engine step over a simulated clock and a hash
// model. The oracle: every request's output is that of the same request run alone. A failure
// prints the seed; MONET_SIM_SEED=n runs that one only.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "runtime/engine/engine_core.h"
#include "runtime/limits.h"
#include "tests/engine/hash_model.h"
#include "tests/engine/recording_sink.h"

namespace monet {
namespace {

constexpr int32_t kVocabulary = 48;
constexpr int32_t kEos = 2;
constexpr int32_t kBadToken = kVocabulary - 1;
constexpr MaskShape kShape{.routers = 2, .experts = 4};

// Letters, pairs that overlap stop strings, and pieces of two- and three-byte characters.
std::string_view BytesOf(int32_t id) {
  static const std::vector<std::string> kPieces = {
      "", "", "", "a", "b", "c", "ab", "bc", "abc", " ", "\xC3", "\xA9", "\xE2\x82", "\xAC", "x"};
  return kPieces[id < 3 ? id : 3 + id % (kPieces.size() - 3)];
}

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  if (!values.empty()) std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

// Equal as far as both go.
template <typename T>
bool Agree(const T& a, const T& b) {
  const size_t size = std::min(a.size(), b.size());
  return std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(size), b.begin());
}

// What the runs did, all seeds together: a simulation that never stops on a string proves nothing
// about stop strings.
std::map<std::string, int64_t> events_seen;

class World {
 public:
  explicit World(uint64_t seed)
      : random_(seed),
        limits_(RandomLimits()),
        options_(RandomOptions()),
        model_(new HashModel(limits_, kVocabulary,
                             [this](int32_t tokens) {
                               now_ += std::chrono::microseconds(500 + tokens * Range(50, 400));
                             })),
        core_(std::make_unique<SyncExecutor>(model_.get()), {BytesOf, kEos}, options_,
              [this] { return now_; }) {
    model_->set_bad_token(kBadToken);
    masks_.push_back(ExpertMask::None(kShape));
    for (int n = 0; n < 6; ++n) {
      std::vector<uint8_t> bitmap(kShape.Bytes());
      for (uint8_t& byte : bitmap) byte = static_cast<uint8_t>(random_());
      masks_.push_back(*ExpertMask::FromBitmap(kShape, bitmap));
    }
  }

  void Run() {
    for (int step = 0; step < 150 && !testing::Test::HasFailure(); ++step) {
      Arrive();
      Disturb();
      OneStep();
    }
    for (Client& client : clients_) OpenUp(client);
    for (int step = 0; step < 20000 && !core_.idle(); ++step) OneStep();
    CheckEnd();
    for (const Client& client : clients_) CheckAgainstAlone(client);
  }

 private:
  struct Client {
    Engine::RequestId id = 0;
    EngineRequest request;
    std::shared_ptr<RecordingSink> sink;
    bool stalled = false;
    bool cancelled = false;
  };

  int32_t Range(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int32_t n) { return Range(1, n) == 1; }

  StepLimits RandomLimits() {
    StepLimits limits;
    limits.max_tokens = Range(1, 24);
    limits.max_logit_rows = Range(1, limits.max_tokens);
    limits.max_sequences = Range(1, 10);
    limits.max_context = Range(8, 60);
    limits.block_size = Range(1, 8);
    limits.kv_blocks = (limits.max_context - 1) / limits.block_size + 1 + Range(0, 30);
    limits.mask_slots = Range(1, 3);
    limits.shadow_slots = Range(0, 2);
    return limits;
  }

  EngineOptions RandomOptions() {
    EngineOptions options;
    options.max_queue = Range(1, 12);
    options.max_bypass = Range(0, 8);
    options.step_target = std::chrono::milliseconds(Range(1, 10));
    return options;
  }

  EngineRequest RandomRequest() {
    EngineRequest request;
    if (OneIn(5)) request.kind = EngineRequest::Kind::kScore;
    if (OneIn(8)) request.kind = EngineRequest::Kind::kExplain;
    const bool explain = request.kind == EngineRequest::Kind::kExplain;
    if (explain || OneIn(4)) AddRouting(&request);
    const bool score = request.kind == EngineRequest::Kind::kScore;
    const int32_t prompt = Range(score ? 2 : 1, limits_.max_context - (score || explain ? 0 : 1));
    const int32_t bound = OneIn(12) ? kVocabulary : kBadToken;  // few prompts have the bad token
    for (int n = 0; n < prompt; ++n) request.prompt_ids.push_back(Range(0, bound - 1));
    // Few distinct prompts, so that only the mask tells some requests apart.
    if (OneIn(3)) std::fill(request.prompt_ids.begin(), request.prompt_ids.end(), 7);
    request.tenant = std::string(1, static_cast<char>('a' + Range(0, 2)));
    request.weight = Range(1, 4);
    request.priority = OneIn(4) ? Range(0, 9) : 0;
    request.max_mask_slots = Range(0, 2);
    request.mask = masks_[Range(0, static_cast<int32_t>(masks_.size()) - 1)];
    if (OneIn(3)) request.shadow = masks_[Range(0, static_cast<int32_t>(masks_.size()) - 1)];
    if (OneIn(8)) request.deadline = now_ + std::chrono::milliseconds(Range(0, 60));
    if (score || explain) return request;
    request.prompt_routing = OneIn(2);
    request.max_tokens = Range(1, limits_.max_context - prompt);
    request.seed = random_();
    if (OneIn(3)) request.sample = static_cast<uint32_t>(Range(1, 15));
    request.sampling.temperature = OneIn(4) ? 0 : Range(1, 20) / 10.0;
    if (OneIn(3)) request.sampling.top_k = Range(1, kVocabulary);
    if (OneIn(3)) request.sampling.top_p = Range(1, 100) / 100.0;
    if (OneIn(3)) request.stop_strings = {"abc", "ca\xC3\xA9"};
    if (OneIn(5)) request.stop_strings.push_back("bb");
    if (OneIn(4)) request.stop_token_ids = {Range(0, kVocabulary - 1)};
    request.logprobs = OneIn(2);
    request.prompt_logprobs = OneIn(4);
    if (OneIn(3)) request.top_logprobs = Range(1, 20);
    if (OneIn(3)) AddPenalties(&request.sampling);
    if (OneIn(5)) request.min_tokens = Range(0, request.max_tokens);
    request.ignore_eos = OneIn(6);
    return request;
  }

  void AddRouting(EngineRequest* request) {
    request->routing = RoutingSelection{.top_n = Range(1, 20)};
    // So large that a chunk has only a few rows.
    if (OneIn(4)) request->routing->top_n = Range(4000, limits::kMaxExplainTopN);
    if (OneIn(3)) request->routing->min_weight = Range(0, 10) / 8.0;
  }

  void AddPenalties(SamplingParams* sampling) {
    if (OneIn(2)) sampling->min_p = Range(0, 100) / 100.0;
    if (OneIn(2)) sampling->presence_penalty = Range(-20, 20) / 10.0;
    if (OneIn(2)) sampling->frequency_penalty = Range(-20, 20) / 10.0;
    if (OneIn(2)) sampling->repetition_penalty = Range(1, 20) / 10.0;
    for (int32_t n = Range(0, 3); n > 0; --n) {
      sampling->logit_bias.push_back({16 * n - Range(1, 16), Range(-50, 50) / 10.0});
    }
  }

  void Arrive() {
    for (int32_t n = Range(0, 3); n > 0; --n) {
      Client client;
      client.request = RandomRequest();
      const absl::Status status = core_.Check(client.request);
      ASSERT_TRUE(status.ok()) << Message(status);
      if (core_.queued() >= options_.max_queue) {
        ++events_seen["queue full"];
        continue;
      }
      client.id = next_id_++;
      client.sink = std::make_shared<RecordingSink>();
      core_.Add(client.id, client.request, client.sink, now_);
      clients_.push_back(client);
    }
  }

  void OpenUp(Client& client) {
    if (!client.stalled) return;
    client.stalled = false;
    client.sink->SetRoom(-1);
    core_.Resume(client.id);
  }

  void Disturb() {
    now_ += std::chrono::microseconds(Range(0, 2000));
    for (Client& client : clients_) {
      if (client.sink->ended()) continue;
      if (OneIn(60)) {
        client.cancelled = true;
        core_.Cancel(client.id, Error(absl::StatusCode::kCancelled, "test"));
      } else if (client.stalled && OneIn(8)) {
        OpenUp(client);
      } else if (!client.stalled && OneIn(15)) {
        client.stalled = true;
        client.sink->SetRoom(Range(0, 3));
        ++events_seen["stalled"];
      }
    }
  }

  void OneStep() {
    const Clock::time_point start = now_;
    std::optional<StepReport> report;
    if (!core_.RunStep(&report)) now_ += std::chrono::milliseconds(1);
    core_.scheduler().CheckInvariants();
    EXPECT_LE(core_.waiting(), options_.max_queue);
    // Cancelled and late ones are gone within the step.
    for (const Client& client : clients_) {
      if (client.cancelled || client.request.deadline <= start) {
        EXPECT_TRUE(client.sink->ended()) << "request " << client.id;
      }
    }
  }

  void CheckEnd() {
    EXPECT_TRUE(core_.idle()) << "requests starve";
    EXPECT_EQ(core_.scheduler().blocks_used(), 0);
    EXPECT_EQ(core_.scheduler().mask_slots_used(), 0);
    EXPECT_EQ(core_.queued(), 0);
    std::vector<Engine::RequestId> ended = core_.TakeEnded();
    std::sort(ended.begin(), ended.end());
    ASSERT_EQ(ended.size(), clients_.size());
    for (size_t n = 0; n < clients_.size(); ++n) EXPECT_EQ(ended[n], clients_[n].id);
    events_seen["blocks reused"] += model_->blocks_poisoned();
    events_seen["masks set"] += model_->masks_set();
  }

  static Record RunAlone(EngineRequest request) {
    StepLimits limits;
    limits.max_tokens = 64;
    limits.max_logit_rows = 64;
    limits.max_sequences = 1;
    limits.max_context = 64;
    limits.kv_blocks = 64;
    limits.block_size = 1;
    limits.mask_slots = 1;
    limits.shadow_slots = 1;
    request.deadline = Clock::time_point::max();
    HashModel model(limits, kVocabulary);
    model.set_bad_token(kBadToken);
    EngineCore core(std::make_unique<SyncExecutor>(&model), {BytesOf, kEos}, {},
                    [] { return Clock::time_point{}; });
    const auto sink = std::make_shared<RecordingSink>();
    core.Add(1, std::move(request), sink, Clock::time_point{});
    std::optional<StepReport> report;
    while (core.RunStep(&report)) {
    }
    return sink->record();
  }

  void CheckAgainstAlone(const Client& client) {
    SCOPED_TRACE(testing::Message() << "request " << client.id);
    const Record got = client.sink->record();
    const Record alone = RunAlone(client.request);
    ASSERT_TRUE(got.result && alone.result);
    const absl::StatusCode code = got.result->status.code();
    ++events_seen[absl::StatusCodeToString(code)];
    // How much came out before an error depends on the chunks; what came out does not.
    EXPECT_TRUE(Agree(got.token_ids, alone.token_ids));
    EXPECT_TRUE(!alone.result->status.ok() || got.token_ids.size() <= alone.token_ids.size());
    EXPECT_TRUE(Agree(Bits(got.logprobs), Bits(alone.logprobs)));
    EXPECT_TRUE(Agree(got.text, alone.text));
    EXPECT_TRUE(Agree(got.prompt.token_ids, alone.prompt.token_ids));
    EXPECT_TRUE(Agree(Bits(got.prompt.logprobs), Bits(alone.prompt.logprobs)));
    EXPECT_TRUE(Agree(Bits(Flat(got.prompt.top)), Bits(Flat(alone.prompt.top))));
    EXPECT_TRUE(Agree(Bits(Flat(got.top_logprobs)), Bits(Flat(alone.top_logprobs))));
    EXPECT_TRUE(Agree(got.routing, alone.routing));
    if (code == absl::StatusCode::kCancelled || code == absl::StatusCode::kDeadlineExceeded) return;
    EXPECT_EQ(code, alone.result->status.code());
    if (!got.result->status.ok()) return;
    EXPECT_EQ(got.token_ids, alone.token_ids);
    EXPECT_EQ(Bits(got.logprobs), Bits(alone.logprobs));
    EXPECT_EQ(got.text, alone.text);
    EXPECT_EQ(got.prompt.token_ids, alone.prompt.token_ids);
    EXPECT_EQ(Bits(got.prompt.logprobs), Bits(alone.prompt.logprobs));
    EXPECT_EQ(Bits(Flat(got.prompt.top)), Bits(Flat(alone.prompt.top)));
    EXPECT_EQ(Bits(Flat(got.top_logprobs)), Bits(Flat(alone.top_logprobs)));
    EXPECT_EQ(got.routing, alone.routing);
    EXPECT_EQ(got.result->finish_reason, alone.result->finish_reason);
    EXPECT_EQ(got.result->stop_string, alone.result->stop_string);
    EXPECT_EQ(got.result->stop_token_id, alone.result->stop_token_id);
    EXPECT_EQ(got.result->usage.prompt_tokens, alone.result->usage.prompt_tokens);
    EXPECT_EQ(got.result->usage.completion_tokens, alone.result->usage.completion_tokens);
    EXPECT_EQ(got.result->usage.removed_weight_share, alone.result->usage.removed_weight_share);
    // Others may hold all slots for shadows; what is measured is the same.
    EXPECT_EQ(alone.result->usage.shadow_weight_share.has_value(),
              client.request.shadow != nullptr);
    if (got.result->usage.shadow_weight_share) {
      EXPECT_EQ(got.result->usage.shadow_weight_share, alone.result->usage.shadow_weight_share);
      ++events_seen["shadow measured"];
    } else if (client.request.shadow != nullptr) {
      ++events_seen["shadow without a slot"];
    }
    CountEnd(client, got);
  }

  static void CountEnd(const Client& client, const Record& record) {
    if (client.request.sampling.has_penalties()) ++events_seen["penalties"];
    if (client.request.min_tokens > 0) ++events_seen["min tokens"];
    if (!record.prompt.token_ids.empty()) ++events_seen["prompt logprobs"];
    if (!record.top_logprobs.empty()) ++events_seen["top logprobs"];
    CountRouting(client, record);
    if (client.request.kind == EngineRequest::Kind::kExplain) {
      ++events_seen["explained"];
    } else if (client.request.kind == EngineRequest::Kind::kScore) {
      ++events_seen["scored"];
    } else if (!record.result->stop_string.empty()) {
      ++events_seen["stop string"];
    } else if (record.result->stop_token_id >= 0) {
      ++events_seen["stop token"];
    } else {
      ++events_seen["length"];
    }
  }

  // Of every token that was run, and of no other.
  static void CountRouting(const Client& client, const Record& record) {
    const EngineRequest& request = client.request;
    if (!request.routing) {
      EXPECT_TRUE(record.routing.empty());
      return;
    }
    ++events_seen["routing"];
    const auto prompt = static_cast<int32_t>(request.prompt_ids.size());
    int32_t first = 0;
    int32_t end = prompt;
    if (request.kind == EngineRequest::Kind::kScore) end = prompt - 1;
    if (request.kind == EngineRequest::Kind::kGenerate) {
      if (!request.prompt_routing) first = prompt;
      end = prompt + record.result->usage.completion_tokens - 1;
    }
    ASSERT_EQ(std::ssize(record.routing), (end - first) * HashModel::kRouters);
    for (int32_t n = 0; n < std::ssize(record.routing); ++n) {
      EXPECT_EQ(record.routing[n].position, first + n / HashModel::kRouters);
      EXPECT_EQ(record.routing[n].router, n % HashModel::kRouters);
      EXPECT_LE(std::ssize(record.routing[n].experts), request.routing->top_n);
    }
  }

  std::mt19937_64 random_;
  Clock::time_point now_{};
  const StepLimits limits_;
  const EngineOptions options_;
  const std::unique_ptr<HashModel> model_;
  EngineCore core_;
  std::vector<std::shared_ptr<const ExpertMask>> masks_;
  Engine::RequestId next_id_ = 1;
  std::vector<Client> clients_;
};

TEST(Simulation, EveryRequestGetsWhatItGetsAlone) {
  const char* only = std::getenv("MONET_SIM_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t last = only != nullptr ? first : 400;
  for (uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(testing::Message() << "MONET_SIM_SEED=" << seed);
    World(seed).Run();
    if (HasFailure()) return;
  }
  for (const auto& [event, count] : events_seen) RecordProperty(event, static_cast<int>(count));
  if (only != nullptr) return;
  for (const char* event :
       {"queue full", "stalled",     "blocks reused",     "masks set",
        "OK",         "CANCELLED",   "DEADLINE_EXCEEDED", "INTERNAL",
        "scored",     "stop string", "stop token",        "length",
        "penalties",  "min tokens",  "prompt logprobs",   "top logprobs",
        "routing",    "explained",   "shadow measured",   "shadow without a slot"}) {
    EXPECT_GE(events_seen[event], 100) << event;
  }
}

}  // namespace
}  // namespace monet
