#include "server/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace monet::server {
namespace {

using ::testing::ElementsAre;

grpc::ByteBuffer Bytes(const std::string& text) {
  grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Text(const grpc::ByteBuffer& bytes) {
  grpc::Slice slice;
  EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

// A stream that completes its writes when the test says so.
class FakeStream : public OutboxWriter {
 public:
  void Write(const grpc::ByteBuffer* message) override {
    EXPECT_FALSE(in_flight) << "two writes in flight";
    EXPECT_FALSE(finished.has_value()) << "write after finish";
    in_flight = true;
    written.push_back(Text(*message));
  }
  void Finish(const grpc::Status& status) override {
    EXPECT_FALSE(in_flight) << "finish during a write";
    EXPECT_FALSE(finished.has_value()) << "finished twice";
    finished = status.error_code();
  }

  std::vector<std::string> written;
  bool in_flight = false;
  std::optional<grpc::StatusCode> finished;
};

class OutboxTest : public ::testing::Test {
 protected:
  bool WriteDone(bool ok = true) {
    EXPECT_TRUE(stream_.in_flight);
    stream_.in_flight = false;
    return outbox_.WriteDone(ok);
  }

  FakeStream stream_;
  Outbox outbox_{4, 1000, &stream_};
};

TEST_F(OutboxTest, WritesInOrderOneAtATime) {
  outbox_.Open();
  for (const char* text : {"a", "b", "c"}) outbox_.Push(Bytes(text));
  EXPECT_THAT(stream_.written, ElementsAre("a"));
  WriteDone();
  WriteDone();
  WriteDone();
  EXPECT_THAT(stream_.written, ElementsAre("a", "b", "c"));
  EXPECT_FALSE(stream_.finished.has_value());
}

TEST_F(OutboxTest, WritesNothingBeforeOpen) {
  outbox_.Push(Bytes("header"));
  EXPECT_TRUE(stream_.written.empty());
  outbox_.Open();
  EXPECT_THAT(stream_.written, ElementsAre("header"));
}

TEST_F(OutboxTest, RefusedBeforeOpenSendsNoMessage) {
  outbox_.Push(Bytes("header"));
  outbox_.Close(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, ""));
  EXPECT_TRUE(stream_.written.empty());
  EXPECT_EQ(stream_.finished, grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// The engine may finish before the thread that submitted the request opens the outbox.
TEST_F(OutboxTest, FinishedBeforeOpenLosesNothing) {
  outbox_.Push(Bytes("header"));
  outbox_.Push(Bytes("text"));
  outbox_.Close(grpc::Status::OK);
  EXPECT_FALSE(stream_.finished.has_value());
  outbox_.Open();
  WriteDone();
  WriteDone();
  EXPECT_THAT(stream_.written, ElementsAre("header", "text"));
  EXPECT_EQ(stream_.finished, grpc::StatusCode::OK);
}

TEST_F(OutboxTest, FinishesAfterTheLastWrite) {
  outbox_.Open();
  outbox_.Push(Bytes("a"));
  outbox_.Push(Bytes("b"));
  outbox_.Close(grpc::Status::OK);
  outbox_.Close(grpc::Status(grpc::StatusCode::INTERNAL, ""));  // only the first counts
  EXPECT_FALSE(stream_.finished.has_value());
  WriteDone();
  EXPECT_FALSE(stream_.finished.has_value());
  WriteDone();
  EXPECT_EQ(stream_.finished, grpc::StatusCode::OK);
}

TEST_F(OutboxTest, IsBoundedAndWakesOnceWhenHalfEmpty) {
  outbox_.Open();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(outbox_.HasRoom());
    outbox_.Push(Bytes("x"));
  }
  EXPECT_FALSE(outbox_.HasRoom());
  EXPECT_FALSE(WriteDone());  // 3 left
  EXPECT_TRUE(WriteDone());   // 2 left: half
  EXPECT_FALSE(WriteDone());  // told already
  EXPECT_TRUE(outbox_.HasRoom());
}

TEST_F(OutboxTest, IsBoundedInBytes) {
  outbox_.Open();
  outbox_.Push(Bytes(std::string(600, 'a')));
  EXPECT_TRUE(outbox_.HasRoom());
  outbox_.Push(Bytes(std::string(400, 'b')));
  EXPECT_FALSE(outbox_.HasRoom());
  EXPECT_TRUE(WriteDone());  // 400 of 1000 are left
  EXPECT_TRUE(outbox_.HasRoom());
  outbox_.Push(Bytes(std::string(800, 'c')));
  EXPECT_FALSE(outbox_.HasRoom());
  EXPECT_FALSE(WriteDone());  // 800 are left, above the half
  EXPECT_TRUE(outbox_.HasRoom());
}

TEST_F(OutboxTest, WakesNobodyWhoWasNotRefused) {
  outbox_.Open();
  outbox_.Push(Bytes("x"));
  EXPECT_TRUE(outbox_.HasRoom());
  EXPECT_FALSE(WriteDone());
}

TEST_F(OutboxTest, TellsSinceWhenAWriteIsInFlight) {
  const auto later = [] { return std::chrono::steady_clock::now() + std::chrono::hours(1); };
  outbox_.Push(Bytes("x"));
  EXPECT_FALSE(outbox_.StalledSince(later())) << "nothing is written before Open";
  const auto before = std::chrono::steady_clock::now();
  outbox_.Open();
  EXPECT_TRUE(outbox_.StalledSince(later()));
  EXPECT_FALSE(outbox_.StalledSince(before - std::chrono::hours(1)));
  WriteDone();
  EXPECT_FALSE(outbox_.StalledSince(later())) << "an idle stream waits for the engine";
}

// The producer must go on to its end, or the call would never be over.
TEST_F(OutboxTest, BrokenStreamTakesEverythingAndWakesTheProducer) {
  outbox_.Open();
  for (int i = 0; i < 4; ++i) outbox_.Push(Bytes("x"));
  EXPECT_FALSE(outbox_.HasRoom());
  EXPECT_TRUE(WriteDone(false));
  EXPECT_TRUE(outbox_.HasRoom());
  outbox_.Push(Bytes("y"));
  EXPECT_EQ(stream_.written.size(), 1u);
  outbox_.Close(grpc::Status(grpc::StatusCode::CANCELLED, ""));
  EXPECT_EQ(stream_.finished, grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace monet::server
