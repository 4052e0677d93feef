#include "server/certificate_subjects.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace monet::server {
namespace {

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kDigits = "0123456789";

bool HasOnly(std::string_view text, std::string_view punctuation) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return kLetters.find(c) != std::string_view::npos ||
           kDigits.find(c) != std::string_view::npos ||
           punctuation.find(c) != std::string_view::npos;
  });
}

// The kinds share no text: a DNS name has neither ':' nor '@' and ends in a label with a letter
// (RFC 3696, section 2), an address has ':' or is digits and dots but no "//", a mailbox has '@'
// and neither ':' nor '=' before it, a URI begins with a scheme and "//" or is a URN, and a
// distinguished name begins with a type and '='.
bool IsDns(std::string_view text) {
  const std::string_view last = text.substr(text.rfind('.') + 1);  // npos + 1 is 0
  return HasOnly(text, "-_.*") && last.find_first_not_of(kDigits) != std::string_view::npos;
}

bool IsIp(std::string_view text) { return HasOnly(text, ".:"); }

bool IsUri(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || !HasOnly(text.substr(0, colon), "+-.")) return false;
  return text.substr(0, colon) == "urn" || text.substr(colon + 1, 2) == "//";
}

bool IsEmail(std::string_view text) {
  const size_t at = text.find('@');
  return at != std::string_view::npos && at > 0 && at + 1 < text.size() &&
         text.substr(0, at).find_first_of(":=/") == std::string_view::npos;
}

void AddOfKind(const std::vector<std::string>& names, bool (*is_kind)(std::string_view),
               std::vector<std::string>* subjects) {
  std::copy_if(names.begin(), names.end(), std::back_inserter(*subjects), is_kind);
}

// Which no common name can have unescaped, so that "CN=a,O=b" is a whole subject and nothing else.
bool IsPlain(std::string_view common_name) {
  return !common_name.empty() && common_name.find_first_of(",+\\\"<>;") == std::string_view::npos;
}

}  // namespace

std::vector<std::string> SubjectsOf(const CertificateNames& names) {
  std::vector<std::string> subjects;
  AddOfKind(names.dns, IsDns, &subjects);
  AddOfKind(names.ips, IsIp, &subjects);
  AddOfKind(names.uris, IsUri, &subjects);
  AddOfKind(names.emails, IsEmail, &subjects);
  for (const std::string& name : names.common_names) {
    if (IsPlain(name)) subjects.push_back("CN=" + name);
  }
  for (const std::string& subject : names.whole_subjects) {
    if (std::find(subjects.begin(), subjects.end(), subject) == subjects.end()) {
      subjects.push_back(subject);
    }
  }
  return subjects;
}

}  // namespace monet::server
