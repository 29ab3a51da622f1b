// SPDX-License-Identifier: Apache-2.0
#include "common/base/hash.h"

#include "common/base/files.h"
#include "tests/testing/matchers.h"

namespace sinklora {
namespace {

using ::sinklora::testing::StatusIs;

// Vectors of FIPS 180-4.
constexpr char kEmpty[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kAbc[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kTwoBlocks[] =
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
constexpr char kMillionA[] =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(HashTest, KnownVectors) {
  EXPECT_EQ(Sha256Hex(""), kEmpty);
  EXPECT_EQ(Sha256Hex("abc"), kAbc);
  EXPECT_EQ(
      Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
      kTwoBlocks);
}

TEST(HashTest, PiecesGiveTheSameHash) {
  Sha256 hash;
  const std::string piece(997, 'a');
  size_t left = 1'000'000;
  while (left > 0) {
    const size_t size = std::min(left, piece.size());
    hash.Update(std::string_view(piece).substr(0, size));
    left -= size;
  }
  Sha256 moved = std::move(hash);
  EXPECT_EQ(moved.FinishHex(), kMillionA);
}

TEST(HashTest, OfFile) {
  ASSERT_OK_AND_ASSIGN(const auto temp, TempDir::Create());
  const std::string path = JoinPath(temp->path(), "f");
  ASSERT_OK(WriteFileAtomic(path, std::string(1'000'000, 'a')));
  EXPECT_EQ(Sha256OfFile(path).value(), kMillionA);
  EXPECT_THAT(Sha256OfFile(path + "x"), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace sinklora
