// Collectives of one, two and three ranks, a thread each: on emulated GPUs, or,
// with SINKLORA_TEST_BACKEND=cuda, on those of the machine.
//
// SPDX-License-Identifier: Apache-2.0
#include "kernels/collective/collective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "tests/testing/cuda_emulation/emulated_communicator.h"
#include "tests/testing/cuda_emulation/emulated_runtime.h"

namespace sinklora::kernels {
namespace {

using ::testing::HasSubstr;

bool OnDevice() { return std::getenv("SINKLORA_TEST_BACKEND") != nullptr; }

// The backends of a group, opened once: cuda:0, cuda:1, ...
class Ranks {
 public:
  static int Available() {
    int count = 3;
    if (OnDevice() && !CountCudaDevices(&count).ok()) count = 0;
    return count;
  }
  explicit Ranks(int size) {
    for (int rank = 0; rank < size; ++rank) {
      std::unique_ptr<Backend> backend;
      const Status status =
          OnDevice() ? OpenBackend("cuda:" + std::to_string(rank), {}, &backend)
                     : emulation::OpenEmulated(&backend, nullptr, rank);
      EXPECT_TRUE(status.ok()) << status.message();
      backends_.push_back(std::move(backend));
    }
  }
  int size() const { return static_cast<int>(backends_.size()); }
  Backend* operator[](int rank) { return backends_[rank].get(); }

  // One thread a rank; what each returned.
  std::vector<Status> Run(const std::function<Status(int rank)>& work) {
    std::vector<Status> out(backends_.size());
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size(); ++rank) {
      threads.emplace_back([&, rank] { out[rank] = work(rank); });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }

  JoinCollectiveParams Params(int rank) {
    return {.id = id_,
            .rank = rank,
            .size = size(),
            .chunk_elements = 1000,
            .abort = &abort_};
  }
  void MakeId() {
    const Status made = backends_[0]->MakeCollectiveId(&id_);
    EXPECT_TRUE(made.ok()) << made.message();
  }
  std::vector<std::unique_ptr<Collective>> Join() {
    if (size() > 1) MakeId();
    std::vector<std::unique_ptr<Collective>> out(backends_.size());
    for (const Status& status : Run([&](int rank) {
           return backends_[rank]->JoinCollective(Params(rank), &out[rank]);
         })) {
      EXPECT_TRUE(status.ok()) << status.message();
    }
    return out;
  }

  std::atomic<bool> abort_{false};

 private:
  CollectiveId id_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

// Tensors of one rank on its device.
class Tensors {
 public:
  Tensors(Backend* backend, const std::vector<std::vector<float>>& values)
      : backend_(backend) {
    for (const std::vector<float>& v : values) {
      Buffer& buffer = buffers_.emplace_back();
      const auto bytes = static_cast<int64_t>(v.size() * sizeof(float));
      EXPECT_TRUE(backend->Allocate(bytes, &buffer).ok());
      EXPECT_TRUE(backend->CopyToDevice(v.data(), buffer.data(), bytes).ok());
      views_.emplace_back(
          buffer.data(), DType::kF32,
          std::initializer_list<int64_t>{static_cast<int64_t>(v.size())});
    }
  }
  std::span<const TensorView> views() const { return views_; }
  std::vector<std::vector<float>> ToHost() const {
    std::vector<std::vector<float>> out;
    for (const TensorView& view : views_) {
      out.emplace_back(view.shape[0]);
      EXPECT_TRUE(
          backend_->CopyToHost(view.data, out.back().data(), 4 * view.shape[0])
              .ok());
    }
    return out;
  }

