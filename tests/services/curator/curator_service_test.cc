// CuratorService over a real server and channel, with a registry beside it.
//
// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/hash.h"
#include "common/base/ids.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "common/rpc/status_translation.h"
#include "nlohmann/json.hpp"
#include "services/curator/curator.h"
#include "sinklora/curator/v1/curator_service.grpc.pb.h"
#include "tests/services/curator/client.h"
#include "tests/services/curator/fake_registry.h"
#include "tests/services/curator/fixture.h"

namespace sinklora::curator {
namespace {

using ::sinklora::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class CuratorServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(temp_, TempDir::Create());
    model_dir_ = JoinPath(temp_->path(), "model");
    ASSERT_OK(WriteTokenizer(model_dir_));
    // Must never be asked for.
    ASSERT_OK(WriteUnsynced(JoinPath(model_dir_, "model.safetensors"), "big"));
    metrics_ = MetricsRegistry::Create();
    executor_ = Executor::Create({.name = "test"});
    registry_ = std::make_unique<FakeRegistry>(
        RpcContext{"RegistryService", executor_.get(), metrics_.get()},
        model_dir_);
    ASSERT_OK_AND_ASSIGN(registry_server_,
                         RpcServer::Create({}, {registry_.get()}));
    registry_address_ = registry_server_->address();
    Start();
  }
  void TearDown() override {
    registry_->Release();
    Stop();
    registry_server_->Drain(10);
    executor_->Shutdown();
  }

  void Start() {
    ASSERT_OK_AND_ASSIGN(disk_, DiskBudget::Create(temp_->path(), 0));
    ASSERT_OK_AND_ASSIGN(
        curator_, Curator::Create(
                      {.data_dir = data_dir(),
                       .registry_address = [this] { return registry_address_; },
                       .threads = 2,
                       .metrics = metrics_.get(),
                       .executor = executor_.get(),
                       .disk = disk_.get()}));
    ASSERT_OK_AND_ASSIGN(server_, RpcServer::Create({}, {curator_->service()}));
    client_ = std::make_unique<CuratorClient>(server_->address());
  }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Drain(10);
    server_.reset();
    curator_.reset();
  }

  std::string data_dir() const { return JoinPath(temp_->path(), "data"); }

  absl::StatusOr<v1::Source> Import(
      const std::string& name, const Files& files,
      const std::string& request_id = NewRequestId()) {
    return client_->Import(name, files, request_id);
  }
  absl::StatusOr<v1::Dataset> Curate(
      const v1::CurateRequest& request,
      std::vector<std::string>* stages = nullptr) {
    return client_->Curate(request, stages);
  }
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) {
    return client_->GetDataset(name);
  }
  absl::StatusOr<std::vector<v1::StreamExamplesResponse>> Stream(
      const v1::StreamExamplesRequest& request) {
    return client_->Stream(request);
  }
  v1::CuratorService::Stub& stub() { return client_->stub(); }

  std::unique_ptr<TempDir> temp_;
  std::string model_dir_;
  std::string registry_address_;
  std::unique_ptr<MetricsRegistry> metrics_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<FakeRegistry> registry_;
  std::unique_ptr<RpcServer> registry_server_;
  std::unique_ptr<DiskBudget> disk_;
  std::unique_ptr<Curator> curator_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<CuratorClient> client_;
};

