// What must not change a bit: the other rows of a step, their order, threads, instruction set.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

// Sanitizers make each run many times slower: they take every seventh size and row.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int32_t kStride = 7;
#else
constexpr int32_t kStride = 1;
#endif

// Row rows[n] of `whole` equals row n of `part`, to the bit.
void ExpectSameBits(const OpOutput& whole, const OpOutput& part, const Rows& rows) {
  ASSERT_EQ(whole.width, part.width);
  ASSERT_EQ(part.values.size(), rows.size() * whole.width);
  for (size_t n = 0; n < rows.size(); ++n) {
    const float* want = whole.values.data() + rows[n] * whole.width;
    const float* got = part.values.data() + n * whole.width;
    if (std::memcmp(want, got, whole.width * sizeof(float)) == 0) continue;
    const int64_t at =
        std::mismatch(want, want + whole.width, got,
                      [](float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; })
            .first -
        want;
    FAIL() << "row " << rows[n] << " of " << rows.size() << " in this step, value " << at << ": "
           << want[at] << " became " << got[at];
  }
}

TEST(Invariance, ARowAloneEqualsTheRowInAStep) {
  for (const auto& op_case : AllCases()) {
    SCOPED_TRACE(op_case->Op() + " " + op_case->Shape());
    const auto cpu = Prepared(MakeCpuBackend({.threads = 1}), *op_case);
    const OpOutput whole = op_case->Run(*cpu, AllRows(*op_case));
    for (int32_t row = 0; row < op_case->RowCount(); row += kStride) {
      ExpectSameBits(whole, op_case->Run(*cpu, {row}), {row});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Invariance, AnyNumberOfRowsInAnyOrderGivesTheSameBits) {
  Rng rng(5);
  for (const auto& op_case : AllCases()) {
    SCOPED_TRACE(op_case->Op() + " " + op_case->Shape());
    const auto cpu = Prepared(MakeCpuBackend({.threads = 2}), *op_case);
    const OpOutput whole = op_case->Run(*cpu, AllRows(*op_case));
    for (int32_t count = 1; count <= op_case->RowCount(); count += kStride) {
      Rows rows = AllRows(*op_case);
      std::shuffle(rows.begin(), rows.end(), rng);
      rows.resize(count);
      ExpectSameBits(whole, op_case->Run(*cpu, rows), rows);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Invariance, ThreadsAndInstructionSetsGiveTheSameBits) {
  for (const auto& op_case : AllCases()) {
    SCOPED_TRACE(op_case->Op() + " " + op_case->Shape());
    const Rows rows = AllRows(*op_case);
    const auto base = Prepared(MakeCpuBackend({.threads = 1}), *op_case);
    const OpOutput whole = op_case->Run(*base, rows);
    for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
      if (!CpuHas(isa)) continue;  // named as skipped by the parity test
      for (const int32_t threads : {1, 2, 3}) {
        SCOPED_TRACE(threads);
        const auto cpu = Prepared(MakeCpuBackend({.threads = threads, .isa = isa}), *op_case);
        SCOPED_TRACE(cpu->Description());
        EXPECT_STREQ(cpu->NumericsId(), base->NumericsId());
        ExpectSameBits(whole, op_case->Run(*cpu, rows), rows);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace monet::kernels::testing
