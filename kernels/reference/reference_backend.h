// Textbook loops in double, one to one with the paper's equations. The yardstick for every other
// backend; never optimised.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace monet::kernels {

std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace monet::kernels
