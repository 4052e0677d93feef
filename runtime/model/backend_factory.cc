#include "runtime/model/backend_factory.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"

namespace monet {

absl::StatusOr<std::unique_ptr<kernels::Backend>> MakeBackend(std::string_view name,
                                                              int32_t threads) {
  constexpr int32_t kMaxThreads = 1024;
  if (threads < 1 || threads > kMaxThreads) {
    return InvalidArgument("threads is {}, allowed 1 to {}", threads, kMaxThreads);
  }
  if (name == "reference") return kernels::MakeReferenceBackend();
  if (name == "cpu") return kernels::MakeCpuBackend({.threads = threads});
  return InvalidArgument("backend is \"{}\", allowed: reference, cpu", name);
}

}  // namespace monet
