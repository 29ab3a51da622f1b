// The trainer's services over a real channel.
//
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/upload_receiver.h"
#include "common/weights/checkpoint_manifest.h"
#include "tests/services/trainer/cluster.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;

class TrainerRpcTest : public ClusterTest {
 protected:
  int CountEntries(const std::string& kind) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(
             JoinPath(dir_->path(), "trainer/" + kind))) {
      count += entry.exists() ? 1 : 0;
    }
    return count;
  }

  // One upload of the given messages.
  absl::Status Upload(
      const std::vector<registry::v1::ImportModelRequest>& messages) {
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    registry::v1::ImportModelResponse response;
    const auto writer = registry_->ImportModel(context.get(), &response);
    for (const auto& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return FromGrpc(writer->Finish());
  }

  // Announces one file of `total_bytes`.
  static registry::v1::ImportModelRequest Header(int64_t total_bytes = 2,
                                                 int64_t file_count = 1) {
    registry::v1::ImportModelRequest request;
    request.mutable_header()->set_name("tiny");
    request.mutable_header()->set_request_id("r");
    auto* const size = request.mutable_header()->mutable_size();
    size->set_file_count(file_count);
    size->set_total_bytes(total_bytes);
    return request;
  }

  static registry::v1::ImportModelRequest Chunk(const std::string& path,
                                                const std::string& data,
                                                const std::string& sha256) {
    registry::v1::ImportModelRequest request;
    request.mutable_chunk()->set_path(path);
    request.mutable_chunk()->set_data(data);
    request.mutable_chunk()->set_last(!sha256.empty());
    request.mutable_chunk()->set_sha256(sha256);
    return request;
  }
};

TEST_F(TrainerRpcTest, DownloadsWhatWasUploaded) {
  AddInputs();
  const std::string source = JoinPath(dir_->path(), "base-model");
  ASSERT_OK_AND_ASSIGN(const auto target, TempDir::Create());
  FileReceiver receiver(target->path(), INT64_MAX);
  const auto context = MakeContext(kTransferTimeoutSeconds);
  registry::v1::DownloadModelRequest request;
  request.set_name("base");
  const auto reader = registry_->DownloadModel(context.get(), request);
  registry::v1::DownloadModelResponse response;
  while (reader->Read(&response)) ASSERT_OK(receiver.Accept(response.chunk()));
  ASSERT_OK(FromGrpc(reader->Finish()));
  ASSERT_OK(receiver.Finish());
  ASSERT_OK_AND_ASSIGN(const auto paths, ListFilesRecursive(source));
  ASSERT_OK_AND_ASSIGN(const auto received, ListFilesRecursive(target->path()));
  EXPECT_EQ(paths, received);
  for (const std::string& path : paths) {
    ASSERT_OK_AND_ASSIGN(const auto sent, ReadFile(JoinPath(source, path)));
    ASSERT_OK_AND_ASSIGN(const auto got,
                         ReadFile(JoinPath(target->path(), path)));
    EXPECT_EQ(sent, got) << path;
  }
}

TEST_F(TrainerRpcTest, DownloadOfUnknownNamesFails) {
  AddInputs();
  registry::v1::DownloadModelRequest request;
  request.set_name("nothing");
  for (int i = 0; i < 2; ++i) {
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    const auto reader = registry_->DownloadModel(context.get(), request);
    registry::v1::DownloadModelResponse response;
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_THAT(FromGrpc(reader->Finish()), StatusIs(StatusCode::kNotFound));
    request.set_name("base");
    request.add_paths("../../state/CURRENT");
  }
}

