// NCCL as this machine has it: every function that the plugin uses is there,
// and ids can be made without a GPU. And how a communicator waits, on functions
// of NCCL and CUDA that this test answers for: no GPU is needed to see that it
// comes back.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/nccl_communicator.h"
#include "kernels/cuda/nccl_library.h"

namespace {

// What NCCL and the device say, and what was asked of them.
struct World {
  ncclResult_t init = ncclInProgress;
  ncclResult_t send = ncclSuccess;
  ncclResult_t group_end = ncclInProgress;
  int polls_in_progress = 2;  // then `settled`; -1: for ever
  ncclResult_t settled = ncclSuccess;
  int queries_not_ready = 2;  // then `passed`; -1: for ever
  cudaError_t passed = cudaSuccess;
  int aborts = 0, synchronizes = 0;
  size_t sent_bytes = 0, received_bytes = 0;
  std::atomic<int> polls{0};
};
World* world = nullptr;

// Counts down to 0; never from below it.
bool CountDown(int* left) {
  if (*left > 0) --*left;
  return *left != 0;
}

}  // namespace

cudaError_t cudaMalloc(void** out, size_t bytes) {
  *out = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) {
  return CountDown(&world->queries_not_ready) ? cudaErrorNotReady
                                              : world->passed;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorX"; }
const char* cudaGetErrorString(cudaError_t) { return "what X is"; }

namespace sinklora::kernels::cuda {
namespace {

using ::testing::HasSubstr;

TEST(NcclTest, HasWhatIsUsed) {
  NcclFunctions nccl;
  const Status loaded = nccl.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.message();
  EXPECT_EQ(nccl.name.rfind("NCCL 2.", 0), 0u) << nccl.name;
  const Status failed =
      nccl.Failed("cuda:1", "ncclSend", ncclInvalidArgument, nullptr);
  EXPECT_EQ(failed.code(), StatusCode::kUnavailable);
  EXPECT_THAT(failed.message(), HasSubstr("cuda:1: " + nccl.name +
                                          ": ncclSend: invalid argument"));
}

TEST(NcclTest, MakesIds) {
  const auto library = OpenNccl();
  CollectiveId a, b;
  const Status made = library->MakeId(&a);
  ASSERT_TRUE(made.ok()) << made.message();
  ASSERT_TRUE(library->MakeId(&b).ok());
  EXPECT_FALSE(a == CollectiveId());
  EXPECT_FALSE(a == b);
}

// The runtime's part: nothing but counting.
class CountingRuntime final : public Runtime {
 public:
  CountingRuntime() { properties_.index = 1; }
  const DeviceProperties& properties() const override { return properties_; }
  Stream stream() const override { return nullptr; }
  Status Enter() override { return OkStatus(); }
  Status Allocate(int64_t, void**) override { return OkStatus(); }
  void Free(void*) override {}
  Status AllocatePinned(int64_t, void**) override { return OkStatus(); }
  void FreePinned(void*) override {}
  Status CopyToDevice(const void*, void*, int64_t) override {
    return OkStatus();
  }
  Status CopyToHost(const void*, void*, int64_t) override { return OkStatus(); }
  Status CopyOnDevice(const void*, void*, int64_t) override {
    return OkStatus();
  }
  Status Zero(void*, int64_t) override { return OkStatus(); }
  Status Record(int) override { return OkStatus(); }
  Status Wait(int) override { return OkStatus(); }
  Status Synchronize() override {
    ++world->synchronizes;
    return OkStatus();
  }
  Status BeginRecording() override { return OkStatus(); }
  Status EndRecording(Graph*) override { return OkStatus(); }
  Status Replay(Graph) override { return OkStatus(); }
  Status Recover() override { return OkStatus(); }
  void Drop(Graph) override {}

 private:
  DeviceProperties properties_;
};

NcclFunctions AnsweredFunctions() {
  NcclFunctions nccl;
  nccl.name = "NCCL of the test";
  nccl.comm_init = [](ncclComm_t* comm, int, ncclUniqueId, int,
                      ncclConfig_t* config) {
    EXPECT_EQ(config->blocking, 0);
    *comm = reinterpret_cast<ncclComm_t>(world);
    return world->init;
  };
  nccl.comm_abort = [](ncclComm_t) {
    ++world->aborts;
    return ncclSuccess;
  };
  nccl.get_async_error = [](ncclComm_t, ncclResult_t* result) {
    ++world->polls;
    *result =
        CountDown(&world->polls_in_progress) ? ncclInProgress : world->settled;
    return ncclSuccess;
  };
  nccl.get_error_string = [](ncclResult_t result) {
    return result == ncclRemoteError ? "remote error" : "other error";
  };
  nccl.get_last_error = [](ncclComm_t) { return "the cable"; };
  nccl.group_start = [] { return ncclSuccess; };
  nccl.group_end = [] { return world->group_end; };
  nccl.send = [](const void*, size_t bytes, ncclDataType_t, int, ncclComm_t,
                 cudaStream_t) {
    world->sent_bytes += bytes;
    return world->send;
  };
  nccl.receive = [](void*, size_t bytes, ncclDataType_t, int, ncclComm_t,
                    cudaStream_t) {
    world->received_bytes += bytes;
    return ncclSuccess;
  };
  return nccl;
}

class NcclWaitTest : public ::testing::Test {
 protected:
  NcclWaitTest() { world = &world_; }

  Status Join() {
    return NcclCommunicator::Join(&nccl_,
                                  {.rank = 0, .size = 2, .abort = &abort_},
                                  1024, &runtime_, &communicator_);
  }
  Status Exchange() {
    const Transfer one{
        .peer = 1, .data = communicator_->memory(), .size_bytes = 24};
    return communicator_->Exchange({&one, 1}, {&one, 1});
  }
  // Sets the abort flag once the call has been seen to wait.
  std::thread Aborter() {
    return std::thread([this] {
      while (world_.polls < 3) std::this_thread::yield();
      abort_ = true;
    });
  }

  World world_;
  const NcclFunctions nccl_ = AnsweredFunctions();
  CountingRuntime runtime_;
  std::atomic<bool> abort_{false};
  std::unique_ptr<Communicator> communicator_;
};

void ExpectUnavailable(const Status& status, const char* part) {
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr(part));
}

TEST_F(NcclWaitTest, PollsEveryCallToItsEnd) {
  ASSERT_TRUE(Join().ok());
  EXPECT_EQ(world_.polls, 2);
  world_.polls_in_progress = 3;
  ASSERT_TRUE(Exchange().ok());
  EXPECT_EQ(world_.polls, 5);
  EXPECT_EQ(world_.sent_bytes, 24u);
  EXPECT_EQ(world_.received_bytes, 24u);
  ASSERT_TRUE(communicator_->Wait().ok());
  EXPECT_EQ(world_.queries_not_ready, 0);
  EXPECT_EQ(world_.aborts, 0);
  communicator_.reset();
  EXPECT_EQ(world_.aborts, 1);  // gives it back
}

TEST_F(NcclWaitTest, AnAbortEndsAJoin) {
  world_.polls_in_progress = -1;
  std::thread aborter = Aborter();
  ExpectUnavailable(Join(), "cuda:1: the group was aborted");
  aborter.join();
  EXPECT_EQ(world_.aborts, 1);
}

TEST_F(NcclWaitTest, AnAbortEndsAnExchange) {
  ASSERT_TRUE(Join().ok());
  world_.polls = 0;
  world_.polls_in_progress = -1;
  std::thread aborter = Aborter();
  ExpectUnavailable(Exchange(), "the group was aborted");
  aborter.join();
  EXPECT_EQ(world_.aborts, 1);
  // What ran on the device has ended, and the communicator is never used again.
  EXPECT_EQ(world_.synchronizes, 1);
  ExpectUnavailable(Exchange(), "the group is closed");
  ExpectUnavailable(communicator_->Wait(), "the group is closed");
  communicator_.reset();
  EXPECT_EQ(world_.aborts, 1);
}

TEST_F(NcclWaitTest, AnAbortEndsAWait) {
  ASSERT_TRUE(Join().ok());
  world_.polls = 0;
  world_.queries_not_ready = -1;
  std::thread aborter = Aborter();
  ExpectUnavailable(communicator_->Wait(), "the group was aborted");
  aborter.join();
  EXPECT_EQ(world_.aborts, 1);
}

TEST_F(NcclWaitTest, ErrorsAreNamed) {
  world_.settled = ncclRemoteError;
  ExpectUnavailable(Join(),
                    "cuda:1: NCCL of the test: ncclCommInitRankConfig: remote "
                    "error: the cable");
  EXPECT_EQ(world_.aborts, 1);
  world_.settled = ncclSuccess;
  ASSERT_TRUE(Join().ok());
  world_.send = ncclInvalidArgument;
  ExpectUnavailable(Exchange(), "ncclSend: other error");
  EXPECT_EQ(world_.aborts, 2);
}

// An error that NCCL finds while the device still waits for the other rank.
TEST_F(NcclWaitTest, AnErrorBehindTheBackEndsAWait) {
  ASSERT_TRUE(Join().ok());
  world_.queries_not_ready = -1;
  world_.settled = ncclRemoteError;
  ExpectUnavailable(communicator_->Wait(), "remote error: the cable");
  EXPECT_EQ(world_.aborts, 1);
}

TEST_F(NcclWaitTest, AnErrorOfTheDeviceIsOne) {
  ASSERT_TRUE(Join().ok());
  world_.passed = cudaErrorIllegalAddress;
  const Status status = communicator_->Wait();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_THAT(status.message(), HasSubstr("cuda:1: wait for the collective"));
}

}  // namespace
}  // namespace sinklora::kernels::cuda