TEST_F(CuratorServiceTest, ImportCurateGetListStreamExport) {
  const std::string text = SomeText(1, 3000);
  ASSERT_OK_AND_ASSIGN(const v1::Source source,
                       Import("docs", {{"dir/a.txt", text}, {"b.txt", "ü"}}));
  EXPECT_EQ(source.record_count(), 2);
  EXPECT_EQ(source.format(), v1::SOURCE_FORMAT_PLAIN_TEXT);
  EXPECT_EQ(source.files_size(), 2);
  EXPECT_GT(source.create_time().seconds(), 0);

  std::vector<std::string> stages;
  ASSERT_OK_AND_ASSIGN(const v1::Dataset dataset,
                       Curate(RequestOf("d", "docs", "c1"), &stages));
  EXPECT_THAT(stages,
              ElementsAre("read", "deduplicate", "tokenize", "pack", "write"));
  EXPECT_EQ(dataset.recipe().builder(), v1::BUILDER_PACKED_TEXT);
  EXPECT_TRUE(dataset.recipe().has_validation_fraction());
  EXPECT_THAT(dataset.source_digests(), ElementsAre(source.digest()));
  EXPECT_GT(dataset.counts().train_examples(), 10);
  ASSERT_OK_AND_ASSIGN(const v1::Dataset got, GetDataset("d"));
  EXPECT_EQ(got.SerializeAsString(), dataset.SerializeAsString());

  v1::ListDatasetsResponse list;
  const auto list_context = MakeContext(kTimeoutSeconds);
  ASSERT_OK(FromGrpc(stub().ListDatasets(list_context.get(), {}, &list)));
  ASSERT_EQ(list.datasets_size(), 1);
  EXPECT_EQ(list.datasets(0).digest(), dataset.digest());

  v1::StreamExamplesRequest stream;
  stream.set_name("d");
  stream.set_digest(dataset.digest());
  ASSERT_OK_AND_ASSIGN(const auto all, Stream(stream));
  ASSERT_EQ(static_cast<int64_t>(all.size()),
            dataset.counts().train_examples());
  int64_t tokens = 0;
  int64_t supervised = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].index(), static_cast<int64_t>(i));
    const v1::Example& example = all[i].example();
    ASSERT_EQ(example.supervised().size(),
              static_cast<size_t>(example.token_ids_size()));
    tokens += example.token_ids_size();
    for (const char bit : example.supervised()) supervised += bit;
  }
  EXPECT_EQ(tokens, dataset.counts().train_tokens());
  EXPECT_EQ(supervised, dataset.counts().train_supervised_tokens());

  ASSERT_OK_AND_ASSIGN(const auto out, TempDir::Create());
  FileReceiver receiver(out->path(), int64_t{1} << 30);
  v1::ExportDatasetRequest request;
  request.set_name("d");
  const auto context = MakeContext(kTimeoutSeconds);
  const auto reader = stub().ExportDataset(context.get(), request);
  v1::ExportDatasetResponse piece;
  while (reader->Read(&piece)) ASSERT_OK(receiver.Accept(piece.chunk()));
  ASSERT_OK(FromGrpc(reader->Finish()));
  ASSERT_OK(receiver.Finish());
  EXPECT_THAT(ListNames(out->path()),
              ElementsAre("ledger.jsonl", "manifest.json", "train.jsonl",
                          "validation.jsonl"));
  ASSERT_OK_AND_ASSIGN(const std::string train,
                       ReadFile(JoinPath(out->path(), "train.jsonl")));
  const auto first = nlohmann::json::parse(train.substr(0, train.find('\n')));
  EXPECT_EQ(first.at("token_ids").size(), 64u);
  EXPECT_THAT(text + "ü",
              HasSubstr(first.at("text").get<std::string>().substr(0, 20)));
  EXPECT_EQ(std::count(train.begin(), train.end(), '\n'),
            dataset.counts().train_examples());
}

