// Guarded memory of a backend for one run of an operation.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace monet::kernels::testing {

// Copies operands to a backend and results back. Every array lies between guards of 0xFF bytes (NaN
// as float, -1 as int): reading them spoils results, writing them fails the test. Not thread-safe.
class Device {
 public:
  explicit Device(Backend& backend) : backend_(backend) {}
  ~Device() {
    EXPECT_TRUE(GuardsIntact());
    for (const Block& block : blocks_) backend_.Free(block.base);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Backend& backend() { return backend_; }

  template <typename T>
  T* Put(const std::vector<T>& host) {
    T* data = Fresh<T>(host.size());
    backend_.CopyIn(data, host.data(), host.size() * sizeof(T));
    return data;
  }

  // Filled with 0xFF.
  template <typename T>
  T* Fresh(size_t count) {
    const size_t bytes = count * sizeof(T);
    char* base = static_cast<char*>(backend_.Alloc(bytes + 2 * kGuard));
    EXPECT_NE(base, nullptr);
    const std::string filler(bytes + 2 * kGuard, '\xff');
    backend_.CopyIn(base, filler.data(), filler.size());
    blocks_.push_back({base, bytes});
    return reinterpret_cast<T*>(base + kGuard);
  }

  template <typename T>
  std::vector<T> Get(const T* data, size_t count) {
    std::vector<T> host(count);
    backend_.Synchronize();
    backend_.CopyOut(host.data(), data, count * sizeof(T));
    return host;
  }

 private:
  static constexpr size_t kGuard = 64;
  struct Block {
    char* base;
    size_t bytes;
  };

  bool GuardsIntact() {
    backend_.Synchronize();
    const std::string filler(kGuard, '\xff');
    for (const Block& block : blocks_) {
      std::string guards(2 * kGuard, '\0');
      backend_.CopyOut(guards.data(), block.base, kGuard);
      backend_.CopyOut(guards.data() + kGuard, block.base + kGuard + block.bytes, kGuard);
      if (guards != filler + filler) return false;
    }
    return true;
  }

  Backend& backend_;
  std::vector<Block> blocks_;
};

}  // namespace monet::kernels::testing
