// Where things are below the curator's data directory:
//
//   store/                 RocksDB: names, metadata, request log
//   sources/<digest>/      records.jsonl
//   datasets/<digest>/     manifest.json ledger.jsonl examples-*.bin
//   tokenizers/<key>/      a model's tokenizer files (tokenizer_cache.h)
//   staging/               work in progress; emptied when the curator opens
//
// What is in the first four is complete: it was committed by one rename.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_CURATOR_DATA_LAYOUT_H_
#define SINKLORA_SERVICES_CURATOR_DATA_LAYOUT_H_

#include <set>
#include <string>

#include "absl/status/status.h"
#include "common/base/files.h"

namespace sinklora::curator {

struct DataLayout {
  std::string root;

  std::string store() const { return JoinPath(root, "store"); }
  std::string sources() const { return JoinPath(root, "sources"); }
  std::string datasets() const { return JoinPath(root, "datasets"); }
  std::string tokenizers() const { return JoinPath(root, "tokenizers"); }
  std::string staging() const { return JoinPath(root, "staging"); }
  std::string Source(const std::string& digest) const {
    return JoinPath(sources(), digest);
  }
  std::string Records(const std::string& digest) const {
    return JoinPath(Source(digest), kRecordsFile);
  }
  std::string Dataset(const std::string& digest) const {
    return JoinPath(datasets(), digest);
  }
  std::string Tokenizer(const std::string& key) const {
    return JoinPath(tokenizers(), key);
  }

  static constexpr char kRecordsFile[] = "records.jsonl";
};

// CommitDirectory for content-addressed directories: one that is there already
// has the same content, and `staged_dir` is left alone.
absl::Status CommitContent(const std::string& staged_dir,
                           const std::string& final_dir);

// Removes the entries of `directory` whose names are not in `keep`: what a
// crash left between the commit of a directory and that of its metadata.
absl::Status RemoveUnreferenced(const std::string& directory,
                                const std::set<std::string>& keep);

}  // namespace sinklora::curator

#endif  // SINKLORA_SERVICES_CURATOR_DATA_LAYOUT_H_
