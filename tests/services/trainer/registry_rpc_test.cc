// The registry over a real channel: downloads in parts, imports by path, and
// what it says of bad imports.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <limits>
#include <optional>

#include "common/base/hash.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/file_transfer.h"
#include "common/rpc/status_translation.h"
#include "common/rpc/upload_receiver.h"
#include "services/trainer/artifact_store.h"
#include "tests/services/trainer/cluster.h"
#include "tests/services/trainer/sample_uploads.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

namespace fs = std::filesystem;
namespace v1 = registry::v1;
using absl::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;

class RegistryRpcTest : public ClusterTest {
 protected:
  std::string Path(const std::string& path) const {
    return JoinPath(dir_->path(), path);
  }
  int CountEntries(const std::string& kind) {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(Path("trainer/" + kind))) {
      count += entry.exists() ? 1 : 0;
    }
    return count;
  }
  void ExpectNothingLeft(int models, int adapters) {
    EXPECT_EQ(CountEntries("staging"), 0);
    EXPECT_EQ(CountEntries("models"), models);
    EXPECT_EQ(CountEntries("adapters"), adapters);
  }

  // A fresh directory with the tiny model after `damage`.
  std::string Model(const std::function<void(const std::string&)>& damage = {},
                    const TinyModelOptions& options = {}) {
    const std::string dir = Path(NewId("model"));
    EXPECT_OK(WriteTinyModel(dir, options));
    if (damage) damage(dir);
    return dir;
  }
  std::string SampleAdapter(
      const std::function<void(const std::string&)>& damage = {}) {
    const std::string dir = Path(NewId("adapter"));
    EXPECT_OK(WriteSampleAdapter(dir));
    if (damage) damage(dir);
    return dir;
  }
  absl::StatusOr<v1::Adapter> ImportAdapter(
      const std::string& name, const std::string& base, const std::string& dir,
      const std::optional<v1::AdapterContext>& tuned_for = std::nullopt) {
    const auto context = MakeContext(kTransferTimeoutSeconds);
    v1::ImportAdapterResponse response;
    const auto writer = registry_->ImportAdapter(context.get(), &response);
    v1::ImportAdapterRequest request;
    request.mutable_header()->set_name(name);
    request.mutable_header()->set_base_model(base);
    request.mutable_header()->set_request_id(NewRequestId());
    if (tuned_for) *request.mutable_header()->mutable_context() = *tuned_for;
    SL_ASSIGN_OR_RETURN(const auto paths, ListFilesRecursive(dir));
    SL_ASSIGN_OR_RETURN(*request.mutable_header()->mutable_size(),
                        MeasureFiles(dir, paths));
    writer->Write(request);
    const absl::Status sent =
        SendFiles(dir, paths, [&](common::v1::FileChunk chunk) {
          v1::ImportAdapterRequest part;
          *part.mutable_chunk() = std::move(chunk);
          return writer->Write(part);
        });
    writer->WritesDone();
    SL_RETURN_IF_ERROR(FromGrpc(writer->Finish()));
    SL_RETURN_IF_ERROR(sent);
    return response.adapter();
  }

  absl::StatusOr<v1::Model> ImportFromPath(const std::string& name,
                                           const std::string& path,
                                           const std::string& request_id) {
    const auto context = MakeContext(kTransferTimeoutSeconds);
    v1::ImportModelFromPathRequest request;
    request.set_name(name);
    request.set_path(path);
    request.set_request_id(request_id);
    v1::ImportModelFromPathResponse response;
    SL_RETURN_IF_ERROR(FromGrpc(
        registry_->ImportModelFromPath(context.get(), request, &response)));
    return response.model();
  }

  // All chunks that a download sends.
  absl::StatusOr<std::vector<common::v1::FileChunk>> Download(
      const v1::DownloadModelRequest& request) {
    const auto context = MakeContext(kTransferTimeoutSeconds);
    const auto reader = registry_->DownloadModel(context.get(), request);
    std::vector<common::v1::FileChunk> chunks;
    v1::DownloadModelResponse response;
    while (reader->Read(&response)) chunks.push_back(response.chunk());
    SL_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
    return chunks;
  }

  static std::string ReasonOf(const absl::Status& status) {
    return GetErrorDetail(status).reason;
  }
};

