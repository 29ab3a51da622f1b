// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_checksum.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <string_view>

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/store/store.h"

namespace sinklora {
namespace {

// This RocksDB aborts the process when the disk is full while it flushes, so
// writes stop while there is still room for everything in flight: two
// memtables, the log and a compaction.
constexpr int64_t kReserveBytes = int64_t{32} << 20;
constexpr size_t kWriteBufferBytes = size_t{4} << 20;
constexpr uint64_t kMaxWalBytes = uint64_t{8} << 20;
// Bounded, so that sockets keep descriptors.
constexpr int kMaxOpenFiles = 128;
constexpr size_t kProtectionBytes = 8;

absl::StatusCode ToCode(const rocksdb::Status& status) {
  if (status.IsNotFound()) return absl::StatusCode::kNotFound;
  if (status.IsCorruption()) return absl::StatusCode::kDataLoss;
  if (status.IsInvalidArgument()) return absl::StatusCode::kInvalidArgument;
  if (status.IsNoSpace()) return absl::StatusCode::kResourceExhausted;
  if (status.IsBusy() || status.IsTimedOut()) {
    return absl::StatusCode::kUnavailable;
  }
  return absl::StatusCode::kInternal;
}

absl::Status ToAbsl(const rocksdb::Status& status, std::string_view action) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(ToCode(status),
                      fmt::format("store: {}: {}", action, status.ToString()));
}

rocksdb::Options MakeOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  // After a crash: everything up to the first damaged record, which is
  // everything acknowledged. The stricter mode would refuse to open after any
  // kill in the middle of an unacknowledged write.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.paranoid_checks = true;
  options.paranoid_file_checks = true;
  options.force_consistency_checks = true;
  options.memtable_protection_bytes_per_key = kProtectionBytes;
  options.file_checksum_gen_factory =
      rocksdb::GetFileChecksumGenCrc32cFactory();
  // Recovers by itself from a full disk where the library can.
  options.sst_file_manager.reset(
      rocksdb::NewSstFileManager(rocksdb::Env::Default()));
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = kMaxWalBytes;
  options.max_open_files = kMaxOpenFiles;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// The first key after all keys with `prefix`; empty when there is none.
std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) {
    prefix.pop_back();
  }
  if (!prefix.empty()) ++prefix.back();
  return prefix;
}

class RocksStore final : public Store {
 public:
  RocksStore(std::string directory, std::unique_ptr<rocksdb::DB> db)
      : directory_(std::move(directory)), db_(std::move(db)) {}
  absl::StatusOr<std::string> Get(const std::string& key) override;
  absl::Status Write(const WriteBatch& batch) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Scan(
      const std::string& prefix, const std::string& after, int limit) override;

 private:
  absl::Status CheckReserve() const;

  const std::string directory_;
  const std::unique_ptr<rocksdb::DB> db_;
};

absl::StatusOr<std::string> RocksStore::Get(const std::string& key) {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  std::string value;
  const rocksdb::Status status = db_->Get(options, key, &value);
  if (!status.ok()) return ToAbsl(status, fmt::format("get '{}'", key));
  return value;
}

absl::Status RocksStore::CheckReserve() const {
  SL_ASSIGN_OR_RETURN(const int64_t free_bytes, FreeDiskBytes(directory_));
  if (free_bytes >= kReserveBytes) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      fmt::format("disk of {} has {} bytes free, {} are kept in reserve",
                  directory_, free_bytes, kReserveBytes),
      {"STORAGE_LOW",
       {{"free_bytes", std::to_string(free_bytes)},
        {"reserve_bytes", std::to_string(kReserveBytes)}}});
}

absl::Status RocksStore::Write(const WriteBatch& batch) {
  rocksdb::WriteBatch rocks_batch(/*reserved_bytes=*/0, /*max_bytes=*/0,
                                  kProtectionBytes, /*default_cf_ts_sz=*/0);
  bool grows = false;
  for (const WriteBatch::Op& op : batch.ops()) {
    grows = grows || op.value.has_value();
    const rocksdb::Status added = op.value.has_value()
                                      ? rocks_batch.Put(op.key, *op.value)
                                      : rocks_batch.Delete(op.key);
    SL_RETURN_IF_ERROR(ToAbsl(added, fmt::format("batch '{}'", op.key)));
  }
  // Deletes stay possible on a full disk: they are the way out.
  if (grows) SL_RETURN_IF_ERROR(CheckReserve());
  rocksdb::WriteOptions options;
  options.sync = true;
  return ToAbsl(db_->Write(options, &rocks_batch), "write");
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>>
RocksStore::Scan(const std::string& prefix, const std::string& after,
                 int limit) {
  std::vector<std::pair<std::string, std::string>> found;
  const std::string end = PrefixEnd(prefix);
  const rocksdb::Slice upper_bound(end);
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  if (!end.empty()) options.iterate_upper_bound = &upper_bound;
  // An iterator is a snapshot in itself.
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options));
  // after + '\0' is the smallest key greater than `after`.
  const std::string from = after + '\0';
  it->Seek(after.empty() || from < prefix ? prefix : from);
  for (; it->Valid() && found.size() < static_cast<size_t>(std::max(limit, 0));
       it->Next()) {
    found.emplace_back(it->key().ToString(), it->value().ToString());
  }
  SL_RETURN_IF_ERROR(
      ToAbsl(it->status(), fmt::format("scan prefix '{}'", prefix)));
  return found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenRocksStore(
    const std::string& directory) {
  SL_RETURN_IF_ERROR(MakeDirs(directory));
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(MakeOptions(), directory, &db);
  std::unique_ptr<rocksdb::DB> owned(db);
  if (status.ok()) {
    return std::make_unique<RocksStore>(directory, std::move(owned));
  }
  const std::string text = status.ToString();
  const std::string lock_file = JoinPath(directory, "LOCK");
  if (status.IsIOError() && text.find(lock_file) != std::string::npos) {
    return absl::FailedPreconditionError(fmt::format(
        "store {} is in use by another process: {}", directory, text));
  }
  return ToAbsl(status, fmt::format("open {}", directory));
}

}  // namespace sinklora
