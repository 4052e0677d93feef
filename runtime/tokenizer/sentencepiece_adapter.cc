#include "runtime/tokenizer/sentencepiece_adapter.h"

#include <sentencepiece_processor.h>

#include <exception>

namespace monet {
namespace {

// Above the library's highest level: its messages would go to stderr.
constexpr int kLogNothing = 4;

}  // namespace

struct SentencePieceAdapter::Impl {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceAdapter::SentencePieceAdapter() : impl_(std::make_unique<Impl>()) {}
SentencePieceAdapter::~SentencePieceAdapter() = default;

std::unique_ptr<SentencePieceAdapter> SentencePieceAdapter::Load(std::string_view model,
                                                                 std::string* error) {
  try {
    sentencepiece::SetMinLogLevel(kLogNothing);
    std::unique_ptr<SentencePieceAdapter> adapter(new SentencePieceAdapter);
    const auto status = adapter->impl_->processor.LoadFromSerializedProto(model);
    if (status.ok()) return adapter;
    *error = status.message();
  } catch (const std::exception& exception) {
    *error = exception.what();
  }
  return nullptr;
}

int32_t SentencePieceAdapter::vocabulary() const { return impl_->processor.GetPieceSize(); }
int32_t SentencePieceAdapter::unk_id() const { return impl_->processor.unk_id(); }
int32_t SentencePieceAdapter::bos_id() const { return impl_->processor.bos_id(); }
int32_t SentencePieceAdapter::eos_id() const { return impl_->processor.eos_id(); }

bool SentencePieceAdapter::Encode(std::string_view text, std::vector<int32_t>* ids) const {
  try {
    return impl_->processor.Encode(text, ids).ok();
  } catch (const std::exception&) {
    return false;
  }
}

bool SentencePieceAdapter::Decode(const std::vector<int32_t>& ids, std::string* text) const {
  try {
    return impl_->processor.Decode(ids, text).ok();
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace monet
