// monetctl policy verify: whether policy files are what a model and a server need.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/policy_commands.h"
#include "cli/policy_probe.h"
#include "cli/policy_source.h"
#include "cli/server_arguments.h"
#include "cli/text_input.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/fingerprint.h"
#include "runtime/policy/registry.h"

namespace monet::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policy verify policies/no-python/1.yaml\n"
    "  monetctl policy verify policies --model models/demo\n"
    "  monetctl policy verify policies/no-python/1.yaml --on-server --text-file some.py\n\n"
    "PATH is a policy file or a policy directory. Keys, ranges, lengths and digests are always\n"
    "checked; with --model also that there are policies of that checkpoint, of its shape. With\n"
    "--on-server the server must have each of them with the same digest, and an explanation of a\n"
    "text under it must show every active expert of the policy as removed, and no other one. A\n"
    "text that wakes none of the policy's experts shows nothing: a warning says so.";

// Wakes a good many experts of any model that knows some languages and some code.
constexpr char kProbeText[] =
    "The quick brown fox jumps over the lazy dog, and nobody knows why.\n"
    "def add(a, b):\n    return a + b\n"
    "int main(void) { printf(\"%d\\n\", 42); return 0; }\n"
    "public static void main(String[] args) { System.out.println(args.length); }\n"
    "Der Hund schläft. Le chat dort sur la table. El perro come en la calle.\n"
    "And it came to pass in those days, that there went out a decree.\n";

struct VerifyArguments {
  explicit VerifyArguments(CLI::App* app) : server(app) {
    path = AddValue(app, "PATH", "", "Policy file, or policy directory")->required();
    model = AddValue(app, "--model", "DIR", "Checkpoint directory that the policies are for");
    app->add_flag("--on-server", on_server, "Ask the server too");
    text_file = AddValue(app, "--text-file", "FILE",
                         "Text that the server explains. Default: some lines of several kinds");
    app->add_flag("--json", json, "Print one JSON object");
  }

  ServerArguments server;
  CLI::Option *path, *model, *text_file;
  bool on_server = false;
  bool json = false;
};

struct ModelIdentity {
  Digest fingerprint;
  MaskShape shape;
};

absl::StatusOr<ModelIdentity> ReadIdentity(const std::string& directory) {
  auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) return InvalidArgument("{}: {}", directory, Message(checkpoint.status()));
  const auto threads = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  ModelIdentity identity;
  MONET_ASSIGN_OR_RETURN(identity.fingerprint, FingerprintCheckpoint(**checkpoint, threads));
  const ModelConfig& config = (*checkpoint)->config();
  identity.shape = {config.Routers(), config.experts};
  return identity;
}

// The server's own model; it tells no shape that a policy's digest would not fix.
absl::StatusOr<ModelIdentity> AskIdentity(Connection* connection) {
  v1::GetModelResponse model;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().GetModel(context, v1::GetModelRequest(), &model);
  }));
  ModelIdentity identity;
  identity.shape = {model.routers_size(), model.experts_per_side()};
  if (!Digest::Parse(model.fingerprint(), &identity.fingerprint) || !identity.shape.IsValid()) {
    return BadAnswer("a model without fingerprint or shape");
  }
  return identity;
}

struct Verified {
  std::vector<std::shared_ptr<const Policy>> policies;
  std::vector<std::shared_ptr<const Policy>> foreign;  // of other models; without masks
};

absl::Status CheckFits(const Policy& policy, const ModelIdentity& model, const std::string& path) {
  if (policy.model != model.fingerprint) {
    return InvalidArgument("{}: is for the model {}, not {}", path, policy.model.ToString(),
                           model.fingerprint.ToString());
  }
  const MaskShape& shape = policy.mask->shape();
  if (shape == model.shape) return absl::OkStatus();
  return InvalidArgument("{}: {} routers and {} experts a side; the model has {} and {}", path,
                         shape.routers, shape.experts, model.shape.routers, model.shape.experts);
}

absl::StatusOr<Verified> ReadOne(const std::string& path,
                                 const std::optional<ModelIdentity>& model) {
  MONET_ASSIGN_OR_RETURN(PolicyFile file, ReadPolicyAt(path));
  if (model) MONET_RETURN_IF_ERROR(CheckFits(file.policy, *model, path));
  return Verified{{std::make_shared<const Policy>(std::move(file.policy))}, {}};
}

absl::StatusOr<Verified> ReadAll(const std::string& path,
                                 const std::optional<ModelIdentity>& model) {
  const ModelIdentity identity = model.value_or(ModelIdentity{Digest(), MaskShape{1, 1}});
  auto snapshot = PolicySnapshot::Load(path, identity.fingerprint, identity.shape);
  if (!snapshot.ok()) return InvalidArgument("{}: {}", path, Message(snapshot.status()));
  Verified verified{(*snapshot)->policies(), (*snapshot)->foreign()};
  if (model && verified.policies.empty()) {
    return InvalidArgument("{}: {} policies, none of them for the model {}", path,
                           verified.foreign.size(), identity.fingerprint.ToString());
  }
  return verified;
}

