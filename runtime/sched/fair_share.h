// How much service every tenant has had: what the scheduler's fair order is made of. After the
// virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024):
// among waiting requests the one goes first whose tenant has had least, a token counting 1/weight.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace monet {

// Not thread-safe. Sums in double, in the order of the calls: the same calls give the same sums.
class FairShare {
 public:
  struct Tenant {
    double used = 0;      // tokens / weight of what has run and left
    double reserved = 0;  // of what runs: all that it may come to use
    int32_t waiting = 0;  // requests
    int32_t running = 0;

    int32_t requests() const { return waiting + running; }
    double service() const { return used + reserved; }
  };

  // A request comes. A tenant that had none starts from what the least served of the others has
  // used, so that idle time is not saved up, unless it has used more than that. The pointer lives
  // until the request leaves.
  Tenant* Arrive(const std::string& name);
  // A waiting request runs, and may come to use `tokens`.
  void Run(Tenant* tenant, int32_t tokens, double weight);
  // A waiting request leaves.
  void Cancel(Tenant* tenant);
  // A running request leaves, having used `used` of its `tokens`.
  void End(Tenant* tenant, int32_t tokens, int32_t used, double weight);

  // Tenants with requests, and idle ones that have had more than these.
  const std::map<std::string, Tenant>& tenants() const { return tenants_; }

 private:
  std::map<std::string, Tenant> tenants_;
};

}  // namespace monet