TEST_F(RegistryRpcTest, SendsTheRestOfAFile) {
  AddInputs();
  ASSERT_OK_AND_ASSIGN(const std::string content,
                       ReadFile(Path("base-model/model.safetensors")));
  v1::DownloadModelRequest request;
  request.set_name("base");
  request.add_paths("model.safetensors");
  auto* offset = request.add_offsets();
  offset->set_path("model.safetensors");
  offset->set_offset(1000);
  ASSERT_OK_AND_ASSIGN(auto chunks, Download(request));
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].offset(), 1000);
  EXPECT_TRUE(chunks[0].data() == content.substr(1000));
  EXPECT_EQ(chunks[0].sha256(), Sha256Hex(content));
  // Nothing is left to send but that it was all.
  offset->set_offset(static_cast<int64_t>(content.size()));
  ASSERT_OK_AND_ASSIGN(chunks, Download(request));
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].data(), "");
  EXPECT_EQ(chunks[0].sha256(), Sha256Hex(content));
}

TEST_F(RegistryRpcTest, RefusesPartsThatAreNotThere) {
  AddInputs();
  v1::DownloadModelRequest request;
  request.set_name("base");
  request.add_paths("config.json");
  auto* offset = request.add_offsets();
  offset->set_path("config.json");
  offset->set_offset(1 << 20);
  absl::Status status = Download(request).status();
  EXPECT_THAT(status, StatusIs(StatusCode::kOutOfRange,
                               HasSubstr("1048576 of config.json")));
  EXPECT_EQ(ReasonOf(status), "OFFSET_OUT_OF_RANGE");
  offset->set_offset(-1);
  EXPECT_THAT(Download(request), StatusIs(StatusCode::kOutOfRange));
  offset->set_offset(0);
  *request.add_offsets() = *offset;
  EXPECT_THAT(Download(request), StatusIs(StatusCode::kInvalidArgument));
  request.mutable_offsets()->RemoveLast();
  request.mutable_offsets(0)->set_path("model.safetensors");
  EXPECT_THAT(Download(request), StatusIs(StatusCode::kInvalidArgument,
                                          HasSubstr("model.safetensors")));
  request.clear_offsets();
  request.set_digest(std::string(64, 'a'));
  status = Download(request).status();
  EXPECT_THAT(status, StatusIs(StatusCode::kFailedPrecondition,
                               HasSubstr(std::string(64, 'a'))));
  EXPECT_EQ(ReasonOf(status), "CONTENT_CHANGED");
}

