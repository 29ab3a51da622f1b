// A disk that fills up while a job runs: the job fails and says why, what was
// committed before stays, the processes live on.
//
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cstring>

#include "tests/e2e/fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSteps = 400;
constexpr int64_t kCheckpointEvery = 20;

class DiskFullTest : public ClusterTest {
 protected:
  void TearDown() override {
    if (!mounted_.empty()) umount2(mounted_.c_str(), MNT_DETACH);
  }

  // A file system of `size` for `directory`, visible to this process and its
  // children only. False where that is not allowed.
  bool Mount(const std::string& directory, const std::string& size) {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.c_str(), "tmpfs", 0,
              ("size=" + size).c_str()) != 0) {
      return false;
    }
    mounted_ = directory;
    return true;
  }

  absl::StatusOr<nlohmann::json> WaitForFailure(const std::string& name) {
    return WaitForJob(name, [](const nlohmann::json& job) {
      return job["state"] == "JOB_STATE_FAILED";
    });
  }

  // The failed job has the checkpoint it had, and one that goes on from it
  // ends with the very bytes of a job that nothing disturbed.
  void ExpectResumable(const nlohmann::json& failed) {
    EXPECT_THAT(FilesOf(Part::kTrainer, "staging"), IsEmpty());
    const std::string left = failed["checkpoint_step"];
    const int64_t done = std::stoll(left);
    EXPECT_GE(done, kCheckpointEvery);
    EXPECT_LT(done, kSteps);
    const int64_t steps = done + 5;
    ASSERT_OK_AND_ASSIGN(
        const std::string resumed,
        Submit("resumed", steps, 0, {"--resume-job", failed["name"]}));
    ASSERT_OK_AND_ASSIGN(const std::string whole, Submit("whole", steps, 0));
    ASSERT_THAT(WaitForSuccess(resumed), IsOk());
    ASSERT_THAT(WaitForSuccess(whole), IsOk());
    ASSERT_OK_AND_ASSIGN(const auto resumed_files, Export("resumed"));
    ASSERT_OK_AND_ASSIGN(const auto whole_files, Export("whole"));
    EXPECT_TRUE(resumed_files == whole_files);
    ASSERT_OK_AND_ASSIGN(const auto models,
                         cluster_->CliJson({"model", "list"}));
    EXPECT_EQ(models["adapters"].size(), 2u);
  }

 private:
  std::string mounted_;
};

TEST_F(DiskFullTest, TrainerHasOnlyItsReserve) {
  const std::string reserve = std::to_string(int64_t{1} << 62);
  ASSERT_NO_FATAL_FAILURE(
      StartWithData({.parts = {Part::kTrainer, Part::kCurator}}));
  ASSERT_OK_AND_ASSIGN(const std::string name,
                       Submit("full", kSteps, kCheckpointEvery));
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  // A reserve that no disk has is a disk that is full from now on.
  cluster_->KillPart(Part::kTrainer);
  ASSERT_THAT(
      cluster_->StartPart(Part::kTrainer, {"--disk-reserve-bytes=" + reserve}),
      IsOk());
  ASSERT_OK_AND_ASSIGN(const auto failed, WaitForFailure(name));
  EXPECT_EQ(failed["error_reason"], "STORAGE_LOW");
  EXPECT_THAT(failed["state_reason"].get<std::string>(),
              AllOf(HasSubstr(cluster_->data_dir(Part::kTrainer)),
                    HasSubstr(" bytes free"),
                    HasSubstr(reserve + " are kept in reserve")));
  // Imports are refused with the same words, and leave nothing.
  ASSERT_OK_AND_ASSIGN(
      const auto refused,
      cluster_->Cli({"model", "import", "again", Scratch("model")}));
  EXPECT_EQ(refused.exit_code, 4) << refused.err;
  EXPECT_THAT(refused.err, AllOf(HasSubstr("STORAGE_LOW"), HasSubstr(reserve)));
  cluster_->KillPart(Part::kTrainer);
  ASSERT_THAT(cluster_->StartPart(Part::kTrainer), IsOk());
  ExpectResumable(failed);
}