 private:
  Backend* const backend_;
  std::vector<Buffer> buffers_;
  std::vector<TensorView> views_;
};

// Sizes none, one, primes, and more than two chunks in all.
std::vector<std::vector<float>> RandomValues(int rank) {
  std::mt19937 bits(rank + 17);
  std::normal_distribution<float> normal(0.0f, 1000.0f);
  std::vector<std::vector<float>> out;
  for (const size_t size : {0, 1, 7, 997, 1, 1511, 0, 2}) {
    out.emplace_back(size);
    for (float& x : out.back()) x = normal(bits);
  }
  return out;
}

std::vector<std::vector<float>> SumInOrder(int size) {
  std::vector<std::vector<float>> out = RandomValues(0);
  for (int rank = 1; rank < size; ++rank) {
    const auto more = RandomValues(rank);
    for (size_t i = 0; i < out.size(); ++i) {
      for (size_t j = 0; j < out[i].size(); ++j) out[i][j] += more[i][j];
    }
  }
  return out;
}

void ExpectAllOk(const std::vector<Status>& all) {
  for (const Status& status : all) EXPECT_TRUE(status.ok()) << status.message();
}

class CollectiveTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (Ranks::Available() < GetParam()) {
      GTEST_SKIP() << "needs " << GetParam() << " GPUs, there are "
                   << Ranks::Available();
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, CollectiveTest, ::testing::Values(1, 2, 3),
                         [](const auto& info) {
                           return std::to_string(info.param) + "_ranks";
                         });

// In the order of the ranks, to the bit, on all of them, each time.
TEST_P(CollectiveTest, SumsInTheOrderOfTheRanks) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  const auto want = SumInOrder(ranks.size());
  for (int run = 0; run < 2; ++run) {
    std::vector<std::vector<std::vector<float>>> got(ranks.size());
    ExpectAllOk(ranks.Run([&](int rank) {
      EXPECT_EQ(group[rank]->rank(), rank);
      EXPECT_EQ(group[rank]->size(), ranks.size());
      const Tensors tensors(ranks[rank], RandomValues(rank));
      Status status = group[rank]->AllReduceSum(tensors.views());
      if (status.ok()) status = group[rank]->Wait();
      if (status.ok()) got[rank] = tensors.ToHost();
      return status;
    }));
    for (const auto& of_rank : got) EXPECT_EQ(of_rank, want);
  }
}

TEST_P(CollectiveTest, BroadcastsFromAnyRoot) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  for (int root = 0; root < ranks.size(); ++root) {
    ExpectAllOk(ranks.Run([&](int rank) {
      const Tensors tensors(ranks[rank], RandomValues(rank));
      Status status = group[rank]->Broadcast(tensors.views(), root);
      if (status.ok()) status = group[rank]->Wait();
      EXPECT_EQ(tensors.ToHost(), RandomValues(root));
      return status;
    }));
  }
}

// What rank `from` sends to rank `to`: of many chunks, of one, of nothing.
std::vector<std::vector<float>> MailOf(int from, int to) {
  std::mt19937 bits(100 * from + to);
  std::normal_distribution<float> normal(0.0f, 1000.0f);
  std::vector<std::vector<float>> out;
  for (const int size : {from == 1 ? 2503 : 3, 0, 7 * from + to}) {
    out.emplace_back(size);
    for (float& x : out.back()) x = normal(bits);
  }
  return out;
}

std::vector<CollectiveMessage> MessagesWith(int peer, const Tensors& tensors) {
  std::vector<CollectiveMessage> out;
  for (const TensorView& view : tensors.views()) out.push_back({peer, view});
  return out;
}

// Zeros in the same sizes.
std::vector<std::vector<float>> NothingLike(
    std::vector<std::vector<float>> values) {
  for (std::vector<float>& v : values) v.assign(v.size(), 0.0f);
  return values;
}

// Everyone with everyone at once, in sizes of their own.
TEST_P(CollectiveTest, ExchangesBetweenAllPairs) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  ExpectAllOk(ranks.Run([&](int rank) {
    std::vector<std::unique_ptr<Tensors>> mail, room;
    std::vector<CollectiveMessage> sends, receives;
    // Which peer comes first in the lists does not matter.
    for (int i = 1; i < ranks.size(); ++i) {
      const int peer =
          (rank + (rank == 1 ? -i + ranks.size() : i)) % ranks.size();
      mail.push_back(
          std::make_unique<Tensors>(ranks[rank], MailOf(rank, peer)));
      room.push_back(std::make_unique<Tensors>(
          ranks[rank], NothingLike(MailOf(peer, rank))));
      for (const auto& m : MessagesWith(peer, *mail.back())) {
        sends.push_back(m);
      }
      for (const auto& m : MessagesWith(peer, *room.back())) {
        receives.push_back(m);
      }
    }
    Status status = group[rank]->Exchange(sends, receives);
    if (status.ok()) status = group[rank]->Wait();
    for (size_t i = 0; i < room.size(); ++i) {
      EXPECT_EQ(room[i]->ToHost(), MailOf(receives[3 * i].peer, rank));
      EXPECT_EQ(mail[i]->ToHost(), MailOf(rank, sends[3 * i].peer));
    }
    return status;
  }));
}

