#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// What units of a model surely take beside the program: arrays that must be there at once, without whatever an
/// estimate (MemoryNeed) may be wrong about. Less than they really take, never more: what does not fit by this is
/// refused before it is begun, what does not fit by the estimate is warned of.
class CertainNeed {
 public:
  /// @pre model and plan outlive it.
  CertainNeed(const ModelDescription& model, const ModelPlan& plan, ComputeType dtype);

  /// Of a batch: the largest layer, hidden states, queries and, where a prompt is long, what one thread has of its
  /// attention in one layer; of a layer's spectra its matrices; of the unembedding the triangle and the rows'
  /// norms; of a stored matrix its entries and the smaller square, or the latter alone where it comes in rows.
  std::int64_t bytes(const Unit& unit) const;

  /// Why a unit cannot fit into a rank's memory, how much it needs and what would make it fit; nothing where it may. Of
  /// a limit that the program itself nearly fills, half counts as the unit's.
  std::optional<std::string> find_lack(const Unit& unit, std::int64_t limit_bytes) const;

 private:
  std::int64_t attention_bytes(std::int64_t num_prompt_tokens, std::size_t set) const;

  const ModelDescription& model_;
  const ModelPlan& plan_;
  std::int64_t element_bytes_, matrix_element_bytes_, largest_layer_bytes_ = 0;
  std::vector<PromptWants> wants_of_sets_;
};

/// The same of what makes a set's numbers of its prompts' (SetJoin), of whose estimate half is certain.
std::optional<std::string> find_lack_of_join(const Chosen& chosen, const Circumstances& of, const std::string& set,
                                             std::int64_t limit_bytes);

}  // namespace spectrace
