#pragma once

#include <optional>
#include <string>
#include <vector>

#include "spectrace/plan/model_plan.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/work/part_signature.hpp"

namespace spectrace {

/// The record of all rows of a matrix, of the parts that ranks did.
class JoinOfParts {
 public:
  JoinOfParts(const OpenModel& model, const RowsAnalysis& analysis);

  const RowsAnalysis& analysis() const { return analysis_; }
  /// False if the record is not of the same tensor as those before.
  /// @throws InputError (io) if it is not what a rank left of this part.
  [[nodiscard]] bool add(std::size_t unit, const Record& record, const std::string& key, const RowsWork& part);
  /// Parts that were added.
  const std::vector<std::size_t>& units() const { return units_; }
  /// The results of all parts, or the error that finding them had.
  Record finish();
  /// The tensor's; nothing as long as a part is missing.
  std::optional<std::string> digest() const { return digests_.digest(); }

 private:
  const ModelDescription& model_;
  const RowsAnalysis& analysis_;
  std::unique_ptr<RowsJoin> join_;
  PartDigests digests_;
  std::vector<std::size_t> units_;
  std::optional<std::string> error_;
};

}  // namespace spectrace
