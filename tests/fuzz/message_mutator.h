// Changes protobuf messages the way a hostile caller would: values at the ends of their ranges,
// counts beyond the limits, fields that are not known. By reflection, so that new fields take part
// unasked.
#pragma once

#include <google/protobuf/message.h>

#include <random>

namespace monet {

// Makes one to four changes anywhere in the message. The same message and random numbers give the
// same result. A message grows by at most a few thousand entries.
void MutateMessage(google::protobuf::Message* message, std::mt19937* random);

}  // namespace monet
