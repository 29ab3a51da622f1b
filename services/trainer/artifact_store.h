// Directories the trainer keeps files in, all below one root:
//   staging/...              uploads in progress, emptied at start
//   models/<digest>/         Hugging Face directories, by content address
//   adapters/<digest>/       PEFT directories, by content address
//   jobs/<name>/step-<n>/    committed checkpoints
// A directory is committed (fsync, rename, fsync of the parent) before the
// row that names it is written, so a crash in between leaves a directory
// nobody names; RemoveAllBut() at start takes those away.
//
// Thread-safe: holds no mutable state of its own.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_ARTIFACT_STORE_H_
#define SINKLORA_SERVICES_TRAINER_ARTIFACT_STORE_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/disk_budget.h"
#include "common/base/files.h"
#include "sinklora/common/v1/file_chunk.pb.h"

namespace sinklora::trainer {

using FileInfos = std::vector<common::v1::FileInfo>;

// Files that may become an artefact; gone with this object unless committed.
struct StagedFiles {
  std::unique_ptr<TempDir> dir;
  std::string path;  // of the files: `dir`, or a directory in it
  FileInfos files;   // in order of path
};

class ArtifactStore {
 public:
  struct Options {
    std::string root;
    DiskBudget* disk = nullptr;  // of root; borrowed
  };
  static absl::StatusOr<std::unique_ptr<ArtifactStore>> Create(
      const Options& options);

  // A fresh directory for one upload, removed with the returned object.
  absl::StatusOr<std::unique_ptr<TempDir>> NewStaging() const;
  // Room for what is about to be written below the root.
  DiskBudget* disk() const { return options_.disk; }

  std::string ModelDir(const std::string& digest) const;
  std::string AdapterDir(const std::string& digest) const;
  std::string JobDir(const std::string& job) const;
  std::string CheckpointDir(const std::string& job, int64_t step) const;

  // Moves a staged directory to a content address. True when this call put
  // it there, false when the same content was there already.
  absl::StatusOr<bool> CommitContent(const std::string& staged_dir,
                                     const std::string& final_dir) const;

  // Removes the entries of models/, adapters/ and jobs/ (by job name) that
  // are not in `kept`. Entries are paths as the functions above return them.
  absl::Status RemoveAllBut(const std::set<std::string>& kept) const;

 private:
  explicit ArtifactStore(Options options) : options_(std::move(options)) {}
  std::string StagingDir() const;
  const Options options_;
};

// Takes away directories that nothing names any more without keeping anybody
// waiting: Take() only moves one aside, the destructor removes them all. Make
// it before the lock under which Take() is called, so that it goes after it.
// Not thread-safe. Borrows the store.
class Trash {
 public:
  explicit Trash(const ArtifactStore* artifacts) : artifacts_(artifacts) {}
  ~Trash() = default;
  Trash(const Trash&) = delete;
  Trash& operator=(const Trash&) = delete;
  // A missing directory is fine. One that cannot be moved (no room for so much
  // as a name) is removed at once; what stays goes at the next start.
  void Take(const std::string& dir);

 private:
  const ArtifactStore* const artifacts_;
  std::unique_ptr<TempDir> dir_;  // made when first needed
  int taken_ = 0;
};

// SHA-256 over the sorted (path, file digest) list: the content address.
std::string ContentDigest(FileInfos files);

// Path, size and hash of every file below `dir`, in order of path.
absl::StatusOr<FileInfos> DescribeFiles(const std::string& dir);

// kDataLoss naming the first file of `files` whose content in `dir` is not
// what its hash says.
absl::Status VerifyFiles(const std::string& dir, const FileInfos& files);

// Makes `to` a copy of the files of `from` by hard links, or by copying where
// the file system has none. Committed files are immutable, so sharing them is
// safe.
absl::Status LinkDirectory(const std::string& from, const std::string& to);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_ARTIFACT_STORE_H_
