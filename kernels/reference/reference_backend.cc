#include "kernels/reference/reference_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/reference/reference_ops.h"

namespace monet::kernels {
namespace {

class ReferenceBackend final : public Backend {
 public:
  const char* Name() const override { return "reference"; }
  const char* NumericsId() const override { return "reference-f64"; }
  const char* Description() const override { return "textbook loops in double, 1 thread"; }

  bool Prepare(const Limits&) override { return true; }

  void* Alloc(size_t bytes) override {
    constexpr size_t kAlignment = 64;
    if (bytes > SIZE_MAX - kAlignment) return nullptr;
    const size_t rounded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) & ~(kAlignment - 1);
    return std::aligned_alloc(kAlignment, rounded);
  }
  void Free(void* ptr) override { std::free(ptr); }
  void CopyIn(void* device, const void* host, size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void CopyOut(void* host, const void* device, size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void Synchronize() override {}

  void Embed(const EmbedArgs& args) override { reference::Embed(args); }
  void RmsNorm(const RmsNormArgs& args) override { reference::RmsNorm(args); }
  void MatMul(const MatMulArgs& args) override { reference::MatMul(args); }
  void RopeStore(const RopeStoreArgs& args) override { reference::RopeStore(args); }
  void Attention(const AttentionArgs& args) override { reference::Attention(args); }
  void Route(const RouteArgs& args) override { reference::Route(args); }
  void RemovedWeight(const RemovedWeightArgs& args) override { reference::RemovedWeight(args); }
  void Experts(const ExpertArgs& args) override { reference::Experts(args); }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace monet::kernels
