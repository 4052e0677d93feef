#include "server/greeting.h"

#include <algorithm>
#include <string_view>

namespace monet::server {
namespace {

// A name that the demo policies have; otherwise the first that there is.
std::string PolicyToShow(const PolicySnapshot& snapshot) {
  for (const auto& policy : snapshot.policies()) {
    if (policy->name == "no-python") return policy->name;
  }
  return snapshot.policies().empty() ? "" : snapshot.policies().front()->name;
}

// Wildcard addresses are for listening; one connects to loopback.
std::string ConnectAddress(const std::string& address) {
  for (std::string_view any : {"0.0.0.0:", "[::]:"}) {
    if (address.starts_with(any)) return "127.0.0.1:" + address.substr(any.size());
  }
  return address;
}

}  // namespace

std::string Summary(const ServingModel& model) {
  const int64_t tokens = int64_t{model.step_limits.kv_blocks} * model.step_limits.block_size;
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", name, value);
  };
  line("model", fmt::format("{}, {} MiB, context {} tokens", model.shape.model_name,
                            model.weights->bytes() >> 20, model.shape.context));
  line("fingerprint", model.weights->fingerprint().ToString());
  line("backend", fmt::format("{}: {}", model.backend->Name(), model.backend->Description()));
  line("threads", std::to_string(model.threads));
  line("kv cache", fmt::format("{} tokens, {} MiB", tokens, model.memory.kv_cache >> 20));
  text += "  memory\n" + MemoryTable(model.memory, "    ");
  line("policies", std::to_string(model.policies->Current()->policies().size()));
  return text;
}

std::string PolicyList(const PolicySnapshot& snapshot) {
  std::string text;
  for (const auto& policy : snapshot.policies()) {
    text += fmt::format("    {}@{}  {} experts removed\n", policy->name, policy->version,
                        policy->mask->removed());
  }
  return text;
}

std::string Greeting(const ServingModel& model, const ServerOptions& options,
                     const std::string& grpc_address, const std::string& monetctl) {
  const auto snapshot = model.policies->Current();
  std::string text = Summary(model);
  std::string server = " --server " + ConnectAddress(grpc_address);
  if (!options.tls_cert.empty()) server += " --tls --ca CA.pem";
  if (!options.tls_client_ca.empty()) server += " --cert CLIENT.pem --cert-key CLIENT.key";
  if (!options.tenants.empty()) server += " --key-file TENANT.key";
  const std::string prompt = " --max-tokens 24 --temperature 0 'def get_queryset(self):'\n";
  const std::string policy = PolicyToShow(*snapshot);
  text += "Try:\n  " + monetctl + " generate" + server + prompt;
  if (policy.empty()) {
    text += "  " + monetctl + " model" + server + "\n";
  } else {
    text += "  " + monetctl + " generate" + server + " --policy " + policy + prompt;
  }
  text += "  " + monetctl + " policies" + server + "\n";
  return text;
}

}  // namespace monet::server
