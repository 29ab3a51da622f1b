// Exports and merges over a real channel, by the command line.
//
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/base/hash.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/status_translation.h"
#include "common/weights/model_files.h"
#include "common/weights/peft_adapter.h"
#include "services/cli/exit_code.h"
#include "tests/services/cli/run_cli.h"
#include "tests/services/trainer/cluster.h"
#include "tests/services/trainer/sample_uploads.h"
#include "tests/testing/cutting_proxy.h"
#include "tests/testing/matchers.h"
#include "tests/testing/tiny_model/tiny_model.h"

namespace sinklora::testing {
namespace {

namespace v1 = registry::v1;
using absl::StatusCode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Model "base", adapter "lora" of it.
class ExportTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    ASSERT_OK(WriteTinyModel(Path("base"), {}));
    ASSERT_OK(WriteSampleAdapter(Path("lora"), 0.05F));
    ASSERT_EQ(Cli({"model", "import", "base", Path("base")}).exit_code, 0);
    const CliRun adapter =
        Cli({"model", "import", "lora", Path("lora"), "--base", "base"});
    ASSERT_EQ(adapter.exit_code, 0) << adapter.err;
  }

  std::string Path(const std::string& path) const {
    return JoinPath(dir_->path(), path);
  }
  CliRun Cli(const std::vector<std::string>& arguments) {
    return RunCli(trainer_address(), arguments);
  }
  CliRun Export(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--json", "model", "export"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Cli(arguments);
  }
  int CountEntries(const std::string& kind) {
    int count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(Path("trainer/" + kind))) {
      count += entry.exists() ? 1 : 0;
    }
    return count;
  }
  absl::Status ExportStatus(const v1::ExportRequest& request) {
    const auto context = MakeContext(kTransferTimeoutSeconds);
    const auto reader = registry_->Export(context.get(), request);
    v1::ExportResponse response;
    while (reader->Read(&response)) {
    }
    return FromGrpc(reader->Finish());
  }
  absl::StatusOr<v1::Model> GetModel(const std::string& name) {
    const auto context = MakeContext(kUnaryTimeoutSeconds);
    v1::GetModelRequest request;
    request.set_name(name);
    v1::GetModelResponse response;
    SL_RETURN_IF_ERROR(
        FromGrpc(registry_->GetModel(context.get(), request, &response)));
    return response.model();
  }
  static void ExpectGoodCheck(const nlohmann::ordered_json& check) {
    EXPECT_GT(std::stoll(check["probe_tokens"].get<std::string>()), 0);
    const double logits = check["max_relative_logit_difference"];
    const double layer = check["max_relative_layer_difference"];
    EXPECT_LE(logits, check["relative_logit_bound"].get<double>());
    EXPECT_LE(layer, check["relative_layer_bound"].get<double>());
    // Rounding to bf16 shows: nothing was compared with itself.
    EXPECT_GT(logits, 0);
  }
};

TEST_F(ExportTest, ImportsFromTheServersDisk) {
  ASSERT_OK(WriteTinyModel(Path("imports/tiny"), {}));
  ASSERT_OK(WriteSampleAdapter(Path("imports/tiny-lora")));
  const CliRun model =
      Cli({"--json", "model", "import", "tiny", "tiny", "--server-path"});
  ASSERT_EQ(model.exit_code, 0) << model.err;
  ASSERT_OK_AND_ASSIGN(const auto base, GetModel("base"));
  EXPECT_EQ(model.json()["digest"], base.digest());
  const CliRun adapter =
      Cli({"model", "import", "tiny-lora", Path("imports/tiny-lora"), "--base",
           "tiny", "--server-path"});
  EXPECT_EQ(adapter.exit_code, 0) << adapter.err;
  const CliRun outside =
      Cli({"model", "import", "evil", Path("base"), "--server-path"});
  EXPECT_EQ(outside.exit_code, cli::kExitRefused) << outside.err;
  EXPECT_THAT(outside.err, HasSubstr("OUTSIDE_IMPORT_ROOT"));
}

