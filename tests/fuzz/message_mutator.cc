#include "tests/fuzz/message_mutator.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace monet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int64_t kIntegers[] = {0,
                                 1,
                                 2,
                                 3,
                                 4,
                                 5,
                                 16,
                                 17,
                                 20,
                                 21,
                                 24,
                                 25,
                                 31,
                                 32,
                                 33,
                                 99,
                                 100,
                                 1024,
                                 -1,
                                 -2,
                                 std::numeric_limits<int32_t>::max(),
                                 std::numeric_limits<int32_t>::min(),
                                 std::numeric_limits<int64_t>::max(),
                                 std::numeric_limits<int64_t>::min()};
constexpr double kDoubles[] = {0,
                               -0.0,
                               0.5,
                               1,
                               2,
                               -2,
                               100,
                               -100,
                               1e-6,
                               1e-7,
                               2.1,
                               1e300,
                               -1e300,
                               std::numeric_limits<double>::denorm_min(),
                               std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN()};
constexpr const char* kTexts[] = {"", "a", "no-c@1", "../x", "demo", "\xff", "\xc3\xa9", "a\nb"};
// Of strings and repeated fields.
constexpr int kCounts[] = {0, 1, 3, 4, 5, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 1025};
constexpr int kMaxDepth = 6;

class Mutator {
 public:
  explicit Mutator(std::mt19937* random) : random_(*random) {}

  // Changes one field of `message` or of a message within it.
  void Change(Message* message, int depth) {
    const auto* type = message->GetDescriptor();
    if (Below(20) == 0 || type->field_count() == 0) return AddUnknown(message);
    const FieldDescriptor* field = type->field(static_cast<int>(Below(type->field_count())));
    if (field->is_repeated()) return ChangeRepeated(message, field, depth);
    if (Below(8) == 0) return message->GetReflection()->ClearField(message, field);
    Set(message, field, depth);
  }

 private:
  size_t Below(size_t limit) { return random_() % limit; }
  template <typename T, size_t N>
  T Pick(const T (&values)[N]) {
    return values[Below(N)];
  }
  int64_t Integer() { return Below(4) == 0 ? static_cast<int64_t>(random_()) : Pick(kIntegers); }
  std::string Text() {
    if (Below(2) == 0) return Pick(kTexts);
    return std::string(static_cast<size_t>(Pick(kCounts)), Below(2) == 0 ? 'x' : '\0');
  }

  void AddUnknown(Message* message) {
    auto* unknown = message->GetReflection()->MutableUnknownFields(message);
    unknown->AddVarint(static_cast<int>(1 + Below(100)), random_());
  }

  void ChangeRepeated(Message* message, const FieldDescriptor* field, int depth) {
    const auto* reflection = message->GetReflection();
    const int size = reflection->FieldSize(*message, field);
    if (size > 0 && Below(4) == 0) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && depth < kMaxDepth) {
        const auto entry = static_cast<int>(Below(static_cast<size_t>(size)));
        return Change(reflection->MutableRepeatedMessage(message, field, entry), depth + 1);
      }
      return reflection->RemoveLast(message, field);
    }
    if (size > 4096) return reflection->ClearField(message, field);
    const int count = Below(4) == 0 ? Pick(kCounts) : 1;
    for (int i = 0; i < count; ++i) Add(message, field, depth);
  }

  void Set(Message* message, const FieldDescriptor* field, int depth) {
    const auto* reflection = message->GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return reflection->SetInt32(message, field, static_cast<int32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection->SetInt64(message, field, Integer());
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection->SetUInt32(message, field, static_cast<uint32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_UINT64:
        return reflection->SetUInt64(message, field, static_cast<uint64_t>(Integer()));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return reflection->SetDouble(message, field, Pick(kDoubles));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return reflection->SetFloat(message, field, static_cast<float>(Pick(kDoubles)));
      case FieldDescriptor::CPPTYPE_BOOL:
        return reflection->SetBool(message, field, Below(2) == 0);
      case FieldDescriptor::CPPTYPE_ENUM:
        return reflection->SetEnumValue(message, field, static_cast<int>(Below(6)) - 1);
      case FieldDescriptor::CPPTYPE_STRING:
        return reflection->SetString(message, field, Text());
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth < kMaxDepth) Change(reflection->MutableMessage(message, field), depth + 1);
    }
  }

  void Add(Message* message, const FieldDescriptor* field, int depth) {
    const auto* reflection = message->GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return reflection->AddInt32(message, field, static_cast<int32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection->AddInt64(message, field, Integer());
      case FieldDescriptor::CPPTYPE_STRING:
        return reflection->AddString(message, field, Text());
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth < kMaxDepth) Change(reflection->AddMessage(message, field), depth + 1);
        return;
      default:
        return;  // requests have no other lists
    }
  }

  std::mt19937& random_;
};

}  // namespace

void MutateMessage(Message* message, std::mt19937* random) {
  Mutator mutator(random);
  const int changes = 1 + static_cast<int>((*random)() % 4);
  for (int i = 0; i < changes; ++i) mutator.Change(message, 0);
}

}  // namespace monet
