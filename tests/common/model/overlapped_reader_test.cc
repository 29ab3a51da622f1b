// SPDX-License-Identifier: Apache-2.0
#include "common/model/internal/overlapped_reader.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "tests/common/model/model_fixture.h"

namespace sinklora::internal {
namespace {

using ::sinklora::testing::StatusIs;

// A backend's memory with bytes that differ from piece to piece.
struct Held {
  explicit Held(kernels::Backend* backend, int64_t size) {
    for (int64_t i = 0; i < size; ++i) {
      bytes += static_cast<char>(i * 2654435761u >> 11);
    }
    EXPECT_TRUE(backend->Allocate(size, &buffer).ok());
    EXPECT_TRUE(backend->CopyToDevice(bytes.data(), buffer.data(), size).ok());
  }
  std::string bytes;
  kernels::Buffer buffer;
};

TEST(OverlappedReaderTest, HandsOnAllBytesInOrder) {
  const auto backend = OpenTestBackend("cpu");
  const Held held(backend.get(), 100);
  for (const int64_t piece : {1, 7, 50, 99, 100, 101}) {
    OverlappedReader reader(backend.get(), piece);
    std::string got;
    const auto sink = [&](std::string_view bytes) {
      EXPECT_LE(static_cast<int64_t>(bytes.size()), piece);
      got += bytes;
      return absl::OkStatus();
    };
    EXPECT_OK(reader.Read(held.buffer.data(), 60, sink));
    EXPECT_OK(reader.Read(held.buffer.data(), 0, sink));
    EXPECT_OK(reader.Read(static_cast<const char*>(held.buffer.data()) + 60, 40,
                          sink));
    EXPECT_OK(reader.Finish());
    EXPECT_EQ(got, held.bytes);
  }
}

// The second piece is there before the sink lets go of the first.
TEST(OverlappedReaderTest, CopiesWhileTheSinkIsBusy) {
  const auto backend = OpenTestBackend("cpu");
  const Held held(backend.get(), 20);
  OverlappedReader reader(backend.get(), 10);
  std::mutex mutex;
  std::condition_variable changed;
  bool first_returned = false, first_was_waited_for = false;
  const auto sink = [&](std::string_view) {
    std::unique_lock<std::mutex> lock(mutex);
    first_was_waited_for = !changed.wait_for(lock, std::chrono::seconds(30),
                                             [&] { return first_returned; });
    return absl::OkStatus();
  };
  EXPECT_OK(reader.Read(held.buffer.data(), 10, sink));
  {
    const std::lock_guard<std::mutex> lock(mutex);
    first_returned = true;
  }
  changed.notify_all();
  EXPECT_OK(reader.Finish());
  EXPECT_FALSE(first_was_waited_for);
}

TEST(OverlappedReaderTest, ErrorsOfTheSinkAndTheDeviceAreReturned) {
  const auto backend = OpenTestBackend("cpu");
  const Held held(backend.get(), 30);
  int calls = 0;
  const auto full = [&](std::string_view) {
    ++calls;
    return absl::ResourceExhaustedError("the disk is full");
  };
  OverlappedReader reader(backend.get(), 10);
  EXPECT_THAT(reader.Read(held.buffer.data(), 30, full),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(calls, 1) << "nothing comes behind a piece that was lost";
  EXPECT_OK(reader.Read(held.buffer.data(), 10, full));
  EXPECT_THAT(reader.Finish(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(reader.Finish());
  EXPECT_THAT(reader.Read(nullptr, 10, full),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace sinklora::internal
