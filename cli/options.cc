#include "cli/options.h"

#include <charconv>
#include <cmath>

#include "cli/text_input.h"
#include "runtime/base/replace_file.h"

namespace monet::cli {
namespace {

template <typename T>
absl::StatusOr<T> ParseNumber(const std::string& name, const std::string& text, const char* what) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) {
    return InvalidArgument("{} is '{}', must be {}", name, text, what);
  }
  return value;
}

template <typename T>
absl::StatusOr<std::optional<T>> NumberOf(const CLI::Option* option, const char* what) {
  if (option->results().empty()) return std::optional<T>();
  MONET_ASSIGN_OR_RETURN(const T value,
                         ParseNumber<T>(option->get_name(), option->results()[0], what));
  return std::optional<T>(value);
}

constexpr char kInt32[] = "a whole number from -2147483648 to 2147483647";

}  // namespace

CLI::Option* AddValue(CLI::App* app, const std::string& name, const std::string& type,
                      const std::string& description) {
  return app->add_option(name, CLI::callback_t(), description)->type_name(type);
}

CLI::Option* AddRepeated(CLI::App* app, const std::string& name, const std::string& type,
                         const std::string& description) {
  return AddValue(app, name, type, description)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

absl::StatusOr<std::optional<std::string>> TextOf(const CLI::Option* option) {
  if (option->results().empty()) return std::optional<std::string>();
  const std::string& text = option->results()[0];
  MONET_RETURN_IF_ERROR(RequireUtf8(option->get_name(), text));
  return std::optional<std::string>(text);
}

absl::StatusOr<std::vector<std::string>> TextsOf(const CLI::Option* option) {
  for (const std::string& text : option->results()) {
    MONET_RETURN_IF_ERROR(RequireUtf8(option->get_name(), text));
  }
  return option->results();
}

absl::StatusOr<std::optional<int32_t>> Int32Of(const CLI::Option* option) {
  return NumberOf<int32_t>(option, kInt32);
}

absl::StatusOr<std::vector<int32_t>> Int32sOf(const CLI::Option* option) {
  std::vector<int32_t> values;
  for (const std::string& text : option->results()) {
    MONET_ASSIGN_OR_RETURN(const int32_t value,
                           ParseNumber<int32_t>(option->get_name(), text, kInt32));
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<std::optional<uint64_t>> Uint64Of(const CLI::Option* option) {
  return NumberOf<uint64_t>(option, "a whole number from 0 to 18446744073709551615");
}

absl::StatusOr<std::optional<double>> FiniteOf(const CLI::Option* option) {
  constexpr char kNumber[] = "a decimal number";
  MONET_ASSIGN_OR_RETURN(const std::optional<double> value, NumberOf<double>(option, kNumber));
  if (value.has_value() && !std::isfinite(*value)) {
    return InvalidArgument("{} is '{}', must be {}", option->get_name(), option->results()[0],
                           kNumber);
  }
  return value;
}

absl::Status CheckOutput(const CLI::Option* option) {
  if (option->count() == 0) return absl::OkStatus();
  const std::string& path = option->results()[0];
  const absl::Status status = CheckReplaceable(path);
  if (status.ok()) return status;
  return InvalidArgument("{} '{}': {}", option->get_name(), path, Message(status));
}

}  // namespace monet::cli
