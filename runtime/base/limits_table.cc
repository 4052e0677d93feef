#include "runtime/base/limits_table.h"

#include <array>

#include "runtime/limits.h"

// The constant's name and its value, so that no number is written twice.
#define MONET_LIMIT(constant) #constant, static_cast < int64_t>(limits::constant)

namespace monet {
namespace {

using enum LimitRow::Group;

constexpr char kLoad[] = "at load";
constexpr char kRefusedLoad[] = "the server does not start";
constexpr char kConversion[] = "conversion of the request";

constexpr LimitRow Field(const char* constant, int64_t value, const char* unit, const char* fields,
                         Reason reason = Reason::kInvalidField) {
  return {kRequest, constant, value, unit, fields, kConversion, nullptr, reason};
}

constexpr LimitRow Model(const char* constant, int64_t value, const char* unit,
                         const char* bounds) {
  return {kModel, constant, value, unit, bounds, kLoad, kRefusedLoad};
}

constexpr LimitRow Policies(const char* constant, int64_t value, const char* unit,
                            const char* bounds) {
  return {kPolicies, constant, value, unit, bounds, kLoad, "the directory is not taken"};
}

constexpr LimitRow Tenants(const char* constant, int64_t value, const char* unit,
                           const char* bounds) {
  return {kTenants, constant, value, unit, bounds, kLoad, "the file is not taken"};
}

constexpr std::array kRows = {
    Model(MONET_LIMIT(kMaxConfigBytes), "bytes", "config.json"),
    Model(MONET_LIMIT(kMaxHidden), "units", "hidden_size"),
    Model(MONET_LIMIT(kMaxLayers), "layers", "num_hidden_layers"),
    Model(MONET_LIMIT(kMaxHeads), "heads", "attention, key/value and routing heads, each"),
    Model(MONET_LIMIT(kMaxExpertsPerSide), "experts", "experts a side; a layer has this squared"),
    Model(MONET_LIMIT(kMaxMoeDim), "units", "moe_dim"),
    Model(MONET_LIMIT(kMaxVocabulary), "tokens", "the vocabulary"),
    Model(MONET_LIMIT(kMaxContext), "tokens", "max_position_embeddings"),
    Model(MONET_LIMIT(kMaxIndexBytes), "bytes", "model.safetensors.index.json"),
    Model(MONET_LIMIT(kMaxSafetensorsHeaderBytes), "bytes", "the header of a safetensors file"),
    Model(MONET_LIMIT(kMaxShards), "files", "shards of a checkpoint"),
    Model(MONET_LIMIT(kMaxTokenizerBytes), "bytes", "tokenizer.model"),

    Policies(MONET_LIMIT(kMaxPolicyFileBytes), "bytes", "one NAME/VERSION.yaml"),
    Policies(MONET_LIMIT(kMaxMaskBytes), "bytes", "the bitmap of one mask"),
    Policies(MONET_LIMIT(kMaxPolicies), "policies", "versions in the directory"),
    LimitRow{kPolicies, MONET_LIMIT(kMaxRetiredVersions), "versions",
             "that left the directory and may not come back with other content", "each reload",
             "the first that left are forgotten"},
    LimitRow{kPolicies, MONET_LIMIT(kMaxCollectedExperts), "experts",
             "labels times experts of one collection of routing statistics",
             "`monetctl policy collect`", "the command refuses"},
    LimitRow{kPolicies, MONET_LIMIT(kMaxWatchedEntries), "files",
             "and folders of a directory that is watched", "each look",
             "the directory is not taken, what was taken before stays"},

    Tenants(MONET_LIMIT(kMaxTenantFileBytes), "bytes", "tenants.yaml and keys.yaml, each"),
    Tenants(MONET_LIMIT(kMaxTenants), "tenants", "tenants"),
    Tenants(MONET_LIMIT(kMaxKeys), "keys", "keys of all tenants"),
    Tenants(MONET_LIMIT(kMaxMandatoryPolicies), "policies", "require of one tenant"),
    Tenants(MONET_LIMIT(kMaxSubjects), "subjects",
            "certificate subjects of one tenant, and of gateways"),
    Tenants(MONET_LIMIT(kMaxSubjectBytes), "bytes", "one certificate subject"),
    Tenants(MONET_LIMIT(kMaxPerMinute), "", "requests_per_minute and tokens_per_minute"),
    Tenants(MONET_LIMIT(kMaxConcurrent), "calls", "concurrent"),
    Tenants(MONET_LIMIT(kMaxMaskSlots), "masks", "distinct_masks"),
    Tenants(MONET_LIMIT(kMaxTenantWeight), "", "weight"),

    Field(MONET_LIMIT(kMaxPromptBytes), "bytes",
          "prompt.text; all prompt.conversation.messages together; text of Tokenize"),
    Field(MONET_LIMIT(kMaxPromptTokenIds), "ids",
          "prompt.token_ids of a prompt that truncation may cut; without it, the context"),
    Field(MONET_LIMIT(kMaxChatMessages), "messages", "prompt.conversation.messages"),
    Field(MONET_LIMIT(kMaxRequestPolicies), "policies", "mask.policies"),
    Field(MONET_LIMIT(kMaxPolicyReferenceBytes), "bytes", "one reference to a policy"),
    Field(MONET_LIMIT(kMaxPolicyNameBytes), "bytes", "the name in it"),
    Field(MONET_LIMIT(kMaxMaskRouterEntries), "entries", "mask.experts"),
    Field(MONET_LIMIT(kMaxExplicitExperts), "entries",
          "ids, rows and columns of mask.experts together"),
    Field(MONET_LIMIT(kMaxStopStrings), "texts", "stopping.stop"),
    Field(MONET_LIMIT(kMaxStopStringBytes), "bytes", "one text of stopping.stop"),
    Field(MONET_LIMIT(kMaxStopTokenIds), "ids", "stopping.stop_token_ids"),
    Field(MONET_LIMIT(kMaxLogitBias), "entries", "sampling.logit_bias"),
    Field(MONET_LIMIT(kMaxTopLogprobs), "tokens", "logprob_options.top_logprobs"),
    Field(MONET_LIMIT(kMaxLogprobs), "log-probabilities",
          "of one request: tokens of n completions and of the prompt, times 1 + top_logprobs"),
    Field(MONET_LIMIT(kMaxCompletions), "completions", "n"),
    Field(MONET_LIMIT(kMaxPriority), "", "priority"),
    Field(MONET_LIMIT(kMaxRoutingTopN), "experts", "return_routing.top_n"),
    Field(MONET_LIMIT(kMaxExplainTopN), "experts", "top_n of Explain"),
    Field(MONET_LIMIT(kMaxRoutingMinWeight), "",
          "return_routing.min_weight, min_weight of Explain"),
    Field(MONET_LIMIT(kMaxRoutingEntries), "experts",
          "of one request with return_routing: tokens of all completions, times routers, times "
          "top_n"),
    Field(MONET_LIMIT(kMaxRequestIdBytes), "bytes", "request_id"),
    Field(MONET_LIMIT(kMaxModelNameBytes), "bytes", "model"),
    Field(MONET_LIMIT(kMaxDetokenizeIds), "ids", "token_ids of Detokenize"),
    Field(MONET_LIMIT(kMaxPolicyPage), "policies", "page_size of ListPolicies"),

    LimitRow{kServer, MONET_LIMIT(kMaxRequestBytes), "bytes", "one request message",
             "gRPC, as it arrives", "RESOURCE_EXHAUSTED from gRPC itself, without details"},
    LimitRow{kServer, MONET_LIMIT(kMaxResponseBytes), "bytes", "one response message",
             "before it is written", nullptr, Reason::kTooLarge},
    LimitRow{kServer, MONET_LIMIT(kMaxMetadataBytes), "bytes", "all metadata of one call",
             "gRPC, as it arrives", "RESOURCE_EXHAUSTED from gRPC itself, without details"},
    LimitRow{kServer, MONET_LIMIT(kMaxStreamsPerConnection), "calls", "open on one connection",
             "HTTP/2", "the client's library waits"},
    LimitRow{kServer, MONET_LIMIT(kMaxIngressBytes), "bytes",
             "request messages that are not admitted yet, of all calls", "on arrival", nullptr,
             Reason::kQueueFull},
    LimitRow{kServer, MONET_LIMIT(kMaxBlockingThreads), "threads", "open calls of reflection",
             "on arrival", "more wait"},
    LimitRow{kServer, MONET_LIMIT(kMaxHealthWatchers), "calls", "open Health.Watch", "on arrival",
             "RESOURCE_EXHAUSTED"},
    LimitRow{kServer, MONET_LIMIT(kStreamOutboxMessages), "messages",
             "of one stream, written by the engine and not yet sent", "each step",
             "the sequence rests, see stall_timeout"},
    LimitRow{kServer, MONET_LIMIT(kMaxStepActivations), "experts",
             "that one step brings for one request with routing", "each step",
             "the request gets smaller chunks"},
    LimitRow{kServer, MONET_LIMIT(kDefaultMaxTokens), "tokens",
             "a completion where the request names no max_tokens", kConversion,
             "finish_reason is length"},
    LimitRow{kServer, MONET_LIMIT(kDefaultRoutingTopN), "experts",
             "a token and router where a request names no top_n", kConversion,
             "the rest is left out"},
    LimitRow{kServer, MONET_LIMIT(kStreamOutboxBytes), "bytes",
             "of one stream's messages, but for the last step's", "each step",
             "the sequence rests, see stall_timeout"},
    LimitRow{kServer, MONET_LIMIT(kActivationMessageBytes), "bytes",
             "activations in one message of a stream", "before it is written",
             "the rest goes into the next message"},
    LimitRow{kServer, MONET_LIMIT(kShadowSlots), "masks", "shadow policies that one step measures",
             "admission", "the call runs and is not measured"},
    LimitRow{kServer, MONET_LIMIT(kMaxHealthRequestBytes), "bytes",
             "one request message of health_listen", "gRPC, as it arrives", "RESOURCE_EXHAUSTED"},
    LimitRow{kServer, MONET_LIMIT(kMaxAdminRequestBytes), "bytes",
             "head and body of one request to admin_listen", "as it arrives",
             "the connection is closed"},
    LimitRow{kServer, MONET_LIMIT(kMinAdminTokenBytes), "bytes", "admin_token_file, at least",
             "at start and reload", kRefusedLoad},
    LimitRow{kServer, MONET_LIMIT(kMaxAdminTokenBytes), "bytes", "admin_token_file, at most",
             "at start and reload", kRefusedLoad},
    LimitRow{kServer, MONET_LIMIT(kMaxPemBytes), "bytes", "one file of certificates or a key",
             "at start and reload", kRefusedLoad},
    LimitRow{kServer, MONET_LIMIT(kMaxServerConfigBytes), "bytes", "the file of --config",
             "at start", kRefusedLoad},
    LimitRow{kServer, MONET_LIMIT(kMaxSettingBytes), "bytes", "the text of one setting", "at start",
             kRefusedLoad},
    LimitRow{kServer, MONET_LIMIT(kMaxPolicyMetrics), "policies", "with time series of their own",
             "each scrape", "the others have none"},
    LimitRow{kServer, MONET_LIMIT(kMaxTenantMetrics), "tenants", "with time series of their own",
             "each call", "the others share one"},
};

}  // namespace

std::span<const LimitRow> LimitRows() { return kRows; }

const char* TitleOf(LimitRow::Group group) {
  switch (group) {
    case kModel:
      return "Model folder";
    case kPolicies:
      return "Policy directory";
    case kTenants:
      return "Tenants and keys";
    case kRequest:
      return "Requests";
    case kServer:
      break;
  }
  return "Server";
}

std::string BeyondText(const LimitRow& row) {
  return row.reason ? fmt::format("`{}`", InfoOf(*row.reason).name) : row.beyond;
}

}  // namespace monet
