// What a download of stored files sends. Pure function.
//
// SPDX-License-Identifier: Apache-2.0
#ifndef SINKLORA_SERVICES_TRAINER_DOWNLOAD_PLAN_H_
#define SINKLORA_SERVICES_TRAINER_DOWNLOAD_PLAN_H_

#include <google/protobuf/repeated_ptr_field.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rpc/file_transfer.h"
#include "sinklora/common/v1/file_chunk.pb.h"

namespace sinklora::trainer {

// Those of `files`, which `owner` has, that `paths` names (all when it names
// none), in order of path, each from its offset in `offsets` on. kNotFound
// (FILE_NOT_FOUND) for a path that `owner` does not have, kInvalidArgument for
// an offset of a file that is not sent or that has one already, kOutOfRange
// (OFFSET_OUT_OF_RANGE) for one beyond the end of its file.
absl::StatusOr<std::vector<FileToSend>> PlanDownload(
    const std::string& owner,
    const google::protobuf::RepeatedPtrField<common::v1::FileInfo>& files,
    const google::protobuf::RepeatedPtrField<std::string>& paths,
    const google::protobuf::RepeatedPtrField<common::v1::FileOffset>& offsets);

}  // namespace sinklora::trainer

#endif  // SINKLORA_SERVICES_TRAINER_DOWNLOAD_PLAN_H_
