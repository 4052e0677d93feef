#include "runtime/model/backend_factory.h"

#include <gtest/gtest.h>

#include <string>

namespace monet {
namespace {

TEST(BackendFactoryTest, MakesBackendsByName) {
  for (const char* name : {"reference", "cpu"}) {
    const auto backend = MakeBackend(name, 2);
    ASSERT_TRUE(backend.ok()) << backend.status().ToString();
    EXPECT_EQ(std::string((*backend)->Name()), name);
  }
}

TEST(BackendFactoryTest, RefusesOtherNamesAndThreads) {
  for (const char* name : {"", "CPU", "cuda", "cpu "}) {
    EXPECT_EQ(Message(MakeBackend(name, 1).status()),
              std::string("backend is \"") + name + "\", allowed: reference, cpu");
  }
  for (int32_t threads : {0, -1, 1025, INT32_MAX}) {
    EXPECT_EQ(Message(MakeBackend("cpu", threads).status()),
              fmt::format("threads is {}, allowed 1 to 1024", threads));
  }
}

}  // namespace
}  // namespace monet
