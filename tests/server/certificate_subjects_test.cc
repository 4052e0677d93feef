#include "server/certificate_subjects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace monet::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(CertificateSubjectsTest, GivesEveryKind) {
  EXPECT_THAT(
      SubjectsOf({.common_names = {"acme client"},
                  .whole_subjects = {"CN=acme client,O=Example"},
                  .dns = {"*.a-b.example"},
                  .uris = {"spiffe://mesh/acme?a=b", "urn:acme:1"},
                  .emails = {"ops@acme.example"},
                  .ips = {"10.0.0.1", "fe80::1"}}),
      ElementsAre("*.a-b.example", "10.0.0.1", "fe80::1", "spiffe://mesh/acme?a=b", "urn:acme:1",
                  "ops@acme.example", "CN=acme client", "CN=acme client,O=Example"));
}

TEST(CertificateSubjectsTest, ASubjectThatIsACommonNameAloneIsGivenOnce) {
  EXPECT_THAT(SubjectsOf({.common_names = {"acme"}, .whole_subjects = {"CN=acme"}}),
              ElementsAre("CN=acme"));
}

TEST(CertificateSubjectsTest, LeavesOutWhatReadsAsAnotherKind) {
  EXPECT_THAT(SubjectsOf({.dns = {"CN=acme", "CN=acme,O=x", "spiffe://mesh/acme", "urn:acme:1",
                                  "ops@acme.example", "fe80::1", "10.0.0.1", "7", "a.", ""}}),
              IsEmpty());
  EXPECT_THAT(SubjectsOf({.uris = {"CN=acme", "acme.example", "CN=spiffe://mesh", "fe80::1",
                                   "ops@acme.example", ""}}),
              IsEmpty());
  EXPECT_THAT(SubjectsOf({.emails = {"CN=acme", "CN=acme@x", "spiffe://mesh@x", "acme.example",
                                     "@x", "x@", ""}}),
              IsEmpty());
  EXPECT_THAT(SubjectsOf({.ips = {"CN=acme", "spiffe://mesh/acme", ""}}), IsEmpty());
}

TEST(CertificateSubjectsTest, ACommonNameIsNeverAWholeSubject) {
  EXPECT_THAT(SubjectsOf({.common_names = {"acme,O=Example", ""},
                          .whole_subjects = {"CN=acme\\,O=Example"}}),
              ElementsAre("CN=acme\\,O=Example"));
}

}  // namespace
}  // namespace monet::server
