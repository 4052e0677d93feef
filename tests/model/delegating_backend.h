// Backends that behave like another one but for their memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace monet::testing {

// Passes everything on. `inner` must outlive it.
class DelegatingBackend : public kernels::Backend {
 public:
  explicit DelegatingBackend(kernels::Backend* inner) : inner_(inner) {}

  const char* Name() const override { return inner_->Name(); }
  const char* NumericsId() const override { return inner_->NumericsId(); }
  const char* Description() const override { return inner_->Description(); }
  bool Prepare(const kernels::Limits& limits) override { return inner_->Prepare(limits); }
  void* Alloc(size_t bytes) override { return inner_->Alloc(bytes); }
  void Free(void* memory) override { inner_->Free(memory); }
  void CopyIn(void* device, const void* host, size_t bytes) override {
    inner_->CopyIn(device, host, bytes);
  }
  void CopyOut(void* host, const void* device, size_t bytes) override {
    inner_->CopyOut(host, device, bytes);
  }
  void Synchronize() override { inner_->Synchronize(); }
  void Embed(const kernels::EmbedArgs& args) override { inner_->Embed(args); }
  void RmsNorm(const kernels::RmsNormArgs& args) override { inner_->RmsNorm(args); }
  void MatMul(const kernels::MatMulArgs& args) override { inner_->MatMul(args); }
  void RopeStore(const kernels::RopeStoreArgs& args) override { inner_->RopeStore(args); }
  void Attention(const kernels::AttentionArgs& args) override { inner_->Attention(args); }
  void Route(const kernels::RouteArgs& args) override { inner_->Route(args); }
  void RemovedWeight(const kernels::RemovedWeightArgs& args) override {
    inner_->RemovedWeight(args);
  }
  void Experts(const kernels::ExpertArgs& args) override { inner_->Experts(args); }

 private:
  kernels::Backend* const inner_;
};

// Memory is full of NaN until it is written.
class PoisoningBackend final : public DelegatingBackend {
 public:
  using DelegatingBackend::DelegatingBackend;

  void* Alloc(size_t bytes) override {
    void* memory = DelegatingBackend::Alloc(bytes);
    const std::vector<uint8_t> poison(bytes, 0xff);
    if (memory != nullptr) CopyIn(memory, poison.data(), bytes);
    return memory;
  }
};

// Gives memory `budget` times.
class PoorBackend final : public DelegatingBackend {
 public:
  PoorBackend(kernels::Backend* inner, int budget) : DelegatingBackend(inner), budget_(budget) {}

  void* Alloc(size_t bytes) override {
    if (budget_-- <= 0) return nullptr;
    ++live_;
    return DelegatingBackend::Alloc(bytes);
  }
  void Free(void* memory) override {
    --live_;
    DelegatingBackend::Free(memory);
  }
  int live() const { return live_; }  // allocations not yet freed

 private:
  int budget_;
  int live_ = 0;
};

}  // namespace monet::testing