// From the first rank to the last alone; who has no messages does not call.
TEST_P(CollectiveTest, ExchangesWithoutTheOthers) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  const int last = ranks.size() - 1;
  if (last == 0) return;
  ExpectAllOk(ranks.Run([&](int rank) {
    if (rank != 0 && rank != last) return OkStatus();
    const Tensors tensors(ranks[rank],
                          rank == 0 ? MailOf(1, 0) : NothingLike(MailOf(1, 0)));
    const std::vector<CollectiveMessage> messages =
        MessagesWith(rank == 0 ? last : 0, tensors);
    const std::span<const CollectiveMessage> none;
    Status status = rank == 0 ? group[rank]->Exchange(messages, none)
                              : group[rank]->Exchange(none, messages);
    if (status.ok()) status = group[rank]->Wait();
    EXPECT_EQ(tensors.ToHost(), MailOf(1, 0));
    return status;
  }));
}

// What is queued before and behind runs in order, without a wait between.
TEST_P(CollectiveTest, RunsInTheOrderOfTheStream) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  ExpectAllOk(ranks.Run([&](int rank) {
    const std::vector<float> ones(1301, 1.0f);
    const Tensors tensors(ranks[rank], {ones});
    const TensorView x = tensors.views()[0];
    Status status = ranks[rank]->Scale({.x = x, .factor = 3.0f});
    if (status.ok()) status = group[rank]->AllReduceSum(tensors.views());
    if (status.ok()) status = ranks[rank]->Scale({.x = x, .factor = 2.0f});
    if (status.ok()) status = group[rank]->AllReduceSum(tensors.views());
    if (status.ok()) status = group[rank]->Wait();
    const auto n = static_cast<float>(ranks.size());
    EXPECT_EQ(tensors.ToHost()[0],
              std::vector<float>(1301, 3.0f * n * 2.0f * n));
    return status;
  }));
}

TEST_P(CollectiveTest, RefusesByName) {
  Ranks ranks(GetParam());
  const auto group = ranks.Join();
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Tensors tensors(ranks[rank], {{1.0f, 2.0f}});
    TensorView bad = tensors.views()[0];
    bad.dtype = DType::kBF16;
    const Status dtype = group[rank]->AllReduceSum({&bad, 1});
    EXPECT_EQ(dtype.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(dtype.message(), HasSubstr("all_reduce_sum: tensors[0]"));
    for (const int peer : {rank, -1, ranks.size()}) {
      const CollectiveMessage message{peer, tensors.views()[0]};
      const Status sent = group[rank]->Exchange({&message, 1}, {});
      EXPECT_EQ(sent.code(), StatusCode::kInvalidArgument);
      EXPECT_THAT(sent.message(), HasSubstr("exchange: sends[0].peer is " +
                                            std::to_string(peer)));
      const Status received = group[rank]->Exchange({}, {&message, 1});
      EXPECT_THAT(received.message(), HasSubstr("receives[0].peer"));
    }
    const Status root = group[rank]->Broadcast(tensors.views(), ranks.size());
    EXPECT_EQ(root.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(root.message(), HasSubstr("root is"));
  }
  // A refused call has no part in the group's.
  ExpectAllOk(ranks.Run([&](int rank) {
    const Tensors tensors(ranks[rank], {{1.0f}});
    Status status = group[rank]->AllReduceSum(tensors.views());
    return status.ok() ? group[rank]->Wait() : status;
  }));
}

TEST(CollectiveJoinTest, RefusesParams) {
  if (Ranks::Available() < 1) GTEST_SKIP() << "no GPU";
  Ranks ranks(1);
  std::unique_ptr<Collective> out;
  const auto refused = [&](const JoinCollectiveParams& p, const char* part) {
    const Status status = ranks[0]->JoinCollective(p, &out);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(part));
  };
  JoinCollectiveParams p = ranks.Params(0);
  p.rank = 1;
  refused(p, "join_collective: rank is 1, must be in [0, 1)");
  p.size = 2;
  refused(p, "id is empty");
  p.size = 0;
  refused(p, "size is 0");
  p = ranks.Params(0);
  p.chunk_elements = 0;
  refused(p, "chunk_elements is 0");
  p = ranks.Params(0);
  p.abort = nullptr;
  refused(p, "abort");
}

TEST(CollectiveJoinTest, HostBackendsRefuse) {
  for (const char* name : {"cpu", "reference"}) {
    std::unique_ptr<Backend> backend;
    ASSERT_TRUE(OpenBackend(name, {}, &backend).ok());
    CollectiveId id;
    EXPECT_EQ(backend->MakeCollectiveId(&id).code(),
              StatusCode::kUnimplemented);
    std::unique_ptr<Collective> out;
    const Status status = backend->JoinCollective({}, &out);
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(status.message(), HasSubstr(std::string("backend is ") + name));
  }
}

class CollectiveAbortTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Ranks::Available() < 2) {
      GTEST_SKIP() << "needs 2 GPUs, there are " << Ranks::Available();
    }
  }
};

