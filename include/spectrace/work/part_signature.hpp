#pragma once

#include <optional>
#include <string>

#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {

/// What the record of a part of the unembedding was made of: the hashes of the segments that its rows lie in, as
/// nobody who had a part knows the digest of the tensor. Records of whole tensors are signed with that.
void sign_part(Record& record, const OpenModel& model, const RowsWork& work);

/// Whether the checkpoint holds these very rows; reads them if they were not read yet.
/// @throws InputError (model) if they cannot be read.
bool is_made_of(const Record& record, const OpenModel& model, const RowsWork& work);

/// Finds the tensor's digest from the signatures of all parts.
class PartDigests {
 public:
  explicit PartDigests(const OpenModel& model);
  /// False if the part is not signed with its rows, or rows that it shares with another part were others there.
  [[nodiscard]] bool add(const Record& record, const RowsWork& work);
  /// The tensor's, nothing as long as a part is missing.
  std::optional<std::string> digest() const { return digests_.digest(0); }

 private:
  TensorInfo tensor_;
  TensorDigests digests_;
};

}  // namespace spectrace