TEST_F(RegistryRpcTest, ImportsFromThePathsThatAreAllowed) {
  const std::string dir = Model();
  ASSERT_OK_AND_ASSIGN(const auto uploaded, ImportModel("uploaded", dir));
  std::error_code error;
  fs::copy(dir, Path("imports/tiny"), fs::copy_options::recursive, error);
  ASSERT_FALSE(error);
  ASSERT_OK_AND_ASSIGN(const auto model, ImportFromPath("tiny", "tiny", "r1"));
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_EQ(model.digest(), uploaded.digest());
  ASSERT_OK_AND_ASSIGN(const auto again, ImportFromPath("tiny", "tiny", "r1"));
  EXPECT_EQ(again.SerializeAsString(), model.SerializeAsString());

  ASSERT_OK(WriteSampleAdapter(Path("imports/lora")));
  const auto context = MakeContext(kTransferTimeoutSeconds);
  v1::ImportAdapterFromPathRequest request;
  request.set_name("lora");
  request.set_base_model("tiny");
  request.set_path(Path("imports/lora"));
  request.set_request_id("r2");
  v1::ImportAdapterFromPathResponse response;
  ASSERT_OK(FromGrpc(
      registry_->ImportAdapterFromPath(context.get(), request, &response)));
  EXPECT_EQ(response.adapter().base_model_digest(), model.digest());
  ExpectNothingLeft(/*models=*/1, /*adapters=*/1);

  for (const std::string& path : {dir, std::string("../trainer/state")}) {
    const absl::Status refused = ImportFromPath("evil", path, "r3").status();
    EXPECT_THAT(refused,
                StatusIs(StatusCode::kPermissionDenied, HasSubstr(path)));
    EXPECT_EQ(ReasonOf(refused), "OUTSIDE_IMPORT_ROOT");
  }
  ASSERT_OK(RemoveAll(Path("imports/tiny/tokenizer.json")));
  EXPECT_THAT(ImportFromPath("bad", "tiny", "r4"),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(ImportFromPath("Bad Name", "tiny", "r5"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("Bad Name")));
  ExpectNothingLeft(/*models=*/1, /*adapters=*/1);
}

TEST_F(RegistryRpcTest, AClientThatGoesAwayLeavesNothing) {
  const auto context = MakeContext(kTransferTimeoutSeconds);
  v1::ImportModelResponse response;
  const auto writer = registry_->ImportModel(context.get(), &response);
  v1::ImportModelRequest request;
  request.mutable_header()->set_name("half");
  request.mutable_header()->set_request_id("r");
  request.mutable_header()->mutable_size()->set_file_count(2);
  request.mutable_header()->mutable_size()->set_total_bytes(100);
  ASSERT_TRUE(writer->Write(request));
  request.mutable_chunk()->set_path("config.json");
  request.mutable_chunk()->set_data("{}");
  ASSERT_TRUE(writer->Write(request));
  context->TryCancel();
  EXPECT_THAT(FromGrpc(writer->Finish()), StatusIs(StatusCode::kCancelled));
  // The handler has seen it when the server has no call left.
  trainer_server_->Drain(/*grace_seconds=*/30);
  ExpectNothingLeft(0, 0);
}

// What is wrong with a directory, and what the answer names.
struct BadImport {
  const char* what;
  std::function<void(const std::string& dir)> damage;
  std::vector<std::string> named;
};

void Append(const std::string& path, const std::string& text) {
  const auto old = ReadFile(path);
  ASSERT_OK(WriteFileAtomic(path, old.value_or("") + text));
}

TEST_F(RegistryRpcTest, BadModelsAreNamedAndLeaveNothing) {
  const std::string weights = "model.safetensors";
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  const std::string norm = "model.norm.weight";
  const std::vector<BadImport> cases = {
      {"a pickle in place of the weights",
       [&](const std::string& dir) {
         ASSERT_OK(RemoveAll(JoinPath(dir, weights)));
         ASSERT_OK(WriteFileAtomic(JoinPath(dir, "pytorch_model.bin"),
                                   std::string("PK\3\4", 4)));
       },
       {"pytorch_model.bin", "safetensors"}},
      {"a matrix of another shape",
       [&](const std::string& dir) {
         ASSERT_OK(EditTensors(JoinPath(dir, weights), [&](auto* tensors) {
           std::swap((*tensors)[up].shape[0], (*tensors)[up].shape[1]);
         }));
       },
       {up, "[32, 64]", "[64, 32]"}},
      {"two tensors that are missing",
       [&](const std::string& dir) {
         ASSERT_OK(EditTensors(JoinPath(dir, weights), [&](auto* tensors) {
           tensors->erase(up);
           tensors->erase(norm);
         }));
       },
       {up, norm}},
      {"NaN in a matrix",
       [&](const std::string& dir) {
         ASSERT_OK(EditTensors(JoinPath(dir, weights), [&](auto* tensors) {
           (*tensors)[up].values[33] = std::numeric_limits<float>::quiet_NaN();
         }));
       },
       {up, "NaN", "[1, 1]"}},
      {"no config",
       [&](const std::string& dir) {
         ASSERT_OK(RemoveAll(JoinPath(dir, "config.json")));
       },
       {"config.json"}},
      {"an architecture that is not supported",
       [&](const std::string& dir) {
         ASSERT_OK(WriteFileAtomic(JoinPath(dir, "config.json"),
                                   R"({"model_type": "mamba"})"));
       },
       {"mamba"}},
      {"weights that are no safetensors",
       [&](const std::string& dir) {
         ASSERT_OK(WriteFileAtomic(JoinPath(dir, weights), "not tensors"));
       },
       {weights}},
      {"a tail behind the weights",
       [&](const std::string& dir) { Append(JoinPath(dir, weights), "tail"); },
       {weights}},
      {"an index that leads out of the directory",
       [&](const std::string& dir) {
         ASSERT_OK(RemoveAll(JoinPath(dir, weights)));
         ASSERT_OK(WriteFileAtomic(
             JoinPath(dir, "model.safetensors.index.json"),
             fmt::format(R"({{"weight_map": {{"{}": "../../secret"}}}})", up)));
       },
       {"../../secret"}},
  };
  for (const BadImport& bad : cases) {
    const absl::Status status = ImportModel("bad", Model(bad.damage)).status();
    EXPECT_THAT(status, StatusIs(StatusCode::kInvalidArgument)) << bad.what;
    for (const std::string& name : bad.named) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(name)) << bad.what;
    }
    EXPECT_THAT(std::string(status.message()),
                ::testing::Not(HasSubstr(dir_->path())));
    ExpectNothingLeft(0, 0);
  }
}

