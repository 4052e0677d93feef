// Random loads against what must hold of every plan, whatever the load. A failure prints its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "runtime/sched/scheduler.h"

namespace monet {
namespace {

// A request as this test knows it, apart from the scheduler's own books.
struct Model {
  Arrival arrival;
  int32_t generate = 0;  // tokens after which it is finished
  int32_t next = 0;      // position of its next row
  bool admitted = false;
  bool paused = false;
  int64_t last_progress = 0;  // step
  std::vector<int32_t> blocks;

  bool Done() const { return next >= arrival.prompt_tokens + std::max(0, generate - 1); }
};

class Load {
 public:
  explicit Load(uint32_t seed) : random_(seed), options_(RandomOptions()), scheduler_(options_) {}

  void Run() {
    for (int step = 0; step < 400; ++step) OneStep(step < 250);
    // No arrivals, no pauses: what is left must end.
    for (int step = 0; step < 20000 && !live_.empty(); ++step) OneStep(false);
    EXPECT_TRUE(live_.empty()) << "starved: " << live_.begin()->first;
    const StepEvents last = std::exchange(events_, {});
    scheduler_.Step(now_, last);
    EXPECT_EQ(scheduler_.blocks_used(), 0);
    EXPECT_EQ(scheduler_.mask_slots_used(), 0);
    EXPECT_EQ(scheduler_.running() + scheduler_.waiting(), 0);
  }

 private:
  int32_t Range(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % static_cast<uint32_t>(high - low + 1));
  }

  SchedulerOptions RandomOptions() {
    SchedulerOptions options;
    options.max_tokens = Range(1, 20);
    options.max_logit_rows = Range(1, 20);
    options.max_sequences = Range(1, 12);
    options.max_context = Range(10, 60);
    options.block_size = Range(1, 8);
    options.kv_blocks =
        Range(options.max_context / options.block_size + 1, 40 + options.max_context);
    options.mask_slots = Range(1, 3);
    options.max_queue = Range(1, 20);
    options.max_bypass = Range(0, 10);
    options.step_target = std::chrono::milliseconds(20);
    return options;
  }

  void AddArrivals() {
    for (int32_t n = Range(0, 3); n > 0; --n) {
      if (waiting_ >= options_.max_queue) return;
      Model model;
      model.arrival.id = next_id_++;
      model.arrival.score = Range(0, 4) == 0;
      model.arrival.explain = !model.arrival.score && Range(0, 5) == 0;
      if (Range(0, 3) == 0) model.arrival.max_chunk = Range(1, 8);
      model.arrival.prompt_tokens = Range(1, options_.max_context - 1);
      if (!model.arrival.score && !model.arrival.explain) {
        model.generate = Range(1, options_.max_context - model.arrival.prompt_tokens);
      }
      model.arrival.reserve_tokens = model.arrival.prompt_tokens + model.generate;
      // Some stop early, which nobody knows beforehand.
      if (model.generate > 1 && Range(0, 1) == 0) model.generate = Range(1, model.generate);
      if (Range(0, 2) > 0) {
        Digest mask;
        mask.bytes[0] = static_cast<uint8_t>(Range(1, 6));
        model.arrival.mask = mask;
      }
      model.arrival.tenant = std::string(1, static_cast<char>('a' + Range(0, 3)));
      model.arrival.weight = model.arrival.tenant == "a" ? 3 : 1;
      model.arrival.priority = Range(0, 5) == 0 ? Range(1, 3) : 0;
      model.arrival.max_mask_slots = Range(0, 2);
      if (Range(0, 9) == 0) {
        model.arrival.deadline = now_ + std::chrono::milliseconds(Range(0, 2000));
      }
      model.last_progress = step_;
      events_.arrivals.push_back(model.arrival);
      ++waiting_;
      live_[model.arrival.id] = model;
    }
  }

  void AddDisturbances(bool busy) {
    for (auto& [id, model] : live_) {
      if (busy && Range(0, 99) == 0) {
        events_.cancels.push_back(id);
        cancelled_.insert(id);
      } else if (busy && model.admitted && !model.paused && Range(0, 29) == 0) {
        events_.pauses.push_back(id);
        model.paused = true;
      } else if (model.paused && (!busy || Range(0, 4) == 0)) {
        events_.resumes.push_back(id);
        model.paused = false;
      }
    }
  }

