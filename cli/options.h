// Options of a subcommand as typed, and their strict reading. CLI11 finds them and checks how often
// they come; values are taken as the user wrote them (CLI11 itself reads "010" as eight, -1 as a
// large unsigned number and "{}" as an empty list).
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace monet::cli {

// An option with one value, given at most once.
CLI::Option* AddValue(CLI::App* app, const std::string& name, const std::string& type,
                      const std::string& description);
// An option with one value that may be repeated.
CLI::Option* AddRepeated(CLI::App* app, const std::string& name, const std::string& type,
                         const std::string& description);

// The value as typed; nothing when the option was not given. Errors: INVALID_ARGUMENT when it is
// not UTF-8.
absl::StatusOr<std::optional<std::string>> TextOf(const CLI::Option* option);
// All values of a repeated option, in order.
absl::StatusOr<std::vector<std::string>> TextsOf(const CLI::Option* option);

// Decimal numbers, the whole value and nothing else. Errors: INVALID_ARGUMENT naming the option.
absl::StatusOr<std::optional<int32_t>> Int32Of(const CLI::Option* option);
absl::StatusOr<std::vector<int32_t>> Int32sOf(const CLI::Option* option);
absl::StatusOr<std::optional<uint64_t>> Uint64Of(const CLI::Option* option);
absl::StatusOr<std::optional<double>> FiniteOf(const CLI::Option* option);

// Finds out before the work whether its result can be written to the file that the option names, if
// it was given. Errors: those of CheckReplaceable, naming the option and the file.
absl::Status CheckOutput(const CLI::Option* option);

}  // namespace monet::cli
