// MONET_CHECK: for bugs of our own only, never for bad input. Always on: a wrong block table would
// mix two tenants' texts, which is worse than a restart.
#pragma once

#include <cstdio>
#include <cstdlib>

#define MONET_CHECK(condition)                                                           \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