// The same with a file system of its own that something else fills.
TEST_F(DiskFullTest, TrainersDiskFills) {
  // Below 32 MiB the trainer's store takes nothing at all, not even that a job
  // failed.
  constexpr int64_t kReserveBytes = int64_t{96} << 20;
  constexpr int64_t kLeftBytes = int64_t{64} << 20;
  ASSERT_OK_AND_ASSIGN(cluster_, Cluster::Start({.parts = {}}));
  const std::string data = cluster_->data_dir(Part::kTrainer);
  ASSERT_THAT(MakeDirs(data), IsOk());
  if (!Mount(data, "192m")) {
    GTEST_SKIP() << "cannot mount a file system, which takes root: "
                 << std::strerror(errno);
  }
  const std::string flag =
      "--disk-reserve-bytes=" + std::to_string(kReserveBytes);
  ASSERT_THAT(cluster_->StartPart(Part::kTrainer, {flag}), IsOk());
  ASSERT_THAT(cluster_->StartPart(Part::kCurator), IsOk());
  ASSERT_NO_FATAL_FAILURE(AddData());
  ASSERT_OK_AND_ASSIGN(const std::string name,
                       Submit("full", kSteps, kCheckpointEvery));
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  ASSERT_OK_AND_ASSIGN(const int64_t free_bytes, FreeDiskBytes(data));
  const std::string filler = JoinPath(data, "filler");
  const int fd = open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(posix_fallocate(fd, 0, free_bytes - kLeftBytes), 0);
  close(fd);
  ASSERT_OK_AND_ASSIGN(const auto failed, WaitForFailure(name));
  EXPECT_EQ(failed["error_reason"], "STORAGE_LOW");
  EXPECT_THAT(failed["state_reason"].get<std::string>(),
              AllOf(HasSubstr(data), HasSubstr(" bytes free"),
                    HasSubstr(std::to_string(kReserveBytes))));
  EXPECT_TRUE(cluster_->process(Part::kTrainer)->running());
  ASSERT_THAT(RemoveAll(filler), IsOk());
  ExpectResumable(failed);
}

TEST_F(DiskFullTest, WorkersCacheFills) {
  ASSERT_NO_FATAL_FAILURE(
      StartWithData({.parts = {Part::kTrainer, Part::kCurator}}));
  ASSERT_OK_AND_ASSIGN(const std::string name,
                       Submit("full", kSteps, kCheckpointEvery));
  ASSERT_THAT(cluster_->StartPart(Part::kWorker), IsOk());
  ASSERT_THAT(WaitForFirstCheckpoint(), IsOk());
  // Files may not grow beyond 64 KiB: what a write meets on a full disk, for
  // this process alone. A checkpoint is larger.
  Process* worker = cluster_->process(Part::kWorker);
  rlimit limit = {};
  ASSERT_EQ(prlimit(worker->pid(), RLIMIT_FSIZE, nullptr, &limit), 0);
  const rlimit tight = {.rlim_cur = 65536, .rlim_max = limit.rlim_max};
  ASSERT_EQ(prlimit(worker->pid(), RLIMIT_FSIZE, &tight, nullptr), 0);
  ASSERT_OK_AND_ASSIGN(const auto failed, WaitForFailure(name));
  EXPECT_EQ(failed["error_reason"], "DISK_FULL");
  EXPECT_THAT(failed["state_reason"].get<std::string>(),
              AllOf(HasSubstr("cannot write"),
                    HasSubstr(cluster_->data_dir(Part::kWorker))));
  EXPECT_THAT(FilesOf(Part::kWorker, "work"), IsEmpty());
  // The same process goes on working once there is room.
  ASSERT_EQ(prlimit(worker->pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  ExpectResumable(failed);
  EXPECT_TRUE(worker->running());
}

}  // namespace
}  // namespace sinklora::testing
