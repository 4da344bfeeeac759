#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/measure/unembedding.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/job.hpp"

namespace spectrace {

/// A prompt as the model gets it.
struct PreparedPrompt {
  std::string id;
  std::vector<std::int64_t> token_ids;
  std::string error;  ///< why it cannot run; empty if it can
};

struct PreparedSet {
  std::string name;
  std::vector<PreparedPrompt> prompts;
  /// SHA-256 over ids, token ids and errors
  std::string digest() const;
};

/// What results depend on, by name: results whose identities differ in a name that both have do not belong together.
using Identity = std::vector<std::pair<std::string, std::string>>;

/// "compute dtype: was float32, now float64" for each name that both have with different values. Prompts that name no
/// device were measured on the host.
std::vector<std::string> identity_differences(const Identity& before, const Identity& now);
std::string identity_to_json(const Identity& identity);
Identity identity_from_json(const std::string& text);

enum class UnitKind { matrices, heads, unembedding, prompts };

/// The smallest piece of work that is done, journalled and handed out whole. Fixed by job and checkpoint alone.
struct Unit {
  UnitKind kind = UnitKind::matrices;
  std::string key;          ///< names its record in the journal: readable, and a hash of what its bits depend on
  std::int64_t layer = -1;  ///< of matrices and heads
  std::size_t set = 0;      ///< of prompts: index into ModelPlan::sets
  std::vector<std::size_t> prompts;  ///< of prompts: indices into the set, those that run
  std::int64_t num_tokens = 0;
  double flops = 0;    ///< estimate, for sharing out and for progress
  RowRange rows = {};  ///< of the unembedding
};

/// Whether the unit is one of several parts of the unembedding: then its record is a triangle, and the collector joins
/// them.
bool is_part(const Unit& unit, const ModelDescription& model);

/// What is to be done for one model.
struct ModelPlan {
  AnalysisChoice analyses;  ///< of this run (what results hold already is left out)
  std::vector<PreparedSet> sets;
  std::vector<Unit> units;
  double total_flops() const;
};

/// Puts prompts into batches of up to tokens_per_batch tokens, in their order; a longer prompt is a batch of its own.
/// Prompts that cannot run are in none.
std::vector<std::vector<std::size_t>> make_batches(const PreparedSet& set, std::int64_t tokens_per_batch);

/// What decides the bits of a model's records beside its weights and token ids.
struct PlanOptions {
  ComputeType dtype = ComputeType::float32;
  Slicing slicing = Slicing::correct;
  std::int64_t tokens_per_batch = 256;
  std::vector<double> beta;
  bool graph_eigenvalues = false;
  std::string config;       ///< of the model: config.json, as it was parsed
  std::string device_kind;  ///< of prompts; empty: the host. Spectra are the host's everywhere
};
PlanOptions plan_options(const Job& job, const Json& config);

/// A pure function of its arguments: the same for any number of ranks. Every layer, every prompt that runs once.
ModelPlan plan_model(const ModelDescription& model, const AnalysisChoice& analyses, std::vector<PreparedSet> sets,
                     const PlanOptions& options);

/// The tokens of a unit of prompts.
TokenBatch batch_of(const ModelPlan& plan, const Unit& unit);

/// Names of the checkpoint's tensors that a unit's record is made of, sorted: of the whole tensor. None of a part of
/// the unembedding.
std::vector<std::string> tensors_of(const ModelDescription& model, const Unit& unit);
/// The same, of a batch that has passed the layers [first, last) of one stage; the embedding too if it began there.
std::vector<std::string> tensors_of_layers(const ModelDescription& model, std::int64_t first, std::int64_t last);

}  // namespace spectrace