TEST_F(ExportTest, ShowSaysWhatAnArtefactIs) {
  const CliRun model = Cli({"model", "show", "base"});
  EXPECT_THAT(model.out, AllOf(HasSubstr("llama"), HasSubstr("config.json"),
                               HasSubstr("digest")));
  const CliRun adapter = Cli({"model", "show", "lora"});
  EXPECT_THAT(adapter.out,
              AllOf(HasSubstr("base ("), HasSubstr("adapter_config.json")));
  EXPECT_EQ(Cli({"model", "show", "base", "--adapter"}).exit_code,
            cli::kExitNotFound);
  const CliRun nothing = Cli({"model", "show", "nothing"});
  EXPECT_EQ(nothing.exit_code, cli::kExitNotFound);
  EXPECT_THAT(nothing.err, HasSubstr("nothing"));
}

TEST_F(ExportTest, AdaptersComeBackAsTheyWereGiven) {
  for (const char* format : {"", "adapter"}) {
    const std::string out = Path(fmt::format("out-{}", format));
    std::vector<std::string> arguments = {"lora", "--output", out};
    if (*format != '\0') {
      arguments.insert(arguments.end(), {"--format", format});
    }
    const CliRun run = Export(arguments);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    for (const char* file :
         {"adapter_config.json", "adapter_model.safetensors"}) {
      ASSERT_OK_AND_ASSIGN(const auto sent,
                           ReadFile(JoinPath(Path("lora"), file)));
      ASSERT_OK_AND_ASSIGN(const auto got, ReadFile(JoinPath(out, file)));
      EXPECT_TRUE(sent == got) << file;
    }
  }
}