  void OneStep(bool busy) {
    ++step_;
    now_ += std::chrono::milliseconds(Range(1, 30));
    if (busy) AddArrivals();
    AddDisturbances(busy);
    const StepEvents events = std::exchange(events_, {});
    const StepPlan& plan = scheduler_.Step(now_, events);
    scheduler_.CheckInvariants();
    CheckEnds(plan);
    for (SequenceId id : plan.admitted) {
      ASSERT_TRUE(live_.count(id));
      ASSERT_FALSE(live_[id].admitted);
      live_[id].admitted = true;
      --waiting_;
    }
    ASSERT_EQ(waiting_, scheduler_.waiting());
    CheckRows(plan);
    events_.step_duration = std::chrono::milliseconds(Range(1, 60));
  }

  void CheckEnds(const StepPlan& plan) {
    for (const StepPlan::End& end : plan.ended) {
      ASSERT_TRUE(live_.count(end.id)) << "ended twice: " << end.id;
      if (end.reason == EndReason::kDeadline) {
        EXPECT_LE(live_[end.id].arrival.deadline, now_);
      } else {
        EXPECT_TRUE(cancelled_.count(end.id));
      }
      if (!live_[end.id].admitted) --waiting_;
      live_.erase(end.id);
    }
    for (const auto& [id, model] : live_) {
      EXPECT_GT(model.arrival.deadline, now_) << "late and still there: " << id;
      EXPECT_FALSE(cancelled_.count(id)) << "cancelled and still there: " << id;
    }
  }

  void CheckRows(const StepPlan& plan) {
    int32_t tokens = 0;
    int32_t logit_rows = 0;
    std::set<SequenceId> seen;
    std::set<int32_t> blocks;
    bool prefill_seen = false;
    for (const PlanRows& rows : plan.rows) {
      ASSERT_TRUE(live_.count(rows.id));
      Model& model = live_[rows.id];
      EXPECT_TRUE(seen.insert(rows.id).second);
      EXPECT_TRUE(model.admitted && !model.paused);
      ASSERT_EQ(rows.first_position, model.next);
      ASSERT_GE(rows.count, 1);
      const bool prefill = model.next < model.arrival.prompt_tokens;
      EXPECT_FALSE(prefill_seen && !prefill) << "decode rows come first";
      prefill_seen = prefill;
      if (prefill) {
        ASSERT_LE(rows.first_position + rows.count, model.arrival.prompt_tokens);
        if (model.arrival.max_chunk > 0) {
          EXPECT_LE(rows.count, model.arrival.max_chunk);
        }
      } else {
        ASSERT_EQ(rows.count, 1);
      }
      model.next += rows.count;
      model.last_progress = step_;
      CheckLogits(rows, model);
      CheckBlocks(rows, &model, &blocks);
      EXPECT_EQ(rows.mask_slot >= 0, model.arrival.mask.has_value());
      tokens += rows.count;
      logit_rows += rows.logits == RowLogits::kAll ? rows.count : rows.logits == RowLogits::kLast;
      if (model.Done()) {
        events_.finished.push_back(rows.id);
        live_.erase(rows.id);
      }
    }
    EXPECT_EQ(tokens, plan.tokens);
    EXPECT_LE(tokens, options_.max_tokens);
    EXPECT_EQ(logit_rows, plan.logit_rows);
    EXPECT_LE(logit_rows, options_.max_logit_rows);
    CheckProgress(plan);
  }

  void CheckLogits(const PlanRows& rows, const Model& model) {
    if (model.arrival.explain) {
      EXPECT_EQ(rows.logits, RowLogits::kNone);
    } else if (model.arrival.score) {
      EXPECT_EQ(rows.logits, RowLogits::kAll);
    } else {
      EXPECT_EQ(rows.logits,
                model.next >= model.arrival.prompt_tokens ? RowLogits::kLast : RowLogits::kNone);
    }
  }

