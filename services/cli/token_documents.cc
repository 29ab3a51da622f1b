// SPDX-License-Identifier: Apache-2.0
#include "services/cli/token_documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "services/cli/progress.h"
#include "services/cli/text_input.h"
#include "services/cli/upload_files.h"

namespace sinklora::cli {
namespace {

namespace v1 = inference::v1;

// A request, and the response with ids and text, stay well below the message
// limit.
constexpr size_t kPieceBytes = size_t{2} << 20;
constexpr size_t kDecodeIds = size_t{1} << 20;

bool IsContinuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

class Reader {
 public:
  Reader(InferenceClient* client, const v1::Target& target)
      : client_(client), target_(target) {}

  absl::StatusOr<TokenDocument> Tokenize(const std::string& path,
                                         const std::string& text);
  // Keeps the first `tokens` ids.
  absl::Status Cut(size_t tokens, TokenDocument* document);
  int64_t context_tokens() const { return context_tokens_; }

 private:
  absl::StatusOr<int64_t> BytesOf(std::span<const int32_t> ids);

  InferenceClient* const client_;
  const v1::Target& target_;
  int64_t context_tokens_ = 0;
};

absl::StatusOr<int64_t> Reader::BytesOf(std::span<const int32_t> ids) {
  int64_t bytes = 0;
  while (!ids.empty()) {
    const auto part = ids.first(std::min(ids.size(), kDecodeIds));
    ids = ids.subspan(part.size());
    v1::TokenizeRequest request;
    *request.mutable_target() = target_;
    request.mutable_token_ids()->mutable_ids()->Assign(part.begin(),
                                                       part.end());
    SL_ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                        client_->Tokenize(request));
    bytes += static_cast<int64_t>(response.text().size());
  }
  return bytes;
}

absl::StatusOr<TokenDocument> Reader::Tokenize(const std::string& path,
                                               const std::string& text) {
  TokenDocument document;
  document.path = path;
  document.text_bytes = static_cast<int64_t>(text.size());
  bool first = true;
  for (const std::string& piece : SplitText(text, kPieceBytes)) {
    v1::TokenizeRequest request;
    *request.mutable_target() = target_;
    request.set_text(piece);
    request.set_add_bos(first);
    first = false;
    SL_ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                        client_->Tokenize(request));
    document.ids.insert(document.ids.end(), response.token_ids().begin(),
                        response.token_ids().end());
    context_tokens_ = response.context_tokens();
  }
  if (document.ids.size() < 2) return document;
  SL_ASSIGN_OR_RETURN(document.first_bytes,
                      BytesOf(std::span(document.ids).first(1)));
  return document;
}

absl::Status Reader::Cut(size_t tokens, TokenDocument* document) {
  document->ids.resize(tokens);
  SL_ASSIGN_OR_RETURN(document->text_bytes, BytesOf(document->ids));
  return absl::OkStatus();
}

// Tokens that the next document may have.
int64_t RoomFor(const TokenLimits& limits, int64_t tokens_so_far) {
  int64_t room = std::numeric_limits<int64_t>::max();
  if (limits.document_tokens > 0) room = limits.document_tokens;
  if (limits.total_tokens > 0) {
    room = std::min(room, limits.total_tokens - tokens_so_far);
  }
  return room;
}

absl::StatusOr<std::string> ReadDocument(const std::string& path) {
  SL_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  SL_RETURN_IF_ERROR(CheckUtf8(path, text));
  return text;
}

}  // namespace

int64_t TokenDocuments::token_count() const {
  int64_t total = 0;
  for (const auto& one : documents) {
    total += static_cast<int64_t>(one.ids.size());
  }
  return total;
}

int64_t TokenDocuments::text_bytes() const {
  int64_t total = 0;
  for (const auto& one : documents) total += one.text_bytes;
  return total;
}

std::vector<std::string> SplitText(const std::string& text, size_t max_bytes) {
  std::vector<std::string> pieces;
  size_t begin = 0;
  while (text.size() - begin > max_bytes) {
    size_t end = begin + max_bytes;
    const size_t line = text.rfind('\n', end - 1);
    if (line != std::string::npos && line > begin) {
      end = line + 1;
    } else {
      while (end > begin + 1 && IsContinuation(text[end])) --end;
    }
    pieces.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  if (begin < text.size()) pieces.push_back(text.substr(begin));
  return pieces;
}

absl::StatusOr<TokenDocuments> ReadTokenDocuments(Session* session,
                                                  InferenceClient* client,
                                                  const v1::Target& target,
                                                  const std::string& path,
                                                  const TokenLimits& limits) {
  SL_ASSIGN_OR_RETURN(const Upload found, CollectFiles({path}));
  const UploadRoot& root = found.roots.front();
  Progress progress(&session->output(), session->clock(), "tokenizing",
                    Progress::Unit::kBytes, "", found.total_bytes);
  TokenDocuments result;
  Reader reader(client, target);
  Sha256 hash;
  for (const std::string& file : root.files) {
    const int64_t room = RoomFor(limits, result.token_count());
    if (room < 2) break;
    const std::string full = JoinPath(root.directory, file);
    SL_ASSIGN_OR_RETURN(const std::string text, ReadDocument(full));
    SL_ASSIGN_OR_RETURN(TokenDocument document, reader.Tokenize(full, text));
    progress.Add(static_cast<int64_t>(text.size()));
    if (document.ids.size() < 2) continue;
    if (static_cast<int64_t>(document.ids.size()) > room) {
      SL_RETURN_IF_ERROR(reader.Cut(static_cast<size_t>(room), &document));
    }
    hash.Update(Sha256Hex(text));
    result.documents.push_back(std::move(document));
  }
  if (result.documents.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: no text of two tokens or more", path));
  }
  result.context_tokens = reader.context_tokens();
  result.text_sha256 = hash.FinishHex();
  return result;
}

}  // namespace sinklora::cli
