#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "spectrace/measure/choice.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/settings.hpp"

namespace spectrace {

/// A prompt as the model gets it.
struct PreparedPrompt {
  std::string id = {};
  std::vector<std::int64_t> token_ids = {};
  std::string error = {};  ///< why it cannot run; empty if it can
  std::int64_t num_tokens() const { return static_cast<std::int64_t>(token_ids.size()); }
};

struct PreparedSet {
  std::string name = {};
  std::vector<PreparedPrompt> prompts = {};
  /// Which tokenizer made the ids of its texts, and why (TokenizerChoice as JSON); empty where none did.
  std::string tokenizer = {};
  /// SHA-256 over ids, token ids and errors
  std::string digest() const;
  /// Tokens of the longest prompt that runs.
  std::int64_t longest_prompt() const;
};

/// A set of prompts, and what is measured of it: results may hold other analyses of it already.
struct PlannedSet : PreparedSet {
  AnalysisChoice analyses = {};
  /// Values that a batch's record has for each prompt: so many, and so many more for each token of the batch's longest
  /// prompt (plan_model finds them).
  std::int64_t fixed_values = 0, values_per_token = 0;
};
/// Of one of its analyses.
Circumstances circumstances_of(const PlannedSet& set, const Chosen& chosen, const ModelDescription& model,
                               Slicing slicing = Slicing::correct);
/// Sets of which all of these analyses are to be made.
std::vector<PlannedSet> planned(std::vector<PreparedSet> sets, const AnalysisChoice& analyses);

/// What a unit does: an analysis of one layer's weights, of some rows of a matrix, of one stored matrix, or all
/// analyses of a set of some of its prompts.
struct LayerWork {
  const LayerAnalysis* analysis = nullptr;
  std::int64_t layer = 0;
};
struct RowsWork {
  const RowsAnalysis* analysis = nullptr;
  RowRange rows = {};
  bool is_part = false;  ///< of several: then its record is not the analysis', and the collector joins them
};
struct TensorWork {
  const Analysis* analysis = nullptr;
  std::int64_t place = 0;  ///< PlacedMatrix
  StoredMatrix matrix = {};
};
struct BatchWork {
  std::size_t set = 0;                    ///< index into ModelPlan::sets
  std::vector<std::size_t> prompts = {};  ///< indices into the set, those that run
  std::int64_t num_tokens = 0;
  bool is_predicted = false;  ///< goes through the unembedding too
};

/// The smallest piece of work that is done, journalled and handed out whole. Fixed by job and checkpoint alone.
struct Unit {
  std::variant<LayerWork, RowsWork, TensorWork, BatchWork> work;
  std::string key = {};  ///< names its record in the journal: readable, and a hash of what its bits depend on
  double flops = 0;      ///< estimate, for sharing out and for progress

  const LayerWork* of_layer() const { return std::get_if<LayerWork>(&work); }
  const RowsWork* of_rows() const { return std::get_if<RowsWork>(&work); }
  const TensorWork* of_tensor() const { return std::get_if<TensorWork>(&work); }
  const BatchWork* of_batch() const { return std::get_if<BatchWork>(&work); }
  /// Null of a batch.
  const Analysis* analysis() const;
  /// Whether no part of it lies in a layer, so that one rank of a group does it.
  bool is_undivided() const { return of_rows() != nullptr || of_tensor() != nullptr; }
};

/// What is to be done for one model.
struct ModelPlan {
  AnalysisChoice of_weights;  ///< of this run (what results hold already is left out)
  std::vector<PlannedSet> sets;
  std::vector<Unit> units;
  double total_flops() const;
  /// Of all sets together.
  PromptWants wants() const;
};

/// Puts prompts into batches of up to tokens_per_batch tokens, in their order; a longer prompt is a batch of its own.
/// Prompts that cannot run are in none.
std::vector<std::vector<std::size_t>> make_batches(const PreparedSet& set, std::int64_t tokens_per_batch);

/// A pure function of its arguments: the same for any number of ranks. Every layer, every prompt that runs once.
/// @pre the model can have all analyses. @throws InputError (model) if an analysis of tensors finds none.
ModelPlan plan_model(const ModelDescription& model, const AnalysisChoice& of_weights, std::vector<PlannedSet> sets,
                     const PlanOptions& options);

/// The tokens of a batch, and of its longest prompt.
TokenBatch batch_of(const ModelPlan& plan, const BatchWork& batch);
std::int64_t longest_prompt(const ModelPlan& plan, const BatchWork& batch);
/// Of the batch's unit, what comes behind the last block.
double final_flops(const ModelDescription& model, const ModelPlan& plan, const BatchWork& batch);

/// Of the layer, those of the matrices that the analysis needs which it has.
MatrixRoles roles_of(const ModelDescription& model, const LayerWork& work);

/// Names of the checkpoint's tensors that a unit's record is made of, sorted: of the whole tensor. None of a part of
/// the unembedding.
std::vector<std::string> tensors_of(const ModelDescription& model, const Unit& unit);
/// The same, of a batch that has passed the layers [first, last) of one stage; the embedding too if it began there.
std::vector<std::string> tensors_of_layers(const ModelDescription& model, std::int64_t first, std::int64_t last);

}  // namespace spectrace
