// What the curator's tests share: a small tokenizer that really works, a model
// source that serves it from a directory, and a core on a temporary directory.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_TESTS_SERVICES_CURATOR_FIXTURE_H_
#define SINKLORA_TESTS_SERVICES_CURATOR_FIXTURE_H_

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/disk_budget.h"
#include "common/base/files.h"
#include "common/metrics/metrics.h"
#include "common/text/tokenizer.h"
#include "services/curator/curator_core.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/matchers.h"

namespace sinklora::curator {

// Path to content.
using Files = std::map<std::string, std::string>;

// Never cancelled; progress ignored.
bool NotCancelled();
void IgnoreProgress(const char* stage, int64_t done, int64_t total);

// A plain write: tests that write much need no durability.
absl::Status WriteUnsynced(const std::string& path, const std::string& content);
// Writes a byte-level BPE tokenizer with 300 ids, begin token 0 and end
// token 1.
absl::Status WriteTokenizer(const std::string& directory);
// Distinct pseudo-English text of about `words` words.
std::string SomeText(uint64_t seed, int words);
// Writes `files` below `directory` and describes them.
absl::StatusOr<std::vector<StoredFile>> WriteFiles(const std::string& directory,
                                                   const Files& files);
// Describes all files below `directory`.
absl::StatusOr<std::vector<StoredFile>> DescribeFiles(
    const std::string& directory);
// Names in `directory`, hidden ones too.
std::vector<std::string> ListNames(const std::string& directory);

// Serves one directory under the name "tiny".
class DirectoryModels final : public ModelSource {
 public:
  explicit DirectoryModels(std::string directory)
      : directory_(std::move(directory)) {}
  absl::StatusOr<Model> Describe(const std::string& name) override;
  absl::Status Download(const std::string& name,
                        const std::vector<std::string>& paths,
                        const std::string& directory,
                        const CancelledFn& cancelled) override;
  int downloads() const { return downloads_; }

 private:
  const std::string directory_;
  std::atomic<int> downloads_{0};
};

// A core on a directory of its own.
class CuratorFixture {
 public:
  static absl::StatusOr<std::unique_ptr<CuratorFixture>> Create(
      int threads = 2);

  CuratorCore& core() { return *core_; }
  testing::FakeClock& clock() { return clock_; }
  DirectoryModels& models() { return *models_; }
  MetricsRegistry& registry() { return *registry_; }
  std::string data_dir() const { return JoinPath(temp_->path(), "data"); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  // What the disk says it has free from now on.
  void SetFreeBytes(int64_t bytes) { free_bytes_ = bytes; }

  // Closes the core and opens a new one on the same directory.
  absl::Status Reopen(int threads = 2);
  void Close() { core_.reset(); }

  absl::StatusOr<SourceInfo> Import(
      const std::string& name, const Files& files,
      const std::string& request_id,
      SourceFormat format = SourceFormat::kUnspecified);
  absl::StatusOr<DatasetInfo> Curate(const std::string& name,
                                     const Recipe& recipe,
                                     const std::string& request_id);
  // All examples of a split.
  absl::StatusOr<std::vector<TrainingExample>> Examples(const std::string& name,
                                                        Split split);
  // A file of a stored dataset.
  absl::StatusOr<std::string> DatasetFile(const DatasetInfo& dataset,
                                          const std::string& file) const;

 private:
  CuratorFixture() = default;

  std::unique_ptr<TempDir> temp_;
  testing::FakeClock clock_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<DirectoryModels> models_;
  std::unique_ptr<MetricsRegistry> registry_;
  std::unique_ptr<CuratorMetrics> metrics_;
  std::optional<int64_t> free_bytes_;
  std::unique_ptr<DiskBudget> disk_;
  std::unique_ptr<CuratorCore> core_;
};

// A recipe over `sources` with the fixture's model and a context of 64.
Recipe RecipeOf(std::vector<std::string> sources);

}  // namespace sinklora::curator

#endif  // SINKLORA_TESTS_SERVICES_CURATOR_FIXTURE_H_