Json PolicyLine(const Policy& policy) {
  Json json = {{"name", policy.name},
               {"version", policy.version},
               {"digest", policy.digest.ToString()},
               {"model", policy.model.ToString()}};
  if (policy.mask == nullptr) return json;
  json["mask_digest"] = policy.mask->digest().ToString();
  json["experts_removed"] = policy.mask->removed();
  json["experts_total"] = policy.mask->shape().Experts();
  return json;
}

Json ProbeJson(const ProbeResult& probe) {
  return {{"tokens", probe.tokens},
          {"active", probe.active},
          {"removed", probe.removed},
          {"removed_weight_share", probe.removed_weight_share},
          {"mandatory_too", probe.has_mandatory}};
}

std::string TextOfPolicy(const Policy& policy) {
  std::string text =
      fmt::format("{}@{}  {}", policy.name, policy.version, policy.digest.ToString());
  if (policy.mask == nullptr) return text;
  return text + "  " + RemovedText(policy.mask->removed(), policy.mask->shape().Experts());
}

class Report {
 public:
  Report(bool json, Console* console) : json_(json), console_(console) {}

  void Add(const Policy& policy, const std::optional<ProbeResult>& probe) {
    Json entry = PolicyLine(policy);
    std::string text = TextOfPolicy(policy);
    if (probe) {
      entry["server"] = ProbeJson(*probe);
      text += fmt::format("  on the server {} of {} active experts, {:.2f} % of the weight",
                          probe->removed, probe->active, 100 * probe->removed_weight_share);
      if (probe->removed == 0 && !policy.mask->empty()) {
        console_->PrintError(
            fmt::format("monetctl: warning: the text wakes no expert of {}@{}, so nothing is shown "
                        "for it; give one with --text-file",
                        policy.name, policy.version));
      }
    }
    policies_.push_back(std::move(entry));
    text_ += text + "\n";
  }
  absl::Status Write(const Verified& verified, bool with_model) {
    if (json_) {
      Json json;
      json["policies"] = policies_;
      json["other_models"] = with_model ? verified.foreign.size() : 0;
      return console_->Write(Line(json));
    }
    if (with_model && !verified.foreign.empty()) {
      text_ += fmt::format("{} more for other models\n", verified.foreign.size());
    }
    return console_->Write(text_ + "ok\n");
  }

 private:
  const bool json_;
  Console* const console_;
  Json policies_ = Json::array();
  std::string text_;
};

absl::StatusOr<std::string> ProbeText(const VerifyArguments& arguments) {
  MONET_ASSIGN_OR_RETURN(const auto file, TextOf(arguments.text_file));
  if (!file) return std::string(kProbeText);
  if (!arguments.on_server) return InvalidArgument("--text-file needs --on-server");
  MONET_ASSIGN_OR_RETURN(const std::string text, ReadInput(*file));
  MONET_RETURN_IF_ERROR(RequireUtf8("--text-file", text));
  return text;
}

absl::Status RunVerify(const VerifyArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const auto path, TextOf(arguments.path));
  MONET_ASSIGN_OR_RETURN(const auto directory, TextOf(arguments.model));
  MONET_ASSIGN_OR_RETURN(const std::string text, ProbeText(arguments));
  std::optional<ModelIdentity> model;
  if (directory) {
    MONET_ASSIGN_OR_RETURN(model, ReadIdentity(*directory));
  }
  std::unique_ptr<Connection> connection;
  if (arguments.on_server) {
    MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
    MONET_ASSIGN_OR_RETURN(connection, Connection::Open(server, session.interrupts));
    MONET_ASSIGN_OR_RETURN(const ModelIdentity served, AskIdentity(connection.get()));
    if (model && model->fingerprint != served.fingerprint) {
      return InvalidArgument("--model is {}, the server has {}", model->fingerprint.ToString(),
                             served.fingerprint.ToString());
    }
    model = served;
  }
  std::error_code error;
  const bool is_directory = fs::is_directory(*path, error);
  MONET_ASSIGN_OR_RETURN(const Verified verified,
                         is_directory ? ReadAll(*path, model) : ReadOne(*path, model));
  Report report(arguments.json, session.console);
  for (const auto& policy :
       model ? verified.policies : (is_directory ? verified.foreign : verified.policies)) {
    std::optional<ProbeResult> probe;
    if (connection != nullptr) {
      MONET_ASSIGN_OR_RETURN(probe, ProbePolicy(*policy, text, connection.get()));
    }
    report.Add(*policy, probe);
  }
  return report.Write(verified, model.has_value());
}

}  // namespace

Command AddPolicyVerify(CLI::App* policy) {
  CLI::App* app = policy->add_subcommand("verify", "Check policy files, alone or with a server");
  app->footer(kExample);
  auto arguments = std::make_shared<VerifyArguments>(app);
  return {app, [arguments](const Session& session) { return RunVerify(*arguments, session); }};
}

}  // namespace monet::cli