TEST_F(ExportTest, MergedModelsAreVerifiedAndSayHowFarTheyAre) {
  const CliRun run =
      Export({"lora", "--format", "merged", "--output", Path("merged")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ExpectGoodCheck(run.json()["merge_check"]);
  ASSERT_OK(ModelFiles::Open(Path("merged")));
  ASSERT_OK_AND_ASSIGN(const auto base,
                       ReadFile(Path("base/model.safetensors")));
  ASSERT_OK_AND_ASSIGN(const auto merged,
                       ReadFile(Path("merged/model.safetensors")));
  EXPECT_FALSE(base == merged);
  EXPECT_EQ(CountEntries("staging"), 0);
  EXPECT_EQ(CountEntries("models"), 1);  // nothing is stored

  const CliRun text = Cli({"model", "export", "lora", "--format", "merged",
                           "--output", Path("again")});
  EXPECT_THAT(text.out, AllOf(HasSubstr("merge check: logits differ by"),
                              HasSubstr("bound")));
  ASSERT_OK_AND_ASSIGN(const auto again,
                       ReadFile(Path("again/model.safetensors")));
  EXPECT_TRUE(merged == again);  // making is deterministic
}

TEST_F(ExportTest, SplitAdaptersAreTwoDirectories) {
  const CliRun run =
      Export({"lora", "--format", "split", "--output", Path("split")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ASSERT_TRUE(run.json().contains("merge_check")) << run.out;
  ASSERT_OK_AND_ASSIGN(const auto base, ModelFiles::Open(Path("split/base")));
  ASSERT_OK_AND_ASSIGN(const auto adapter,
                       ReadPeftAdapter(Path("split/adapter"), base->config()));
  EXPECT_TRUE(adapter.full.empty());
  EXPECT_EQ(adapter.base_model, "base");
  // No path of the server is in what leaves it.
  ASSERT_OK_AND_ASSIGN(const auto paths, ListFilesRecursive(Path("split")));
  for (const std::string& path : paths) {
    ASSERT_OK_AND_ASSIGN(const auto bytes,
                         ReadFile(JoinPath(Path("split"), path)));
    EXPECT_EQ(bytes.find(dir_->path()), std::string::npos) << path;
  }
}

TEST_F(ExportTest, GgufOfModelsAndAdaptersComesBackByImport) {
  for (const char* type : {"f32", "f16", "bf16", "q8_0"}) {
    const std::string out = Path(fmt::format("gguf-{}", type));
    const CliRun run = Export(
        {"base", "--format", "gguf", "--gguf-type", type, "--output", out});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_FALSE(run.json().contains("merge_check"));
    const std::string file = JoinPath(out, fmt::format("base-{}.gguf", type));
    ASSERT_OK_AND_ASSIGN(const std::string sha256, Sha256OfFile(file));
    const std::string name = fmt::format("from-{}", type);
    // Names have no '_'.
    const std::string model =
        name.substr(0, name.find('_')) + (type[0] == 'q' ? "0" : "");
    const CliRun import = Cli({"--json", "model", "import", model, file});
    ASSERT_EQ(import.exit_code, 0) << import.err;
    ASSERT_OK_AND_ASSIGN(const auto stored, GetModel(model));
    EXPECT_EQ(stored.lineage().gguf_sha256(), sha256);
    ASSERT_OK_AND_ASSIGN(const auto base, GetModel("base"));
    EXPECT_EQ(stored.architecture().parameter_count(),
              base.architecture().parameter_count());
    const CliRun show = Cli({"model", "show", model});
    EXPECT_THAT(show.out, HasSubstr(sha256));
  }
  const CliRun merged =
      Export({"lora", "--format", "gguf", "--output", Path("merged-gguf")});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  ExpectGoodCheck(merged.json()["merge_check"]);
  EXPECT_TRUE(FileExists(Path("merged-gguf/lora-bf16.gguf")));
  EXPECT_EQ(CountEntries("staging"), 0);
}

TEST_F(ExportTest, ABrokenGgufLeavesNothing) {
  for (const char* content : {"", "GGUF", "GGUF\3\0\0\0 and no more"}) {
    ASSERT_OK(WriteFileAtomic(Path("broken.gguf"), content));
    const CliRun run = Cli({"model", "import", "broken", Path("broken.gguf")});
    EXPECT_EQ(run.exit_code, cli::kExitRefused) << run.err;
    EXPECT_THAT(run.err,
                AllOf(HasSubstr("broken.gguf"), Not(HasSubstr("staging"))));
  }
  ASSERT_OK(WriteFileAtomic(Path("model.onnx"), "onnx"));
  const CliRun onnx = Cli({"model", "import", "onnx", Path("model.onnx")});
  EXPECT_EQ(onnx.exit_code, cli::kExitRefused);
  EXPECT_THAT(onnx.err, AllOf(HasSubstr("model.onnx"), HasSubstr(".gguf")));
  EXPECT_EQ(CountEntries("staging"), 0);
  EXPECT_EQ(CountEntries("models"), 1);
}

TEST_F(ExportTest, MergesCanBeRegisteredWithTheirLineage) {
  const std::vector<std::string> command = {
      "lora",  "--format",     "merged",  "--register-as",
      "books", "--request-id", "merge-1", "--output"};
  std::vector<std::string> first = command;
  first.push_back(Path("books"));
  const CliRun run = Export(first);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ASSERT_OK_AND_ASSIGN(const auto model, GetModel("books"));
  ASSERT_OK_AND_ASSIGN(const auto base, GetModel("base"));
  ASSERT_OK_AND_ASSIGN(const auto adapter, Adapter("lora"));
  EXPECT_EQ(model.base_model(), "base");
  EXPECT_EQ(model.base_model_digest(), base.digest());
  EXPECT_EQ(model.lineage().adapter(), "lora");
  EXPECT_EQ(model.lineage().adapter_digest(), adapter.digest());
  EXPECT_GT(model.lineage().merge_check().probe_tokens(), 0);
  ExpectGoodCheck(run.json()["lineage"]["merge_check"]);
  ASSERT_OK(ModelFiles::Open(Path("books")));
  // It is a model like any other.
  const CliRun show = Cli({"model", "show", "books"});
  EXPECT_THAT(show.out,
              AllOf(HasSubstr("merged from"), HasSubstr("lora ("),
                    HasSubstr("merge check"), HasSubstr("model.safetensors")));

  // Repeated: by request, and by name and adapter.
  for (const char* id : {"merge-1", "merge-2"}) {
    const CliRun again = Export({"lora", "--format", "merged", "--register-as",
                                 "books", "--request-id", id});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(again.json()["digest"], model.digest());
  }
  const CliRun taken =
      Export({"lora", "--format", "merged", "--register-as", "base"});
  EXPECT_EQ(taken.exit_code, cli::kExitRefused);
  EXPECT_THAT(taken.err, HasSubstr("NAME_TAKEN"));
  EXPECT_EQ(CountEntries("models"), 2);
  EXPECT_EQ(CountEntries("staging"), 0);
}

TEST_F(ExportTest, AnExportThatIsCutGoesOn) {
  // A file that is carried over makes it big enough to be cut.
  const std::string big(size_t{8} << 20, 'x');
  ASSERT_OK(WriteTinyModel(Path("big"), {}));
  ASSERT_OK(WriteFileAtomic(Path("big/merges.txt"), big));
  ASSERT_EQ(Cli({"model", "import", "big", Path("big")}).exit_code, 0);
  ASSERT_EQ(Cli({"model", "import", "big-lora", Path("lora"), "--base", "big"})
                .exit_code,
            0);
  ASSERT_OK_AND_ASSIGN(const auto proxy,
                       CuttingProxy::Start(trainer_address()));
  proxy->CutAfter(int64_t{3} << 20, 1);
  const CliRun run =
      RunCli(proxy->address(), {"model", "export", "big-lora", "--format",
                                "split", "--output", Path("cut")});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  ASSERT_OK(ModelFiles::Open(Path("cut/base")));
}

TEST_F(ExportTest, RequestsThatMakeNoSenseAreRefusedByName) {
  v1::ExportRequest request;
  EXPECT_THAT(ExportStatus(request),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("adapter")));
  request.set_model("base");
  EXPECT_THAT(ExportStatus(request),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("format")));
  request.set_format(v1::EXPORT_FORMAT_MERGED);
  EXPECT_THAT(ExportStatus(request),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("model base")));
  request.set_adapter("lora");
  request.set_gguf_type(v1::GGUF_TYPE_F16);
  EXPECT_THAT(ExportStatus(request),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("gguf_type")));
  request.clear_gguf_type();
  request.set_adapter("nothing");
  EXPECT_THAT(ExportStatus(request),
              StatusIs(StatusCode::kNotFound, HasSubstr("nothing")));
  request.set_adapter("lora");
  request.set_digest(std::string(64, 'a'));
  EXPECT_THAT(ExportStatus(request), StatusIs(StatusCode::kAborted));
  EXPECT_EQ(CountEntries("staging"), 0);

  const std::vector<std::vector<std::string>> usage = {
      {"lora"},
      {"lora", "--output", Path("x"), "--format", "onnx"},
      {"lora", "--output", Path("x"), "--gguf-type", "f16"},
      {"lora", "--output", Path("x"), "--format", "gguf", "--gguf-type", "q4"},
      {"lora", "--register-as", "x"}};
  for (const auto& arguments : usage) {
    EXPECT_EQ(Export(arguments).exit_code, cli::kExitUsage);
  }
  EXPECT_EQ(
      Export({"base", "--format", "merged", "--output", Path("x")}).exit_code,
      cli::kExitNotFound);
  EXPECT_FALSE(FileExists(Path("x")));
}

}  // namespace
}  // namespace sinklora::testing