TEST_F(TrainerRpcTest, BadUploadsLeaveNothing) {
  const std::string config = "{}";
  EXPECT_THAT(Upload({}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(Upload({Chunk("a", "b", "")}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("header")));
  EXPECT_THAT(Upload({Header(), Header()}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Upload({Header(), Chunk("config.json", config, std::string(64, '0'))}),
      StatusIs(StatusCode::kDataLoss, HasSubstr("config.json")));
  EXPECT_THAT(Upload({Header(), Chunk("config.json", config, "")}),
              StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(Upload({Header(), Chunk("../evil", config, Sha256Hex(config))}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Upload({Header(), Chunk("config.json", config, Sha256Hex(config))}),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("config.json")));
  EXPECT_THAT(Upload({Header(2, 0)}),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("0 files")));
  EXPECT_THAT(Upload({Header(-1)}), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Upload({Header(INT64_MAX)}),
      StatusIs(StatusCode::kResourceExhausted, HasSubstr("kept in reserve")));
  EXPECT_THAT(
      Upload({Header(1), Chunk("config.json", config, Sha256Hex(config))}),
      StatusIs(StatusCode::kResourceExhausted, HasSubstr("config.json")));
  EXPECT_EQ(CountEntries("models"), 0);
  EXPECT_EQ(CountEntries("staging"), 0);
}

// The client dies, or its stream ends, right after a whole file.
TEST_F(TrainerRpcTest, AModelCutBetweenTwoFilesIsNotRegistered) {
  const std::string dir = JoinPath(dir_->path(), "whole");
  ASSERT_OK(WriteTinyModel(dir, {}));
  ASSERT_OK_AND_ASSIGN(const auto paths, ListFilesRecursive(dir));
  ASSERT_OK_AND_ASSIGN(const auto size, MeasureFiles(dir, paths));
  // Without its last file this is still a model, but not the one announced.
  std::vector<registry::v1::ImportModelRequest> messages = {
      Header(size.total_bytes() + 5, size.file_count() + 1)};
  ASSERT_OK(SendFiles(dir, paths, [&](common::v1::FileChunk chunk) {
    *messages.emplace_back().mutable_chunk() = std::move(chunk);
    return true;
  }));
  const absl::Status cut = Upload(messages);
  EXPECT_THAT(cut, StatusIs(StatusCode::kDataLoss));
  EXPECT_EQ(GetErrorDetail(cut).reason, "TRANSFER_INCOMPLETE");
  EXPECT_EQ(CountEntries("models"), 0);
  messages.push_back(Chunk("notes.txt", "hello", Sha256Hex("hello")));
  EXPECT_OK(Upload(messages));
  EXPECT_EQ(CountEntries("models"), 1);
}

TEST_F(TrainerRpcTest, ACheckpointCutBetweenTwoFilesIsNotCommitted) {
  AddInputs();
  const auto job = Submit(Spec("tuned"));
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::LeaseJobRequest lease_request;
  lease_request.set_worker_id("w1");
  trainer::v1::LeaseJobResponse leased;
  ASSERT_OK(FromGrpc(worker_->LeaseJob(context.get(), lease_request, &leased)));
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, TempDir::Create());
  ASSERT_OK(WriteFileAtomic(JoinPath(checkpoint->path(), kCheckpointStateFile),
                            "state"));
  ASSERT_OK(WriteCheckpointManifest(checkpoint->path(),
                                    {2, "{}", 5, Sha256Hex("state")}));
  ASSERT_OK_AND_ASSIGN(const auto paths,
                       ListFilesRecursive(checkpoint->path()));
  const auto commit = [&](size_t sent_files) {
    const auto call = MakeContext(kUnaryTimeoutSeconds);
    trainer::v1::CommitCheckpointResponse response;
    const auto writer = worker_->CommitCheckpoint(call.get(), &response);
    trainer::v1::CommitCheckpointRequest request;
    *request.mutable_header()->mutable_lease() = leased.lease();
    request.mutable_header()->set_step(2);
    *request.mutable_header()->mutable_size() =
        MeasureFiles(checkpoint->path(), paths).value();
    writer->Write(request);
    EXPECT_OK(SendFiles(checkpoint->path(),
                        {paths.begin(), paths.begin() + sent_files},
                        [&](common::v1::FileChunk chunk) {
                          *request.mutable_chunk() = std::move(chunk);
                          return writer->Write(request);
                        }));
    writer->WritesDone();
    return FromGrpc(writer->Finish());
  };
  const absl::Status cut = commit(1);
  EXPECT_THAT(cut, StatusIs(StatusCode::kDataLoss));
  EXPECT_EQ(GetErrorDetail(cut).reason, "TRANSFER_INCOMPLETE");
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 0);
  EXPECT_EQ(CountEntries("staging"), 0);
  EXPECT_OK(commit(paths.size()));
  EXPECT_EQ(Job(job.name()).checkpoint_step(), 2);
}

TEST_F(TrainerRpcTest, RefusalsCarryFieldAndReason) {
  AddInputs();
  trainer::v1::TrainingSpec spec = Spec("tuned");
  spec.mutable_attention()->set_pattern(trainer::v1::ATTENTION_PATTERN_FULL);
  spec.mutable_attention()->set_return_ratio(0.5);
  const absl::Status refused = Create(spec).status();
  EXPECT_THAT(refused, StatusIs(StatusCode::kInvalidArgument,
                                HasSubstr("spec.attention.return_ratio")));
  EXPECT_EQ(GetErrorDetail(refused).reason, "INVALID_FIELD");
  spec = Spec("tuned");
  spec.set_dataset("nothing");
  EXPECT_THAT(Create(spec),
              StatusIs(StatusCode::kNotFound, HasSubstr("spec.dataset")));
  curator_server_->Drain(/*grace_seconds=*/0);
  EXPECT_THAT(Create(Spec("tuned")), StatusIs(StatusCode::kUnavailable));
}

TEST_F(TrainerRpcTest, WatchFollowsAJobToItsEnd) {
  AddInputs();
  const auto job = Submit(Spec("tuned"));
  std::vector<trainer::v1::JobEvent> events;
  std::thread watcher([&] { events = Watch(job.name()); });
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::LeaseJobRequest lease_request;
  lease_request.set_worker_id("w1");
  trainer::v1::LeaseJobResponse leased;
  ASSERT_OK(FromGrpc(worker_->LeaseJob(context.get(), lease_request, &leased)));
  ASSERT_TRUE(leased.has_lease());
  trainer::v1::FinishJobRequest finish;
  *finish.mutable_header()->mutable_lease() = leased.lease();
  finish.mutable_header()->set_outcome(trainer::v1::JOB_STATE_FAILED);
  finish.mutable_header()->set_message("it broke");
  finish.mutable_header()->set_error_reason("BROKEN");
  const auto finish_context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::FinishJobResponse response;
  const auto writer = worker_->FinishJob(finish_context.get(), &response);
  ASSERT_TRUE(writer->Write(finish));
  writer->WritesDone();
  ASSERT_OK(FromGrpc(writer->Finish()));
  watcher.join();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2].state_change().state(), trainer::v1::JOB_STATE_FAILED);
  EXPECT_EQ(events[2].state_change().reason(), "it broke");
  EXPECT_EQ(response.job().error_reason(), "BROKEN");
}

