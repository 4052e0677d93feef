#include "runtime/kv/block_pool.h"

#include <utility>

#include "runtime/base/check.h"

namespace monet {

BlockPool::BlockPool(int32_t blocks, std::function<void(int32_t)> on_reuse)
    : references_(blocks, 0), used_before_(blocks, false), on_reuse_(std::move(on_reuse)) {
  free_.reserve(blocks);
  for (int32_t block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

bool BlockPool::Allocate(int32_t count, std::vector<int32_t>* out) {
  MONET_CHECK(count >= 0);
  if (count > free()) return false;
  for (int32_t n = 0; n < count; ++n) {
    const int32_t block = free_.back();
    free_.pop_back();
    MONET_CHECK(references_[block] == 0);
    references_[block] = 1;
    if (used_before_[block] && on_reuse_) on_reuse_(block);
    used_before_[block] = true;
    out->push_back(block);
  }
  return true;
}

void BlockPool::AddReference(int32_t block) {
  MONET_CHECK(block >= 0 && block < blocks() && references_[block] > 0);
  ++references_[block];
}

void BlockPool::Release(int32_t block) {
  MONET_CHECK(block >= 0 && block < blocks() && references_[block] > 0);
  if (--references_[block] == 0) free_.push_back(block);
}

void BlockPool::CheckInvariants() const {
  std::vector<bool> on_free_list(references_.size(), false);
  for (int32_t block : free_) {
    MONET_CHECK(block >= 0 && block < blocks());
    MONET_CHECK(!on_free_list[block]);
    MONET_CHECK(references_[block] == 0);
    on_free_list[block] = true;
  }
  for (int32_t block = 0; block < blocks(); ++block) {
    MONET_CHECK(references_[block] >= 0);
    MONET_CHECK((references_[block] == 0) == on_free_list[block]);
  }
}

}  // namespace monet
