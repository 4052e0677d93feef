#include <algorithm>

#include "kernels/reference/reference_backend.h"
#include "tests/kernels/expert_fixture.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

class ExpertsCase final : public OpCase {
 public:
  explicit ExpertsCase(const ExpertShape& shape) : layer_(shape) {}
  std::string Op() const override { return "Experts"; }
  std::string Shape() const override { return ToString(layer_.shape); }
  int32_t RowCount() const override { return layer_.shape.tokens; }
  Limits NeededLimits() const override { return layer_.NeededLimits(); }
  OpOutput Run(Backend& backend, const Rows& rows) const override {
    return layer_.Run(backend, rows);
  }
  std::vector<double> Tolerance(const OpOutput&) const override {
    const auto reference = MakeReferenceBackend();
    const OpOutput bound = Magnitudes(layer_).Run(*reference, AllRows(*this));
    const double roundings = ExpertRoundings(layer_);
    std::vector<double> tolerance;
    for (const float value : bound.values) tolerance.push_back(value * kEps * roundings);
    return tolerance;
  }

 private:
  ExpertLayer layer_;
};

}  // namespace

void AddExpertCases(CaseList* cases) {
  const MaskKind kinds[] = {MaskKind::kNone, MaskKind::kEmpty, MaskKind::kRandom30,
                            MaskKind::kRows, MaskKind::kAll,   MaskKind::kMixed};
  for (const Decompose decompose : {Decompose::kVertical, Decompose::kHorizontal}) {
    // M/2 = 1, E not a multiple of 8, D not of 16; HD takes an odd M and an odd D.
    const int32_t odd = decompose == Decompose::kHorizontal ? 1 : 0;
    for (const MaskKind mask : kinds) {
      const DType dtype = mask == MaskKind::kRows ? DType::kBF16 : DType::kF32;
      const bool in_place = mask == MaskKind::kMixed;
      cases->push_back(std::make_unique<ExpertsCase>(
          ExpertShape{decompose, 1, 2, 1, 1, 2, 1, dtype, mask, in_place}));
      cases->push_back(std::make_unique<ExpertsCase>(
          ExpertShape{decompose, 7, 6 + odd, 2, 5, 2 + odd, 3, dtype, mask, in_place}));
      cases->push_back(std::make_unique<ExpertsCase>(
          ExpertShape{decompose, 13, 70 + odd, 3, 11, 6 + odd, 11, dtype, mask, in_place}));
      cases->push_back(std::make_unique<ExpertsCase>(
          ExpertShape{decompose, 64, 48, 2, 24, 12, 4, dtype, mask, in_place}));
      cases->push_back(std::make_unique<ExpertsCase>(
          ExpertShape{decompose, 9, 544 + odd, 3, 67, 34 + odd, 7, dtype, mask, in_place}));
    }
    cases->push_back(std::make_unique<ExpertsCase>(
        ExpertShape{decompose, 5, 256, 6, 512, 2, 10, DType::kBF16, MaskKind::kMixed, false}));
  }
}

}  // namespace monet::kernels::testing