TEST_F(TrainerRpcTest, WatchOfAnUnknownJobFails) {
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::WatchTrainingJobRequest request;
  request.set_name("job-unknown");
  const auto reader = training_->WatchTrainingJob(context.get(), request);
  trainer::v1::WatchTrainingJobResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_THAT(FromGrpc(reader->Finish()), StatusIs(StatusCode::kNotFound));
}

TEST_F(TrainerRpcTest, SweeperExpiresLeasesWithoutCallers) {
  AddInputs();
  const auto job = Submit(Spec("tuned"));
  const auto context = MakeContext(kUnaryTimeoutSeconds);
  trainer::v1::LeaseJobRequest lease_request;
  lease_request.set_worker_id("w1");
  trainer::v1::LeaseJobResponse leased;
  ASSERT_OK(FromGrpc(worker_->LeaseJob(context.get(), lease_request, &leased)));
  trainer_clock_.AdvanceSeconds(kTtlSeconds);
  // Ends only when the job is queued a second time.
  int queued = 0;
  Watch(job.name(), [&](const trainer::v1::JobEvent& event) {
    queued +=
        event.state_change().state() == trainer::v1::JOB_STATE_QUEUED ? 1 : 0;
    return queued == 2;
  });
  EXPECT_EQ(queued, 2);
}

}  // namespace
}  // namespace sinklora::testing
