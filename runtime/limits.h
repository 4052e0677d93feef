// Every hard limit, declared in one place. Checked at the border before anything proportional to
// it is allocated; the error names the field and the limit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace monet::limits {

// config.json
inline constexpr int64_t kMaxHidden = 65536;
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHeads = 1024;           // attention, key/value and routing heads each
inline constexpr int64_t kMaxExpertsPerSide = 4096;  // E; a layer has E² experts
inline constexpr int64_t kMaxMoeDim = 4096;
inline constexpr int64_t kMaxVocabulary = 1 << 20;
inline constexpr int64_t kMaxContext = 1 << 20;  // max_position_embeddings

// files
inline constexpr size_t kMaxConfigBytes = 1 << 20;               // config.json
inline constexpr size_t kMaxIndexBytes = 64 << 20;               // model.safetensors.index.json
inline constexpr size_t kMaxSafetensorsHeaderBytes = 100 << 20;  // the format's own limit
inline constexpr size_t kMaxShards = 1024;
inline constexpr size_t kMaxTokenizerBytes = 64 << 20;
inline constexpr size_t kMaxPolicyFileBytes = 1 << 20;  // one name/version.yaml
inline constexpr size_t kMaxMaskBytes = 64 << 20;       // R · ⌈E²/8⌉ of one mask
inline constexpr size_t kMaxPolicies = 4096;            // files of one policy directory
// Labels × experts of one collection of routing statistics (monetctl policy collect); 56 bytes
// each, 88 with scores.
inline constexpr size_t kMaxCollectedExperts = 1 << 25;
// Versions that left the directory while the server runs and may not come back with other content.
inline constexpr size_t kMaxRetiredVersions = 4 * kMaxPolicies;

// tenants.yaml and keys.yaml
inline constexpr size_t kMaxTenantFileBytes = 4 << 20;  // each of the two
inline constexpr size_t kMaxTenants = 4096;
inline constexpr size_t kMaxKeys = 16384;             // of all tenants; each call looks at all
inline constexpr size_t kMaxMandatoryPolicies = 32;   // of one tenant
inline constexpr size_t kMaxSubjects = 64;            // of one tenant, and of gateways
inline constexpr size_t kMaxSubjectBytes = 1024;      // of one certificate's subject
inline constexpr int64_t kMaxPerMinute = 1000000000;  // requests and tokens
inline constexpr int64_t kMaxConcurrent = 100000;     // calls of one tenant
inline constexpr int64_t kMaxMaskSlots = 256;         // distinct masks at a time
inline constexpr int64_t kMaxTenantWeight = 1000;

// requests
inline constexpr size_t kMaxPromptBytes = 1 << 20;
inline constexpr int64_t kMaxPromptTokenIds = 1 << 20;  // of a prompt that may be cut
inline constexpr int kMaxChatMessages = 256;
inline constexpr size_t kMaxRequestPolicies = 32;       // policy references in one request
inline constexpr size_t kMaxExplicitExperts = 1 << 20;  // ids, rows and columns of one request
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 256;
inline constexpr size_t kMaxStopTokenIds = 64;
inline constexpr size_t kMaxLogitBias = 1024;  // entries of sampling.logit_bias
inline constexpr int32_t kMaxTopLogprobs = 20;
inline constexpr int32_t kMaxCompletions = 16;  // n
inline constexpr int32_t kMaxPriority = 9;      // of a request
// Log-probabilities and alternatives of one request, so that a response stays within its size.
inline constexpr int64_t kMaxLogprobs = 1 << 20;
inline constexpr int32_t kMaxRoutingTopN = 256;   // return_routing.top_n
inline constexpr int32_t kMaxExplainTopN = 8192;  // ExplainRequest.top_n
inline constexpr int32_t kDefaultRoutingTopN = 16;
inline constexpr double kMaxRoutingMinWeight = 1000;
// Experts that return_routing of one request may bring, tokens · R · top_n over all completions: at
// 15 bytes each and 19 more for a token and router, a response stays within its size.
inline constexpr int64_t kMaxRoutingEntries = 1 << 18;
// Experts that one step may bring for one request with routing, so that what a paused sequence
// keeps back is bounded: its chunks have at most this / (R · top_n) rows, and at least one.
inline constexpr int64_t kMaxStepActivations = 1 << 19;
inline constexpr size_t kMaxPolicyNameBytes = 63;

// server
inline constexpr size_t kMaxRequestBytes = 8 << 20;    // one gRPC request message
inline constexpr size_t kMaxResponseBytes = 16 << 20;  // one gRPC response message
inline constexpr int kMaxMetadataBytes = 16 << 10;     // all metadata of one call
inline constexpr int kMaxStreamsPerConnection = 1024;  // HTTP/2 concurrent streams
inline constexpr int kMaxBlockingThreads = 16;         // of gRPC's reflection, one an open call
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxModelNameBytes = 128;
inline constexpr size_t kMaxPolicyReferenceBytes = kMaxPolicyNameBytes + 72;  // name@sha256:…
inline constexpr size_t kMaxMaskRouterEntries = 1024;  // entries of mask.experts
inline constexpr size_t kMaxDetokenizeIds = 1 << 20;
inline constexpr int32_t kMaxPolicyPage = 1000;         // ListPolicies
inline constexpr int32_t kDefaultMaxTokens = 256;       // when a request names none
inline constexpr size_t kMaxIngressBytes = 64 << 20;    // request messages not yet admitted
inline constexpr size_t kMaxHealthWatchers = 1024;      // open Health.Watch calls
inline constexpr size_t kMaxPemBytes = 1 << 20;         // one file of certificates or a key
inline constexpr int kMaxHealthRequestBytes = 4 << 10;  // one message of the health port
// Files and folders of one watched directory.
inline constexpr size_t kMaxWatchedEntries = 4 * kMaxPolicies;
inline constexpr size_t kMaxAdminRequestBytes = 16 << 10;  // head and body of one admin request
inline constexpr size_t kMinAdminTokenBytes = 16;
inline constexpr size_t kMaxAdminTokenBytes = 1024;
inline constexpr size_t kMaxServerConfigBytes = 1 << 20;  // --config FILE
inline constexpr size_t kMaxSettingBytes = 4096;          // text of one setting
inline constexpr size_t kStreamOutboxMessages = 64;       // written by the engine, not yet sent
inline constexpr size_t kStreamOutboxBytes = 4 << 20;  // of those messages, but for the last step's
inline constexpr size_t kActivationMessageBytes = 1 << 20;  // activations in a message of a stream
inline constexpr int32_t kShadowSlots = 4;                  // distinct shadows measured at a time
inline constexpr size_t kMaxPolicyMetrics = 256;            // policies with their own time series
inline constexpr size_t kMaxTenantMetrics = 256;            // tenants with their own time series

}  // namespace monet::limits