TEST_F(RegistryRpcTest, BadAdaptersAreNamedAndLeaveNothing) {
  ASSERT_OK(ImportModel("base", Model()));
  TinyModelOptions wide;
  wide.hidden = 48;
  ASSERT_OK(ImportModel("other", Model({}, wide)));
  const std::string config = "adapter_config.json";
  const std::string weights = "adapter_model.safetensors";
  const std::string lora_b =
      "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
  const std::vector<BadImport> cases = {
      {"a pickle in place of the weights",
       [&](const std::string& dir) {
         ASSERT_OK(RemoveAll(JoinPath(dir, weights)));
         ASSERT_OK(WriteFileAtomic(JoinPath(dir, "adapter_model.bin"), "PK"));
       },
       {"adapter_model.bin", "safetensors"}},
      {"LongLoRA's tuned embedding as a pickle",
       [&](const std::string& dir) {
         ASSERT_OK(
             WriteFileAtomic(JoinPath(dir, "trainable_params.bin"), "PK"));
       },
       {"trainable_params.bin", "safetensors"}},
      {"a matrix without its partner",
       [&](const std::string& dir) {
         ASSERT_OK(EditTensors(JoinPath(dir, weights),
                               [&](auto* tensors) { tensors->erase(lora_b); }));
       },
       {"model.layers.1.self_attn.q_proj"}},
      {"infinity in a matrix",
       [&](const std::string& dir) {
         ASSERT_OK(EditTensors(JoinPath(dir, weights), [&](auto* tensors) {
           (*tensors)[lora_b].values[3] =
               std::numeric_limits<float>::infinity();
         }));
       },
       {"layers.1.self_attn.q_proj.lora_B"}},
      {"no config",
       [&](const std::string& dir) {
         ASSERT_OK(RemoveAll(JoinPath(dir, config)));
       },
       {config}},
      {"another kind of adapter",
       [&](const std::string& dir) {
         ASSERT_OK(WriteFileAtomic(JoinPath(dir, config),
                                   R"({"peft_type": "PREFIX_TUNING"})"));
       },
       {"PREFIX_TUNING"}},
  };
  for (const BadImport& bad : cases) {
    const absl::Status status =
        ImportAdapter("bad", "base", SampleAdapter(bad.damage)).status();
    EXPECT_THAT(status, StatusIs(StatusCode::kInvalidArgument)) << bad.what;
    for (const std::string& name : bad.named) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(name)) << bad.what;
    }
    ExpectNothingLeft(2, 0);
  }
  const absl::Status other =
      ImportAdapter("bad", "other", SampleAdapter()).status();
  EXPECT_THAT(other,
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("q_proj")));
  EXPECT_THAT(ImportAdapter("bad", "nothing", SampleAdapter()),
              StatusIs(StatusCode::kNotFound, HasSubstr("nothing")));
  ExpectNothingLeft(2, 0);
  EXPECT_OK(ImportAdapter("good", "base", SampleAdapter()));
}

v1::AdapterContext TunedFor(int64_t context_tokens, double rope_factor = 0) {
  v1::AdapterContext context;
  context.set_context_tokens(context_tokens);
  context.set_rope_factor(rope_factor);
  return context;
}

