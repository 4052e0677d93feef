// Counted references to the key/value blocks of a fixed pool. Knows block numbers only, not memory.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace monet {

// Not thread-safe. Invariant: every block is free (count 0, on the free list once) or referenced;
// free() + used() == blocks().
class BlockPool {
 public:
  // `on_reuse`, when given, is called with every block that is handed out after it was used before:
  // checked builds poison the block's memory there, so that a stale read cannot go unseen.
  explicit BlockPool(int32_t blocks, std::function<void(int32_t)> on_reuse = nullptr);

  int32_t blocks() const { return static_cast<int32_t>(references_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t used() const { return blocks() - free(); }
  int32_t references(int32_t block) const { return references_[block]; }

  // Appends `count` blocks with one reference each to `out`, or does nothing and returns false when
  // fewer are free.
  bool Allocate(int32_t count, std::vector<int32_t>* out);
  // REQUIRES: the block is referenced.
  void AddReference(int32_t block);
  // The last reference gives the block back. REQUIRES: the block is referenced.
  void Release(int32_t block);

  // Walks the pool; aborts when the invariant is broken. For tests and checked builds.
  void CheckInvariants() const;

 private:
  std::vector<int32_t> references_;  // (B)
  std::vector<bool> used_before_;    // (B)
  std::vector<int32_t> free_;        // last in, first out: the warmest memory first
  std::function<void(int32_t)> on_reuse_;
};

}  // namespace monet
