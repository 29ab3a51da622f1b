// SPDX-License-Identifier: Apache-2.0
#include "services/curator/curator_core.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "absl/strings/escaping.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace sinklora::curator {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;
constexpr int64_t kProgressIntervalMicros = 250'000;

// Page tokens are opaque to clients and name the last dataset of their page.
constexpr std::string_view kPageTokenPrefix = "after:";

std::string MakePageToken(const std::string& last_name) {
  return absl::WebSafeBase64Escape(std::string(kPageTokenPrefix) + last_name);
}

absl::StatusOr<std::string> ParsePageToken(const std::string& token) {
  if (token.empty()) return std::string();
  std::string text;
  if (absl::WebSafeBase64Unescape(token, &text) &&
      text.starts_with(kPageTokenPrefix)) {
    std::string name = text.substr(kPageTokenPrefix.size());
    if (ValidateId("page_token", name).ok()) return name;
  }
  return MakeError(absl::StatusCode::kInvalidArgument,
                   "page_token is not one of ListDatasets' next_page_token",
                   {"INVALID_PAGE_TOKEN", {{"field", "page_token"}}});
}

// Lets a stage's first and last report through, and four a second in between.
class ProgressLimiter {
 public:
  ProgressLimiter(Clock* clock, const ProgressFn& sink)
      : clock_(clock), sink_(sink) {}
  void operator()(const char* stage, int64_t done, int64_t total) {
    const int64_t now = clock_->MonotonicMicros();
    if (stage == stage_ && done < total &&
        now - last_micros_ < kProgressIntervalMicros) {
      return;
    }
    stage_ = stage;
    last_micros_ = now;
    sink_(stage, done, total);
  }

 private:
  Clock* const clock_;
  const ProgressFn& sink_;
  std::string_view stage_;
  int64_t last_micros_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CuratorCore>> CuratorCore::Create(
    Options options) {
  if (options.threads < 1) {
    return absl::InvalidArgumentError(
        fmt::format("threads is {}, must be at least 1", options.threads));
  }
  const DataLayout layout{options.data_dir};
  SL_RETURN_IF_ERROR(MakeDirs(layout.root));
  // First of all: it locks the directory against other processes.
  SL_ASSIGN_OR_RETURN(auto store, OpenRocksStore(layout.store()));
  for (const std::string& directory :
       {layout.sources(), layout.datasets(), layout.tokenizers()}) {
    SL_RETURN_IF_ERROR(MakeDirs(directory));
  }
  SL_RETURN_IF_ERROR(RemoveAll(layout.staging()));
  SL_RETURN_IF_ERROR(MakeDirs(layout.staging()));
  std::unique_ptr<CuratorCore> core(
      new CuratorCore(std::move(options), layout, std::move(store)));
  SL_RETURN_IF_ERROR(core->Recover());
  return core;
}

CuratorCore::CuratorCore(Options options, DataLayout layout,
                         std::unique_ptr<Store> store)
    : options_(std::move(options)),
      layout_(std::move(layout)),
      store_(std::move(store)),
      catalog_(store_.get(), options_.clock),
      tokenizers_(layout_, options_.models),
      sources_({.layout = layout_,
                .catalog = &catalog_,
                .locks = &locks_,
                .metrics = options_.metrics,
                .disk = options_.disk,
                .clock = options_.clock}),
      datasets_({.layout = layout_,
                 .threads = options_.threads,
                 .catalog = &catalog_,
                 .locks = &locks_,
                 .sources = &sources_,
                 .tokenizers = &tokenizers_,
                 .metrics = options_.metrics,
                 .clock = options_.clock}) {}

absl::Status CuratorCore::Recover() {
  std::set<std::string> source_digests;
  std::set<std::string> dataset_digests;
  int64_t sources = 0;
  int64_t datasets = 0;
  for (std::string after;;) {
    SL_ASSIGN_OR_RETURN(const auto page,
                        catalog_.ListSources(after, kMaxPageSize));
    if (page.empty()) break;
    for (const SourceInfo& source : page) source_digests.insert(source.digest);
    sources += static_cast<int64_t>(page.size());
    after = page.back().name;
  }
  for (std::string after;;) {
    SL_ASSIGN_OR_RETURN(const auto page,
                        catalog_.ListDatasets(after, kMaxPageSize));
    if (page.empty()) break;
    for (const DatasetInfo& dataset : page) {
      dataset_digests.insert(dataset.digest);
    }
    datasets += static_cast<int64_t>(page.size());
    after = page.back().name;
  }
  options_.metrics->SetStored(sources, datasets);
  SL_RETURN_IF_ERROR(RemoveUnreferenced(layout_.sources(), source_digests));
  return RemoveUnreferenced(layout_.datasets(), dataset_digests);
}

CancelledFn CuratorCore::OrStopping(const CancelledFn& cancelled) const {
  return [this, cancelled] {
    return stopping_.load(std::memory_order_acquire) || cancelled();
  };
}

absl::StatusOr<std::unique_ptr<TempDir>> CuratorCore::NewUploadDir() {
  return TempDir::Create(layout_.staging());
}

absl::StatusOr<SourceInfo> CuratorCore::ImportSource(
    const ImportRequest& request, const std::string& directory,
    std::vector<StoredFile> files, const CancelledFn& cancelled) {
  return sources_.Import(request, directory, std::move(files),
                         OrStopping(cancelled));
}

absl::StatusOr<DatasetInfo> CuratorCore::Curate(const CurateRequest& request,
                                                const CancelledFn& cancelled,
                                                const ProgressFn& progress) {
  SL_RETURN_IF_ERROR(options_.disk->CheckRoom());
  ProgressLimiter limiter(options_.clock, progress);
  return datasets_.Curate(
      request, OrStopping(cancelled),
      [&limiter](const char* stage, int64_t done, int64_t total) {
        limiter(stage, done, total);
      });
}

absl::StatusOr<DatasetInfo> CuratorCore::GetDataset(const std::string& name) {
  SL_RETURN_IF_ERROR(ValidateId("name", name));
  return catalog_.GetDataset(name);
}

absl::StatusOr<CuratorCore::DatasetPage> CuratorCore::ListDatasets(
    int64_t page_size, const std::string& page_token) {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     fmt::format("page_size is {}, must be in [0, {}]",
                                 page_size, kMaxPageSize),
                     {"INVALID_PAGE_SIZE", {{"field", "page_size"}}});
  }
  SL_ASSIGN_OR_RETURN(const std::string after, ParsePageToken(page_token));
  const int limit =
      page_size == 0 ? kDefaultPageSize : static_cast<int>(page_size);
  DatasetPage page;
  // One more than asked for tells whether this page is the last.
  SL_ASSIGN_OR_RETURN(page.datasets, catalog_.ListDatasets(after, limit + 1));
  if (page.datasets.size() > static_cast<size_t>(limit)) {
    page.datasets.pop_back();
    page.next_page_token = MakePageToken(page.datasets.back().name);
  }
  return page;
}

absl::StatusOr<DatasetStore::Export> CuratorCore::MakeExport(
    const std::string& name, const CancelledFn& cancelled) {
  SL_RETURN_IF_ERROR(options_.disk->CheckRoom());
  return datasets_.MakeExport(name, OrStopping(cancelled));
}

}  // namespace sinklora::curator
