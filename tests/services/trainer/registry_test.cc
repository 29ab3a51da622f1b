// SPDX-License-Identifier: Apache-2.0
#include "services/trainer/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/weights/model_files.h"
#include "tests/services/trainer/trainer_fixture.h"
#include "tests/testing/matchers.h"

namespace sinklora::trainer {
namespace {

using absl::StatusCode;
using sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RegistryTest : public TrainerCoreTest {
 protected:
  // Nothing of a refused import is anywhere.
  void ExpectNothingStored() {
    EXPECT_EQ(CountDirs("models"), 0);
    EXPECT_EQ(CountDirs("staging"), 0);
    ASSERT_OK_AND_ASSIGN(const auto list, registry_->ListModels({}));
    EXPECT_EQ(list.models_size(), 0);
    EXPECT_EQ(Metric("sinklora_registry_models"), 0);
  }
  absl::Status DeleteModel(const std::string& name, const std::string& id) {
    registry::v1::DeleteModelRequest request;
    request.set_name(name);
    request.set_request_id(id);
    Trash trash(artifacts_.get());
    return registry_->DeleteModel(request, &trash);
  }
};

TEST_F(RegistryTest, StoresAModelByContent) {
  auto staged = StageModel();
  ASSERT_OK(WriteFileAtomic(JoinPath(staged->path(), "README.md"), "notes"));
  ASSERT_OK_AND_ASSIGN(const auto model, ImportModel("tiny", "r1", *staged));
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_EQ(model.digest().size(), 64u);
  EXPECT_EQ(model.architecture().model_type(), "llama");
  EXPECT_EQ(model.architecture().num_layers(), 2);
  EXPECT_EQ(model.architecture().context_tokens(), 64);
  EXPECT_EQ(model.architecture().rope_factor(), 1);
  EXPECT_EQ(model.architecture().rope_type(), "none");
  EXPECT_EQ(model.architecture().sliding_window_tokens(), 0);
  EXPECT_EQ(model.tokenizer_digest().size(), 64u);
  EXPECT_TRUE(
      FileExists(JoinPath(artifacts_->ModelDir(model.digest()), "README.md")));
  EXPECT_EQ(Metric("sinklora_registry_models"), 1);

  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto stored, registry_->GetModel("tiny"));
  EXPECT_EQ(stored.SerializeAsString(), model.SerializeAsString());
  ASSERT_OK(ModelFiles::Open(artifacts_->ModelDir(model.digest())));
}

TEST_F(RegistryTest, RepeatedImportsReturnWhatIsStored) {
  ASSERT_OK_AND_ASSIGN(const auto first,
                       ImportModel("tiny", "r1", *StageModel()));
  // The same request, and the same name and content in another request.
  for (const char* request_id : {"r1", "r2"}) {
    ASSERT_OK_AND_ASSIGN(const auto again,
                         ImportModel("tiny", request_id, *StageModel()));
    EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  }
  EXPECT_THAT(ImportModel("tiny", "r3", *StageModel(2)),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("tiny")));
  EXPECT_THAT(ImportModel("tiny", "r1", *StageModel(2)),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(ImportModel("tiny", "", *StageModel()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("request_id")));
  EXPECT_EQ(CountDirs("models"), 1);
  EXPECT_EQ(CountDirs("staging"), 0);
}

TEST_F(RegistryTest, NamesWithEqualContentShareTheFiles) {
  ASSERT_OK_AND_ASSIGN(const auto a, ImportModel("a", "r1", *StageModel()));
  ASSERT_OK_AND_ASSIGN(const auto b, ImportModel("b", "r2", *StageModel()));
  EXPECT_EQ(a.digest(), b.digest());
  EXPECT_EQ(CountDirs("models"), 1);
  ASSERT_OK(DeleteModel("a", "d1"));
  EXPECT_EQ(CountDirs("models"), 1);
  ASSERT_OK(DeleteModel("b", "d2"));
  EXPECT_EQ(CountDirs("models"), 0);
  ASSERT_OK(DeleteModel("b", "d2"));  // repeated
  EXPECT_THAT(DeleteModel("b", "d3"), StatusIs(StatusCode::kNotFound));
}

TEST_F(RegistryTest, RefusesBadUploads) {
  const auto import_after = [&](const auto& damage) {
    auto staged = StageModel();
    damage(staged->path());
    return ImportModel("tiny", NextRequestId(), *staged).status();
  };
  const auto truncate = [](const std::string& path) {
    const auto bytes = ReadFile(path);
    ASSERT_OK(bytes);
    ASSERT_OK(WriteFileAtomic(path, bytes->substr(0, bytes->size() / 2)));
  };
  const auto no_path = Not(HasSubstr(dir_->path()));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                truncate(JoinPath(dir, "model.safetensors"));
              }),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("model.safetensors"), no_path)));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                truncate(JoinPath(dir, "config.json"));
              }),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("config.json"), no_path)));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                truncate(JoinPath(dir, "tokenizer.json"));
              }),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tokenizer.json"), no_path)));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                ASSERT_OK(RemoveAll(JoinPath(dir, "tokenizer.json")));
              }),
              StatusIs(StatusCode::kInvalidArgument, no_path));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                ASSERT_OK(RemoveAll(JoinPath(dir, "config.json")));
              }),
              StatusIs(StatusCode::kInvalidArgument, no_path));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                ASSERT_OK(WriteFileAtomic(JoinPath(dir, "config.json"),
                                          R"({"model_type": "bert"})"));
              }),
              StatusIs(StatusCode::kInvalidArgument, no_path));
  EXPECT_THAT(import_after([&](const std::string& dir) {
                const std::string path = JoinPath(dir, "model.safetensors");
                std::string bytes = ReadFile(path).value();
                bytes.replace(bytes.size() - 2, 2, "\xC0\x7F");  // a bf16 NaN
                ASSERT_OK(WriteFileAtomic(path, bytes));
              }),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("has NaN or infinity at"), no_path)));
  const absl::Status pickle = import_after([&](const std::string& dir) {
    ASSERT_OK(RemoveAll(JoinPath(dir, "model.safetensors")));
    ASSERT_OK(WriteFileAtomic(JoinPath(dir, "pytorch_model.bin"), "\x80\x02."));
  });
  EXPECT_THAT(pickle, StatusIs(StatusCode::kInvalidArgument,
                               HasSubstr("pytorch_model.bin")));
  EXPECT_EQ(GetErrorDetail(pickle).reason, "PICKLE_REFUSED");
  EXPECT_THAT(ImportModel("Bad Name", NextRequestId(), *StageModel()),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("Bad Name")));
  ExpectNothingStored();
}

