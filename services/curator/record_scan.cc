// SPDX-License-Identifier: Apache-2.0
#include "services/curator/record_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "common/base/hash.h"
#include "common/base/status.h"
#include "services/curator/parallel.h"

namespace sinklora::curator {
namespace {

// Records between two progress reports.
constexpr int64_t kWindowRecords = 256;

absl::Status ScanOne(const SourceReader& source, const Recipe& recipe,
                     LedgerEntry* entry) {
  SL_ASSIGN_OR_RETURN(const Record record, source.Read(entry->record));
  entry->file = record.file;
  entry->index = record.index;
  entry->content_sha256 = ContentSha256(record);
  entry->text_bytes = TextBytes(record);
  if (IsBlank(record)) {
    entry->reason = RejectReason::kEmpty;
  } else if (entry->text_bytes < recipe.min_document_bytes) {
    entry->reason = RejectReason::kTooShort;
  }
  return absl::OkStatus();
}

// A hash of the content under one purpose and seed, as hexadecimal digits.
std::string KeyedHash(const char* purpose, uint64_t seed,
                      const std::string& content_sha256) {
  return Sha256Hex(fmt::format("{}:{}:{}", purpose, seed, content_sha256));
}

}  // namespace

absl::StatusOr<std::vector<LedgerEntry>> ScanRecords(
    const std::vector<const SourceReader*>& sources, const Recipe& recipe,
    int threads, const CancelledFn& cancelled, const ProgressFn& progress) {
  std::vector<LedgerEntry> entries;
  for (size_t source = 0; source < sources.size(); ++source) {
    for (int64_t i = 0; i < sources[source]->record_count(); ++i) {
      LedgerEntry& entry = entries.emplace_back();
      entry.source = static_cast<int32_t>(source);
      entry.record = i;
    }
  }
  const auto total = static_cast<int64_t>(entries.size());
  for (int64_t begin = 0; begin < total; begin += kWindowRecords) {
    const int64_t count = std::min(kWindowRecords, total - begin);
    SL_RETURN_IF_ERROR(ParallelFor(threads, count, [&](int64_t i) {
      if (cancelled()) return absl::CancelledError("curation was cancelled");
      LedgerEntry& entry = entries[static_cast<size_t>(begin + i)];
      return ScanOne(*sources[static_cast<size_t>(entry.source)], recipe,
                     &entry);
    }));
    progress("read", begin + count, total);
  }
  return entries;
}

void RejectDuplicates(std::vector<LedgerEntry>* entries) {
  std::unordered_map<std::string_view, int64_t> first_by_content;
  for (size_t i = 0; i < entries->size(); ++i) {
    LedgerEntry& entry = (*entries)[i];
    if (!entry.kept()) continue;
    const auto [first, inserted] =
        first_by_content.emplace(entry.content_sha256, static_cast<int64_t>(i));
    if (inserted) continue;
    entry.reason = RejectReason::kDuplicate;
    entry.duplicate_of = first->second;
  }
}

Split SplitOf(const std::string& content_sha256, uint64_t seed,
              double validation_fraction) {
  // 52 bits: exact in a double.
  constexpr size_t kDigits = 13;
  const std::string hash = KeyedHash("split", seed, content_sha256);
  uint64_t bits = 0;
  std::from_chars(hash.data(), hash.data() + kDigits, bits, 16);
  const double uniform = static_cast<double>(bits) * 0x1.0p-52;
  return uniform < validation_fraction ? Split::kValidation : Split::kTrain;
}

std::vector<int64_t> DatasetOrder(const std::vector<LedgerEntry>& entries,
                                  uint64_t seed) {
  std::vector<std::pair<std::string, int64_t>> keyed;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].kept()) continue;
    keyed.emplace_back(KeyedHash("shuffle", seed, entries[i].content_sha256),
                       static_cast<int64_t>(i));
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<int64_t> order;
  order.reserve(keyed.size());
  for (const auto& [hash, position] : keyed) order.push_back(position);
  return order;
}

}  // namespace sinklora::curator