// LongLoRA's and PEFT's files do not say for which context they were tuned.
TEST_F(RegistryRpcTest, AdaptersLearnTheirContextWhenTheyAreImported) {
  ASSERT_OK_AND_ASSIGN(const v1::Model base, ImportModel("base", Model()));
  const int64_t original = base.architecture().context_tokens();
  ASSERT_OK_AND_ASSIGN(const v1::Adapter silent,
                       ImportAdapter("silent", "base", SampleAdapter()));
  EXPECT_EQ(silent.context_tokens(), original);
  EXPECT_EQ(silent.rope_factor(), 1);

  // LongLoRA rounds the factor up.
  const int64_t tokens = 3 * original + 1;
  ASSERT_OK_AND_ASSIGN(
      const v1::Adapter tuned,
      ImportAdapter("tuned", "base", SampleAdapter(), TunedFor(tokens)));
  EXPECT_EQ(tuned.context_tokens(), tokens);
  EXPECT_EQ(tuned.rope_factor(), 4);
  EXPECT_NE(tuned.digest(), silent.digest());
  ASSERT_OK_AND_ASSIGN(
      const v1::Adapter given,
      ImportAdapter("given", "base", SampleAdapter(), TunedFor(tokens, 3.5)));
  EXPECT_EQ(given.rope_factor(), 3.5);

  // What is stored says so by itself, and matches its digests.
  const std::string stored = Path("trainer/adapters/" + tuned.digest());
  ASSERT_OK_AND_ASSIGN(const auto files, trainer::DescribeFiles(stored));
  ASSERT_EQ(files.size(), static_cast<size_t>(tuned.files_size()));
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(files[i].sha256(), tuned.files(static_cast<int>(i)).sha256());
  }
  ASSERT_OK_AND_ASSIGN(const v1::Adapter again,
                       ImportAdapter("again", "base", stored));
  EXPECT_EQ(again.digest(), tuned.digest());
  EXPECT_EQ(again.context_tokens(), tokens);
  EXPECT_OK(ImportAdapter("same", "base", stored, TunedFor(tokens)));
  EXPECT_OK(ImportAdapter("same", "base", stored, TunedFor(tokens, 4)));
  // What a file says needs no rule, a factor that nobody rounded included.
  EXPECT_OK(ImportAdapter("ours", "base",
                          Path("trainer/adapters/" + given.digest()),
                          TunedFor(tokens)));
  const absl::Status other =
      ImportAdapter("other", "base", stored, TunedFor(2 * tokens)).status();
  EXPECT_THAT(other, StatusIs(StatusCode::kInvalidArgument,
                              HasSubstr("sinklora_context_tokens is " +
                                        std::to_string(tokens))));
  EXPECT_THAT(std::string(other.message()),
              ::testing::Not(HasSubstr(dir_->path())));
}

TEST_F(RegistryRpcTest, BadAdapterContextsAreRefused) {
  ASSERT_OK(ImportModel("base", Model()));
  const std::pair<v1::AdapterContext, const char*> cases[] = {
      {TunedFor(0), "context.context_tokens is 0, must be in [2, 1048576]"},
      {TunedFor(1048577), "context.context_tokens is 1048577"},
      {TunedFor(100, 0.5), "context.rope_factor is 0.5, must be 0 or"},
      {TunedFor(100, std::numeric_limits<double>::quiet_NaN()),
       "context.rope_factor is nan"},
      {TunedFor(100, 1e6), "context cannot be: rope factor is 1000000"},
  };
  for (const auto& [context, message] : cases) {
    const absl::Status status =
        ImportAdapter("bad", "base", SampleAdapter(), context).status();
    EXPECT_THAT(status,
                StatusIs(StatusCode::kInvalidArgument, HasSubstr(message)));
    EXPECT_EQ(ReasonOf(status), "INVALID_ADAPTER_CONTEXT");
    ExpectNothingLeft(1, 0);
  }
}

// While it lives, files end at a size: writing more fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_IGN);  // write() fails in place of a signal
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, SIG_DFL);
  }

 private:
  rlimit before_ = {};
};

TEST_F(RegistryRpcTest, ADiskThatFillsUpLeavesNothing) {
  const std::string dir = Model([](const std::string& path) {
    ASSERT_OK(WriteFileAtomic(JoinPath(path, "big.txt"),
                              std::string(size_t{8} << 20, 'x')));
  });
  {
    const FileSizeLimit limit(rlim_t{4} << 20);
    const absl::Status status = ImportModel("full", dir).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr("big.txt"));
  }
  ExpectNothingLeft(0, 0);
  EXPECT_OK(ImportModel("full", dir));
}

}  // namespace
}  // namespace sinklora::testing