  // The table never changes, covers the rows and shares nothing with another of the step.
  void CheckBlocks(const PlanRows& rows, Model* model, std::set<int32_t>* blocks) {
    if (model->blocks.empty()) model->blocks.assign(rows.blocks.begin(), rows.blocks.end());
    EXPECT_TRUE(std::equal(model->blocks.begin(), model->blocks.end(), rows.blocks.begin(),
                           rows.blocks.end()));
    EXPECT_GE(static_cast<int32_t>(rows.blocks.size()) * options_.block_size, model->next);
    for (int32_t block : rows.blocks) {
      EXPECT_GE(block, 0);
      EXPECT_LT(block, options_.kv_blocks);
      EXPECT_TRUE(blocks->insert(block).second) << "block " << block << " is in two tables";
    }
  }

  // Whoever can run does, if not in this step then soon.
  void CheckProgress(const StepPlan& plan) {
    bool runnable = false;
    for (auto& [id, model] : live_) {
      if (!model.admitted || model.paused) {
        model.last_progress = step_;
        continue;
      }
      runnable = true;
      // A prompt may wait for all older prompts, a token a step at worst.
      EXPECT_LE(step_ - model.last_progress, 2 * 12 * 60) << "no rows for " << id;
    }
    EXPECT_TRUE(!runnable || plan.tokens > 0);
  }

  std::mt19937 random_;
  const SchedulerOptions options_;
  Scheduler scheduler_;
  TimePoint now_{};
  int64_t step_ = 0;
  SequenceId next_id_ = 1;
  int32_t waiting_ = 0;
  StepEvents events_;
  std::map<SequenceId, Model> live_;
  std::set<SequenceId> cancelled_;
};

TEST(SchedulerProperty, HoldsOverRandomLoads) {
  for (uint32_t seed = 1; seed <= 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Load(seed).Run();
    if (HasFailure()) return;
  }
}

// However small the others are and however many come, the big one gets in.
TEST(SchedulerProperty, NobodyStarvesUnderASteadyStream) {
  for (int32_t max_bypass : {0, 1, 16, 64}) {
    SCOPED_TRACE(max_bypass);
    SchedulerOptions options;
    options.max_tokens = 32;
    options.max_sequences = 16;
    options.kv_blocks = 32;
    options.block_size = 4;
    options.max_context = 128;
    options.mask_slots = 2;
    options.max_queue = 8;
    options.max_bypass = max_bypass;
    Scheduler scheduler(options);
    std::map<SequenceId, int> age;
    StepEvents events;
    SequenceId next = 1;
    const auto arrive = [&](int32_t tokens, int mask) {
      Arrival arrival;
      arrival.id = next++;
      arrival.prompt_tokens = 1;
      arrival.reserve_tokens = tokens;
      if (mask > 0) {
        arrival.mask = Digest();
        arrival.mask->bytes[0] = static_cast<uint8_t>(mask);
      }
      events.arrivals.push_back(arrival);
    };
    for (int mask = 1; mask <= 2; ++mask) arrive(8, mask);
    arrive(128, 0);  // all blocks
    arrive(8, 3);    // a third mask for two slots
    std::set<SequenceId> admitted;
    for (int step = 0; step < 200; ++step) {
      // The same two masks and no mask for ever; each runs for six steps.
      for (int mask = 0; mask <= 2; ++mask) {
        const auto queued = scheduler.waiting() + static_cast<int32_t>(events.arrivals.size());
        if (queued < options.max_queue) arrive(8, mask);
      }
      const StepPlan& plan = scheduler.Step(TimePoint{}, events);
      events = StepEvents();
      admitted.insert(plan.admitted.begin(), plan.admitted.end());
      for (const PlanRows& rows : plan.rows) {
        if (++age[rows.id] == 6) events.finished.push_back(rows.id);
      }
    }
    EXPECT_TRUE(admitted.count(3)) << "the request that needs all blocks";
    EXPECT_TRUE(admitted.count(4)) << "the request that needs a third slot";
  }
}

}  // namespace
}  // namespace monet