TEST_F(CuratorServiceTest, StreamsAnyRange) {
  ASSERT_OK(Import("docs", {{"a.txt", SomeText(1, 2000)}}));
  ASSERT_OK_AND_ASSIGN(const v1::Dataset dataset,
                       Curate(RequestOf("d", "docs", "c1")));
  const int64_t count = dataset.counts().train_examples();
  ASSERT_GT(count, 5);
  v1::StreamExamplesRequest request;
  request.set_name("d");
  request.set_first_example(2);
  request.set_max_examples(3);
  ASSERT_OK_AND_ASSIGN(const auto middle, Stream(request));
  ASSERT_EQ(middle.size(), 3u);
  EXPECT_EQ(middle[0].index(), 2);
  request.set_first_example(count - 1);
  request.set_max_examples(INT64_MAX);
  ASSERT_OK_AND_ASSIGN(const auto last, Stream(request));
  EXPECT_EQ(last.size(), 1u);
  request.set_first_example(count);
  ASSERT_OK_AND_ASSIGN(const auto none, Stream(request));
  EXPECT_EQ(none.size(), 0u);
  request.set_first_example(count + 1);
  EXPECT_THAT(Stream(request), StatusIs(absl::StatusCode::kOutOfRange));
  request.set_first_example(-1);
  EXPECT_THAT(Stream(request), StatusIs(kInvalid, HasSubstr("-1")));
  request.set_first_example(0);
  request.set_split(v1::SPLIT_VALIDATION);
  ASSERT_OK_AND_ASSIGN(const auto validation, Stream(request));
  EXPECT_EQ(validation.size(), 0u);
  request.set_split(static_cast<v1::Split>(77));
  EXPECT_THAT(Stream(request), StatusIs(kInvalid, HasSubstr("split is 77")));
  request.clear_split();
  request.set_digest("abc");
  EXPECT_THAT(Stream(request), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CuratorServiceTest, ErrorsCarryTheirDetails) {
  std::string lines;
  for (int i = 1; i <= 17; ++i) {
    lines += i == 17 ? "{\"instruction\":\"a\"}\n"
                     : "{\"instruction\":\"a\",\"output\":\"b\"}\n";
  }
  const auto bad = Import("qa", {{"x/bad.jsonl", lines}});
  EXPECT_THAT(bad, StatusIs(kInvalid,
                            AllOf(HasSubstr("x/bad.jsonl"),
                                  HasSubstr("line 17"), HasSubstr("output"))));
  const ErrorDetail detail = GetErrorDetail(bad.status());
  EXPECT_EQ(detail.reason, "INVALID_RECORD");
  EXPECT_EQ(detail.metadata.at("line"), "17");
  EXPECT_EQ(detail.metadata.at("field"), "output");

  EXPECT_THAT(GetDataset("none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(GetDataset("../etc"), StatusIs(kInvalid));
  ASSERT_OK(Import("docs", {{"a.txt", SomeText(1, 200)}}));
  v1::CurateRequest request = RequestOf("d", "docs", "c1");
  request.mutable_recipe()->set_tokenizer_model("unknown");
  EXPECT_THAT(Curate(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("unknown")));
  request.mutable_recipe()->set_builder(static_cast<v1::Builder>(9));
  EXPECT_THAT(Curate(request), StatusIs(kInvalid, HasSubstr("builder is 9")));
}

TEST_F(CuratorServiceTest, RequestsAreIdempotentAlsoAfterARestart) {
  const Files files = {{"a.txt", SomeText(1, 300)}};
  ASSERT_OK_AND_ASSIGN(const v1::Source source, Import("docs", files, "r1"));
  const v1::CurateRequest request = RequestOf("d", "docs", "c1");
  ASSERT_OK_AND_ASSIGN(const v1::Dataset dataset, Curate(request));
  for (const bool restart : {false, true}) {
    if (restart) {
      Stop();
      Start();
    }
    ASSERT_OK_AND_ASSIGN(const v1::Source source_again,
                         Import("docs", files, "r1"));
    EXPECT_EQ(source_again.SerializeAsString(), source.SerializeAsString());
    ASSERT_OK_AND_ASSIGN(const v1::Dataset dataset_again, Curate(request));
    EXPECT_EQ(dataset_again.digest(), dataset.digest());
    EXPECT_EQ(dataset_again.create_time().nanos(),
              dataset.create_time().nanos());
  }
  EXPECT_THAT(Import("docs", {{"a.txt", "other"}}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  v1::CurateRequest other = RequestOf("d", "docs", "c2");
  other.mutable_recipe()->set_context_tokens(32);
  EXPECT_THAT(Curate(other), StatusIs(absl::StatusCode::kAlreadyExists));
  // Replays need no registry, new curations do.
  registry_address_.clear();
  EXPECT_OK(Curate(request));
  EXPECT_THAT(Curate(RequestOf("d3", "docs", "c3")),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("registry")));
}

TEST_F(CuratorServiceTest, UploadsThatBreakOffLeaveNothing) {
  const auto upload = [&](const std::vector<v1::ImportSourceRequest>& messages,
                          bool cancel) {
    v1::ImportSourceResponse response;
    const auto context = MakeContext(kTimeoutSeconds);
    const auto writer = stub().ImportSource(context.get(), &response);
    for (const auto& message : messages) writer->Write(message);
    if (cancel) {
      context->TryCancel();
    } else {
      writer->WritesDone();
    }
    return FromGrpc(writer->Finish());
  };
  v1::ImportSourceRequest header, chunk;
  header.mutable_header()->set_name("docs");
  header.mutable_header()->set_request_id("r1");
  header.mutable_header()->mutable_size()->set_file_count(2);
  header.mutable_header()->mutable_size()->set_total_bytes(18);
  chunk.mutable_chunk()->set_path("a.txt");
  chunk.mutable_chunk()->set_data("half of it");
  EXPECT_THAT(upload({}, false), StatusIs(kInvalid, HasSubstr("header")));
  EXPECT_THAT(upload({chunk}, false), StatusIs(kInvalid, HasSubstr("header")));
  EXPECT_THAT(upload({header, header}, false),
              StatusIs(kInvalid, HasSubstr("chunk")));
  EXPECT_THAT(upload({header, chunk}, false),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a.txt")));
  EXPECT_THAT(upload({header, chunk}, true),
              StatusIs(absl::StatusCode::kCancelled));
  v1::ImportSourceRequest escape = chunk;
  escape.mutable_chunk()->set_path("../../evil");
  EXPECT_THAT(upload({header, escape}, false), StatusIs(kInvalid));
  v1::ImportSourceRequest wrong = chunk;
  wrong.mutable_chunk()->set_last(true);
  wrong.mutable_chunk()->set_sha256(std::string(64, '0'));
  EXPECT_THAT(upload({header, wrong}, false),
              StatusIs(absl::StatusCode::kDataLoss));
  // Cut between two files, which looks like an end.
  v1::ImportSourceRequest whole = chunk;
  whole.mutable_chunk()->set_last(true);
  whole.mutable_chunk()->set_sha256(Sha256Hex("half of it"));
  EXPECT_THAT(upload({header, whole}, false),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("1 files and 10 bytes"),
                             HasSubstr("announced 2 files and 18 bytes"))));
  header.mutable_header()->clear_size();
  EXPECT_THAT(upload({header, whole}, false),
              StatusIs(kInvalid, HasSubstr("header.size")));
  header.mutable_header()->mutable_size()->set_file_count(1);
  header.mutable_header()->mutable_size()->set_total_bytes(INT64_MAX);
  EXPECT_THAT(upload({header}, false),
              StatusIs(absl::StatusCode::kResourceExhausted));
  // The server has finished all of them when it is down.
  Stop();
  EXPECT_THAT(ListNames(JoinPath(data_dir(), "staging")), IsEmpty());
  EXPECT_THAT(ListNames(JoinPath(data_dir(), "sources")), IsEmpty());
  Start();
  EXPECT_OK(Import("docs", {{"a.txt", "all of it"}}, "r1"));
}

TEST_F(CuratorServiceTest, CancelledCurationLeavesNothing) {
  ASSERT_OK(Import("docs", {{"a.txt", SomeText(1, 300)}}));
  registry_->Hold();
  {
    const auto context = MakeContext(kTimeoutSeconds);
    const auto reader =
        stub().Curate(context.get(), RequestOf("d", "docs", "c1"));
    registry_->WaitUntilAsked();
    context->TryCancel();
    EXPECT_THAT(FromGrpc(reader->Finish()),
                StatusIs(absl::StatusCode::kCancelled));
  }
  // A call behind the cancellation on the same connection: the server has seen
  // it by now.
  EXPECT_THAT(GetDataset("d"), StatusIs(absl::StatusCode::kNotFound));
  registry_->Release();
  Stop();
  EXPECT_THAT(ListNames(JoinPath(data_dir(), "staging")), IsEmpty());
  EXPECT_THAT(ListNames(JoinPath(data_dir(), "datasets")), IsEmpty());
  Start();
  EXPECT_THAT(GetDataset("d"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(Curate(RequestOf("d", "docs", "c1")));
}

}  // namespace
}  // namespace sinklora::curator
