// SPDX-License-Identifier: Apache-2.0
#include "services/curator/catalog.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "services/curator/metadata_json.h"

namespace sinklora::curator {
namespace {

constexpr char kSourcePrefix[] = "source/";
constexpr char kDatasetPrefix[] = "dataset/";

template <typename T>
using Parser = absl::StatusOr<T> (*)(std::string_view);

template <typename T>
absl::StatusOr<T> Get(Store* store, const std::string& prefix,
                      const std::string& name, const char* kind,
                      Parser<T> parse) {
  auto value = store->Get(prefix + name);
  if (absl::IsNotFound(value.status())) {
    return MakeError(absl::StatusCode::kNotFound,
                     fmt::format("{} \"{}\" does not exist", kind, name),
                     {"NOT_FOUND", {{kind, name}}});
  }
  SL_RETURN_IF_ERROR(value.status());
  return parse(*value);
}

template <typename T>
absl::StatusOr<std::vector<T>> List(Store* store, const std::string& prefix,
                                    const std::string& after, int limit,
                                    Parser<T> parse) {
  SL_ASSIGN_OR_RETURN(
      const auto pairs,
      store->Scan(prefix, after.empty() ? "" : prefix + after, limit));
  std::vector<T> values;
  for (const auto& [key, text] : pairs) {
    SL_ASSIGN_OR_RETURN(T value, parse(text));
    values.push_back(std::move(value));
  }
  return values;
}

template <typename T>
absl::StatusOr<std::optional<T>> FindResponse(RequestLog* log,
                                              const RequestKey& key,
                                              Parser<T> parse) {
  SL_ASSIGN_OR_RETURN(const std::optional<std::string> response,
                      log->Find(key.method, key.request_id, key.fingerprint));
  if (!response.has_value()) return std::optional<T>();
  SL_ASSIGN_OR_RETURN(T value, parse(*response));
  return std::optional<T>(std::move(value));
}

}  // namespace

absl::StatusOr<SourceInfo> Catalog::GetSource(const std::string& name) {
  return Get<SourceInfo>(store_, kSourcePrefix, name, "source", ParseSource);
}

absl::StatusOr<DatasetInfo> Catalog::GetDataset(const std::string& name) {
  return Get<DatasetInfo>(store_, kDatasetPrefix, name, "dataset",
                          ParseDataset);
}

absl::StatusOr<std::vector<SourceInfo>> Catalog::ListSources(
    const std::string& after, int limit) {
  return List<SourceInfo>(store_, kSourcePrefix, after, limit, ParseSource);
}

absl::StatusOr<std::vector<DatasetInfo>> Catalog::ListDatasets(
    const std::string& after, int limit) {
  return List<DatasetInfo>(store_, kDatasetPrefix, after, limit, ParseDataset);
}

absl::StatusOr<std::optional<SourceInfo>> Catalog::FindImport(
    const RequestKey& key) {
  return FindResponse<SourceInfo>(&request_log_, key, ParseSource);
}

absl::StatusOr<std::optional<DatasetInfo>> Catalog::FindCurate(
    const RequestKey& key) {
  return FindResponse<DatasetInfo>(&request_log_, key, ParseDataset);
}

absl::Status Catalog::PutSource(const SourceInfo& source,
                                const RequestKey& key) {
  return Put(kSourcePrefix + source.name, SerializeSource(source), key);
}

absl::Status Catalog::PutDataset(const DatasetInfo& dataset,
                                 const RequestKey& key) {
  return Put(kDatasetPrefix + dataset.name, SerializeDataset(dataset), key);
}

absl::Status Catalog::Put(const std::string& key, const std::string& value,
                          const RequestKey& request) {
  WriteBatch batch;
  batch.Put(key, value);
  request_log_.Record(request.method, request.request_id, request.fingerprint,
                      value, &batch);
  return store_->Write(batch);
}

}  // namespace sinklora::curator
