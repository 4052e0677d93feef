// Every operation, every case, every instruction set against the reference.
#include <cmath>
#include <fstream>
#include <set>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

// NaN and infinities must agree; else within tolerance. Reports the worst value.
void ExpectClose(const OpOutput& expected, const OpOutput& actual,
                 const std::vector<double>& tolerance) {
  ASSERT_EQ(expected.values.size(), actual.values.size());
  ASSERT_EQ(expected.values.size(), tolerance.size());
  double worst = 0;
  size_t worst_at = 0;
  for (size_t n = 0; n < expected.values.size(); ++n) {
    const double want = expected.values[n];
    const double got = actual.values[n];
    const bool same = want == got || (std::isnan(want) && std::isnan(got));
    const double excess = same ? 0 : std::abs(got - want) / tolerance[n];
    if (!(excess <= worst)) {
      worst = excess;
      worst_at = n;
    }
    if (std::isnan(excess)) break;
  }
  EXPECT_LE(worst, 1.0) << "row " << worst_at / expected.width << " value "
                        << worst_at % expected.width << ": expected " << expected.values[worst_at]
                        << ", got " << actual.values[worst_at] << ", tolerance "
                        << tolerance[worst_at];
}

struct IsaName {
  Isa isa;
  const char* name;
};
constexpr IsaName kIsas[] = {
    {Isa::kGeneric, "generic"}, {Isa::kAvx2, "avx2"}, {Isa::kAvx512, "avx512"}};

class Parity : public ::testing::TestWithParam<IsaName> {};

TEST_P(Parity, EveryCaseAgreesWithTheReference) {
  if (!CpuHas(GetParam().isa)) GTEST_SKIP() << "this machine has no " << GetParam().name;
  for (const auto& op_case : AllCases()) {
    SCOPED_TRACE(op_case->Op() + " " + op_case->Shape());
    const auto reference = Prepared(MakeReferenceBackend(), *op_case);
    const auto cpu = Prepared(MakeCpuBackend({.threads = 1, .isa = GetParam().isa}), *op_case);
    ASSERT_EQ(std::string(cpu->Description()), std::string(GetParam().name) + ", 1 thread");
    const OpOutput expected = op_case->Run(*reference, AllRows(*op_case));
    for (const float value : expected.values) ASSERT_FALSE(std::isnan(value)) << "bad case";
    ExpectClose(expected, op_case->Run(*cpu, AllRows(*op_case)), op_case->Tolerance(expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Parity, ::testing::ValuesIn(kIsas),
                         [](const auto& info) { return std::string(info.param.name); });

// An operation of kernels/backend.h without a case fails here.
TEST(OpTable, HasACaseForEveryOperation) {
  std::ifstream header(MONET_SOURCE_DIR "/kernels/backend.h");
  std::set<std::string> declared;
  const std::string start = "  virtual void ";
  for (std::string line; std::getline(header, line);) {
    if (line.rfind(start, 0) != 0 || line.find("Args& args) = 0;") == std::string::npos) continue;
    declared.insert(line.substr(start.size(), line.find('(') - start.size()));
  }
  std::set<std::string> tested;
  for (const auto& op_case : AllCases()) tested.insert(op_case->Op());
  EXPECT_EQ(declared, tested);
  EXPECT_GE(declared.size(), 8u);
}

}  // namespace
}  // namespace monet::kernels::testing
