#include "cli/experts_file.h"

#include <charconv>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

namespace monet::cli {
namespace {

using Json = nlohmann::json;

// Routers > entry > list > number; the parser itself has no limit.
constexpr int kMaxDepth = 5;

// Parses and refuses what nlohmann-json would let pass: a key given twice, and any depth.
absl::StatusOr<Json> ParseStrict(std::string_view text) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string fault;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth && fault.empty()) fault = "is nested too deeply";
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second && fault.empty()) {
        fault = fmt::format("has the key '{}' twice in one object", key);
      }
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(text, check);
  } catch (const Json::parse_error& error) {
    return InvalidArgument("is not JSON (byte {})", error.byte);
  }
  if (!fault.empty()) return InvalidArgument("{}", fault);
  return json;
}

absl::StatusOr<int64_t> WholeNumber(const Json& value, const std::string& where, int64_t limit) {
  if (!value.is_number_integer()) return InvalidArgument("{} is not a whole number", where);
  if (value.is_number_unsigned() ? value.get<uint64_t>() > static_cast<uint64_t>(limit)
                                 : value.get<int64_t>() < 0) {
    return InvalidArgument("{} is {}, must be from 0 to {}", where, value.dump(), limit);
  }
  return value.get<int64_t>();
}

template <typename T>
absl::Status ReadList(const Json& list, const std::string& where,
                      google::protobuf::RepeatedField<T>* out) {
  if (!list.is_array()) return InvalidArgument("{} is not a list", where);
  out->Reserve(static_cast<int>(list.size()));
  for (size_t i = 0; i < list.size(); ++i) {
    MONET_ASSIGN_OR_RETURN(
        const int64_t number,
        WholeNumber(list[i], fmt::format("{}[{}]", where, i), std::numeric_limits<T>::max()));
    out->Add(static_cast<T>(number));
  }
  return absl::OkStatus();
}

class Reader {
 public:
  absl::Status ReadRoot(const Json& root) {
    if (root.is_array()) return ReadEntries(root, "");
    if (!root.is_object()) return InvalidArgument("is neither an object nor a list");
    for (const char* key : {"router", "ids", "rows", "columns"}) {
      if (root.contains(key)) return ReadEntry(root, "", -1);
    }
    if (!root.contains("routers")) return ReadByRouter(root, "");
    if (root.size() != 1) return InvalidArgument("has a key beside 'routers'");
    const Json& routers = root["routers"];
    if (routers.is_array()) return ReadEntries(routers, "routers");
    if (routers.is_object()) return ReadByRouter(routers, "routers.");
    return InvalidArgument("routers is neither an object nor a list");
  }

  std::vector<v1::RouterExperts> Take() && { return std::move(entries_); }

 private:
  static constexpr int64_t kMaxRouter = std::numeric_limits<int32_t>::max();

  absl::Status ReadEntries(const Json& list, const std::string& where) {
    for (size_t i = 0; i < list.size(); ++i) {
      MONET_RETURN_IF_ERROR(ReadEntry(list[i], fmt::format("{}[{}]", where, i), -1));
    }
    return absl::OkStatus();
  }

  absl::Status ReadByRouter(const Json& object, const std::string& prefix) {
    for (const auto& [key, value] : object.items()) {
      int32_t router = -1;
      const char* end = key.data() + key.size();
      const auto [stop, error] = std::from_chars(key.data(), end, router);
      if (error != std::errc() || stop != end || std::to_string(router) != key || router < 0) {
        return InvalidArgument("has an unknown key '{}{}'", prefix, key);
      }
      MONET_RETURN_IF_ERROR(ReadEntry(value, prefix + key, router));
    }
    return absl::OkStatus();
  }

  // `router` is -1 when the entry itself has to name it.
  absl::Status ReadEntry(const Json& entry, const std::string& where, int64_t router) {
    const std::string prefix = where.empty() ? "" : where + ".";
    if (!entry.is_object()) return InvalidArgument("{} is not an object", where);
    v1::RouterExperts experts;
    const bool named = router >= 0;
    for (const auto& [key, value] : entry.items()) {
      const std::string field = prefix + key;
      if (key == "ids") {
        MONET_RETURN_IF_ERROR(ReadList(value, field, experts.mutable_ids()));
      } else if (key == "rows") {
        MONET_RETURN_IF_ERROR(ReadList(value, field, experts.mutable_rows()));
      } else if (key == "columns") {
        MONET_RETURN_IF_ERROR(ReadList(value, field, experts.mutable_columns()));
      } else if (key == "router" && !named) {
        MONET_ASSIGN_OR_RETURN(router, WholeNumber(value, field, kMaxRouter));
      } else {
        return InvalidArgument("has an unknown key '{}'", field);
      }
    }
    if (router < 0) return InvalidArgument("{}router is missing", prefix);
    if (!routers_.insert(router).second) return InvalidArgument("names router {} twice", router);
    experts.set_router(static_cast<int32_t>(router));
    entries_.push_back(std::move(experts));
    return absl::OkStatus();
  }

  std::vector<v1::RouterExperts> entries_;
  std::set<int64_t> routers_;
};

}  // namespace

absl::StatusOr<std::vector<v1::RouterExperts>> ParseExpertsFile(std::string_view json) {
  MONET_ASSIGN_OR_RETURN(const Json root, ParseStrict(json));
  Reader reader;
  MONET_RETURN_IF_ERROR(reader.ReadRoot(root));
  return std::move(reader).Take();
}

}  // namespace monet::cli