TEST_F(RegistryTest, FailedWriteLeavesNothing) {
  store_->FailWrite(1);
  EXPECT_THAT(ImportModel("tiny", "r1", *StageModel()),
              StatusIs(StatusCode::kResourceExhausted));
  ExpectNothingStored();
  EXPECT_OK(ImportModel("tiny", "r1", *StageModel()));
}

TEST_F(RegistryTest, RestartRemovesWhatNoRowNames) {
  ASSERT_OK_AND_ASSIGN(const auto kept,
                       ImportModel("tiny", "r1", *StageModel()));
  // As a crash between the commit of the files and the row leaves it.
  ASSERT_OK(MakeDirs(artifacts_->ModelDir(std::string(64, 'a'))));
  ASSERT_OK(MakeDirs(artifacts_->CheckpointDir("job-x", 3)));
  const auto staged = StageModel();
  std::set<std::string> dirs = registry_->ReferencedDirs();
  ASSERT_OK(artifacts_->RemoveAllBut(dirs));
  EXPECT_EQ(CountDirs("models"), 1);
  EXPECT_EQ(CountDirs("jobs"), 0);
  EXPECT_EQ(CountDirs("staging"), 1);
  Reopen();
  EXPECT_EQ(CountDirs("staging"), 0);
  EXPECT_OK(registry_->GetModel("tiny"));
}

TEST_F(RegistryTest, FullDiskIsSaidBeforeTheUpload) {
  disk_reserve_bytes_ = INT64_MAX / 2;
  Reopen();
  const absl::Status room = artifacts_->disk()->CheckRoom();
  EXPECT_THAT(room, StatusIs(StatusCode::kResourceExhausted,
                             HasSubstr("the disk of " + dir_->path())));
  EXPECT_EQ(GetErrorDetail(room).reason, "STORAGE_LOW");
}