// One rank never comes; the flag frees the other.
TEST_F(CollectiveAbortTest, EndsAJoin) {
  Ranks ranks(2);
  ranks.MakeId();
  const auto all = ranks.Run([&](int rank) {
    if (rank == 1) {
      ranks.abort_ = true;
      return OkStatus();
    }
    std::unique_ptr<Collective> out;
    return ranks[rank]->JoinCollective(ranks.Params(rank), &out);
  });
  EXPECT_EQ(all[0].code(), StatusCode::kUnavailable) << all[0].message();
  EXPECT_THAT(all[0].message(), HasSubstr("abort"));
}

// One rank fails instead of taking part; the other waits for it.
TEST_F(CollectiveAbortTest, EndsASumAndTheGroup) {
  Ranks ranks(2);
  auto group = ranks.Join();
  const auto all = ranks.Run([&](int rank) {
    if (rank == 1) {
      ranks.abort_ = true;
      return OkStatus();
    }
    const Tensors tensors(ranks[rank], RandomValues(rank));
    Status status = group[rank]->AllReduceSum(tensors.views());
    return status.ok() ? group[rank]->Wait() : status;
  });
  EXPECT_EQ(all[0].code(), StatusCode::kUnavailable) << all[0].message();
  EXPECT_THAT(all[0].message(), HasSubstr("abort"));
  // For good, and the devices go on without it.
  ranks.abort_ = false;
  const Status again = group[0]->Wait();
  EXPECT_EQ(again.message(), all[0].message());
  group.clear();
  const auto next = ranks.Join();
  ExpectAllOk(ranks.Run([&](int rank) {
    const Tensors tensors(ranks[rank], {{1.0f}});
    Status status = next[rank]->AllReduceSum(tensors.views());
    return status.ok() ? next[rank]->Wait() : status;
  }));
}

// Ranks that were given ids of different groups wait for others.
TEST_F(CollectiveAbortTest, EndsTheWaitOfAWrongId) {
  Ranks ranks(2);
  std::vector<CollectiveId> ids(2);
  for (CollectiveId& id : ids) {
    ASSERT_TRUE(ranks[0]->MakeCollectiveId(&id).ok());
  }
  EXPECT_FALSE(ids[0] == ids[1]);
  std::atomic<int> waiting{0};
  std::thread aborter([&] {
    while (waiting < 2) std::this_thread::yield();
    ranks.abort_ = true;
  });
  const auto all = ranks.Run([&](int rank) {
    JoinCollectiveParams p = ranks.Params(rank);
    p.id = ids[rank];
    std::unique_ptr<Collective> out;
    ++waiting;
    return ranks[rank]->JoinCollective(p, &out);
  });
  aborter.join();
  for (const Status& status : all) {
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status.message();
  }
}

class EmulatedLinksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (OnDevice()) GTEST_SKIP() << "of the emulator alone";
  }
};

TEST_F(EmulatedLinksTest, TheErrorOfALinkIsNamedAndStays) {
  Ranks ranks(2);
  auto group = ranks.Join();
  emulation::FailExchange(1, 2);
  const auto all = ranks.Run([&](int rank) {
    const Tensors tensors(ranks[rank], {{1.0f, 2.0f}});
    Status status = group[rank]->AllReduceSum(tensors.views());
    if (status.ok()) status = group[rank]->Wait();
    if (!status.ok()) ranks.abort_ = true;
    return status;
  });
  EXPECT_THAT(all[1].message(), HasSubstr("broken"));
  EXPECT_EQ(group[1]->Wait().message(), all[1].message());
  // The other rank may have had all it needed; it learns by the flag.
  EXPECT_FALSE(group[0]->Wait().ok());
}

TEST_F(EmulatedLinksTest, RefuseRanksAndDevicesThatAreTaken) {
  Ranks ranks(2);
  auto group = ranks.Join();
  std::unique_ptr<Collective> out;
  const Status rank = ranks[1]->JoinCollective(ranks.Params(1), &out);
  EXPECT_THAT(rank.message(), HasSubstr("joined already"));
  JoinCollectiveParams p = ranks.Params(1);
  p.size = 3;
  EXPECT_THAT(ranks[1]->JoinCollective(p, &out).message(),
              HasSubstr("the group has 2 ranks, not 3"));
  p.id.bytes[0] = '?';
  EXPECT_THAT(ranks[1]->JoinCollective(p, &out).message(),
              HasSubstr("nobody made this id"));
}

}  // namespace
}  // namespace sinklora::kernels
