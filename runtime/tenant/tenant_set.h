// Who may call: the tenants and keys of one moment, and the decision whose a call is.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/tenant/key_file.h"
#include "runtime/tenant/tenant.h"
#include "runtime/tenant/tenant_file.h"

namespace monet {

// What a caller shows. Subjects are of a client certificate that the transport has verified; an
// unverified one has none.
struct Credentials {
  std::vector<std::string> authorization;   // values of the metadata "authorization"
  std::vector<std::string> gateway_tenant;  // values of the metadata "monet-tenant"
  std::vector<std::string> subjects;        // of the certificate: its subject alternative names,
                                            // "CN=" and its common name, and its whole subject
};

// Immutable; shared by running calls.
class TenantSet {
 public:
  // A server without tenants: every caller is OpenTenant().
  static std::shared_ptr<const TenantSet> Open();
  // Errors: INVALID_ARGUMENT for a key of a tenant that there is not, or of `anonymous`.
  static absl::StatusOr<std::shared_ptr<const TenantSet>> Make(TenantFile file,
                                                               std::vector<KeyEntry> keys);

  // Whose the call is, decided in this order:
  //   1. the header `monet-tenant`: the tenant that it names, when the certificate is a gateway's;
  //      else the call is refused, never served as somebody else's
  //   2. `authorization: Bearer KEY`: the key's tenant; refused when the certificate is another's
  //   3. the certificate: the tenant that has the subject
  //   4. no credentials: the tenant `anonymous`, where there is one
  // Errors: UNAUTHENTICATED, with one text for every cause.
  absl::StatusOr<std::shared_ptr<const Tenant>> Identify(const Credentials& credentials,
                                                         UtcTime now) const;

  // In the order of the file. Of an open server: the one of every caller.
  const std::vector<std::shared_ptr<const Tenant>>& tenants() const { return tenants_; }
  const std::vector<KeyEntry>& keys() const { return keys_; }
  bool open() const { return open_; }
  // Null when there is none.
  std::shared_ptr<const Tenant> Find(std::string_view name) const;
  // Whether anybody can be served: by a key, a certificate's subject, a gateway, or as anonymous.
  bool HasWayIn(bool client_certificates) const;

 private:
  TenantSet() = default;
  void Index();
  std::shared_ptr<const Tenant> OfSubjects(const std::vector<std::string>& subjects,
                                           bool* ambiguous) const;

  bool open_ = false;
  std::vector<std::shared_ptr<const Tenant>> tenants_;
  std::vector<KeyEntry> keys_;
  std::vector<std::string> gateway_subjects_;
  std::map<std::string, std::shared_ptr<const Tenant>, std::less<>> by_name_;
  std::map<std::string, std::shared_ptr<const Tenant>, std::less<>> by_subject_;
};

}  // namespace monet