TEST_F(RegistryTest, AdaptersBelongToTheirBase) {
  EXPECT_THAT(ImportAdapter("ad", "r1", *StageAdapter()),
              StatusIs(StatusCode::kNotFound, HasSubstr("base")));
  AddInputs();
  ASSERT_OK_AND_ASSIGN(const auto adapter,
                       ImportAdapter("ad", "r2", *StageAdapter()));
  EXPECT_EQ(adapter.base_model(), "base");
  EXPECT_EQ(adapter.context_tokens(), 128);
  EXPECT_EQ(adapter.rope_factor(), 2);
  EXPECT_EQ(adapter.lora_rank(), 2);
  ASSERT_OK(ImportAdapter("ad", "r3", *StageAdapter()));
  EXPECT_THAT(ImportAdapter("ad", "r4", *StageAdapter(0.25f)),
              StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(DeleteModel("base", "d1"),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("ad")));
  EXPECT_EQ(Metric("sinklora_registry_adapters"), 1);

  registry::v1::DeleteAdapterRequest request;
  request.set_name("ad");
  request.set_request_id("d2");
  ASSERT_OK(registry_->DeleteAdapter(request));
  EXPECT_EQ(CountDirs("adapters"), 0);
  ASSERT_OK(DeleteModel("base", "d3"));
}

TEST_F(RegistryTest, MergedModelsKeepTheRulesOfNames) {
  AddInputs();
  ASSERT_OK_AND_ASSIGN(const auto adapter,
                       ImportAdapter("ad", "r1", *StageAdapter()));
  registry::v1::MergeAdapterRequest request;
  request.set_adapter("ad");
  request.set_model_name("merged");
  request.set_request_id("m1");
  const auto commit = [&]() -> absl::StatusOr<registry::v1::Model> {
    const auto staged = StageModel(2);
    SL_ASSIGN_OR_RETURN(const auto files, DescribeFiles(staged->path()));
    registry::v1::Model model;
    model.set_name(request.model_name());
    model.set_digest(ContentDigest(files));
    model.set_base_model_digest(adapter.base_model_digest());
    model.mutable_lineage()->set_adapter_digest(adapter.digest());
    return registry_->CommitMerged(request, model, staged->path());
  };
  ASSERT_OK(registry_->ReserveModelName("merged", "job-1"));
  EXPECT_EQ(ReasonOf(registry_->FindMerged(request, adapter).status()),
            "NAME_RESERVED");
  EXPECT_EQ(ReasonOf(commit().status()), "NAME_RESERVED");
  registry_->ReleaseModelName("merged", "job-1");
  store_->FailWrite(1);
  EXPECT_FALSE(commit().ok());
  EXPECT_EQ(CountDirs("models"), 1);

  ASSERT_OK_AND_ASSIGN(const auto none,
                       registry_->FindMerged(request, adapter));
  EXPECT_FALSE(none.has_value());
  ASSERT_OK_AND_ASSIGN(const auto merged, commit());
  // The same request, and another one for the same.
  for (const char* request_id : {"m1", "m2"}) {
    request.set_request_id(request_id);
    ASSERT_OK_AND_ASSIGN(const auto found,
                         registry_->FindMerged(request, adapter));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->digest(), merged.digest());
    ASSERT_OK_AND_ASSIGN(const auto again, commit());
    EXPECT_EQ(again.SerializeAsString(), merged.SerializeAsString());
  }
  auto other = adapter;
  other.set_digest(std::string(64, 'a'));
  EXPECT_EQ(ReasonOf(registry_->FindMerged(request, other).status()),
            "NAME_TAKEN");
  request.set_model_name("base");
  EXPECT_EQ(ReasonOf(registry_->FindMerged(request, adapter).status()),
            "NAME_TAKEN");
  EXPECT_EQ(CountDirs("models"), 2);
  EXPECT_EQ(CountDirs("staging"), 0);
}

TEST_F(RegistryTest, ListsInPages) {
  for (const char* name : {"b", "a", "c"}) {
    ASSERT_OK(ImportModel(name, NextRequestId(), *StageModel()));
  }
  registry::v1::ListModelsRequest request;
  request.set_page_size(2);
  ASSERT_OK_AND_ASSIGN(const auto first, registry_->ListModels(request));
  ASSERT_EQ(first.models_size(), 2);
  EXPECT_EQ(first.models(0).name(), "a");
  request.set_page_token(first.next_page_token());
  ASSERT_OK_AND_ASSIGN(const auto second, registry_->ListModels(request));
  ASSERT_EQ(second.models_size(), 1);
  EXPECT_EQ(second.models(0).name(), "c");
  EXPECT_EQ(second.next_page_token(), "");
}

}  // namespace
}  // namespace sinklora::trainer
