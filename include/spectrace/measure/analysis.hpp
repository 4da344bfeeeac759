#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/measure/quantity.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/measure/slicing.hpp"
#include "spectrace/measure/stored_matrix.hpp"
#include "spectrace/measure/value_spectra.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_weights.hpp"
#include "spectrace/model/prediction.hpp"
#include "spectrace/numerics/graph_laplacian.hpp"

namespace spectrace {

/// A model's results, as far as they are numbers that do not grow with the prompts.
class ResultNumbers {
 public:
  virtual ~ResultNumbers() = default;
  /// Null if there are none.
  virtual const std::vector<double>* numbers(const std::string& group, const std::string& dataset) const = 0;
  /// What lies along a dimension of a group. Null if it has no such dimension, or one of numbers.
  virtual const std::vector<std::string>* names(const std::string& group, const std::string& dimension) const = 0;
};
/// Mean over the prompts of a quantity of a set, slot by slot (docs/quantities.md, section 7); empty if the results
/// have none.
std::vector<double> means_over_prompts(const ResultNumbers& results, const std::string& set,
                                       const std::string& quantity);
/// NaN if the results have none.
double scalar_of(const ResultNumbers& results, const std::string& group, const std::string& dataset);
std::string group_of_set(const std::string& set);
std::string group_of_statistics(const std::string& set);
/// Of what an analysis says of a set as a whole: "/prompts/<set>/<analysis>".
std::string group_of_set_numbers(const std::string& set, const std::string& analysis);
/// Names along the dimension `statistic`.
const std::vector<std::string>& statistic_names();

/// A number of a whole set, made of its statistics: a scalar of /prompts/<set>/statistics.
struct SetScalar {
  Quantity quantity;
  int place = 0;  ///< in the group, lowest first
  double (*value)(const ResultNumbers& results, const std::string& set) = nullptr;
};

/// A column of summary.h5, which has a row for each model and set.
struct SummaryColumn {
  std::string name;
  std::string meaning;
  int place = 0;             ///< among the columns, lowest first
  std::string heading = {};  ///< in the table at the end of a run; empty: not shown there
  std::string format = "{:.4g}";
  std::string legend = {};  ///< what the heading means
  double (*value)(const ResultNumbers& results, const std::string& set) = nullptr;
};

/// Something that an analysis' bits depend on, as results name it.
struct Setting {
  std::string name;       ///< in the attribute `identity`: "beta grid"
  std::string parameter;  ///< in the attribute `parameters`: "beta"
  Json value;
};

struct Circumstances;
using FactValues = std::variant<std::vector<std::int64_t>, std::vector<std::string>>;

/// A dataset that follows from the model's description and the job alone.
struct Fact {
  Quantity quantity;
  FactValues (*values)(const Circumstances& of) = nullptr;
};

/// What an analysis says of itself.
struct AnalysisInfo {
  std::string name;     ///< as the job asks for it
  std::string meaning;  ///< one sentence
  int place = 0;        ///< among the analyses, in files and lists; lowest first
  /// Raised whenever a number of it comes out with other bits from the same input: its numbers of different versions
  /// are never mixed. What all analyses share is counted by kNumericsVersion.
  int numerics_version = 1;
  bool is_default = true;
  std::string matrices_name = "attention matrices";  ///< what a layer analysis is made of, for messages
  std::string group = {};                            ///< of its datasets: "/weights"; empty: those of prompt sets
  std::vector<Quantity> quantities;
  /// Of a set of prompts as a whole, in a group of their own below the set's, made of the values that its prompts'
  /// records have (SetJoin).
  std::vector<Quantity> set_quantities = {};
  std::vector<DimensionInfo> dimensions = {};  ///< that it has beside layer, head, boundary, prompt and token
  std::vector<Fact> facts = {};
  std::vector<SetScalar> scalars = {};
  std::vector<SummaryColumn> summary = {};
  /// Properties of its section in the job file, as a JSON Schema has them; null: it has no section.
  Json section_schema = {};
  std::string section_meaning = {};
  /// Why the notebooks' slicing has no meaning for it: it is of what the model uses then, and its group says so.
  std::string ignores_slicing = {};
};

/// What a job asks of an analysis: the section of its name, complete.
using Settings = Json;

/// What the sizes of an analysis' results follow from.
struct Circumstances {
  const ModelDescription& model;
  Slicing slicing = Slicing::correct;
  const Settings& settings;
  std::int64_t longest_prompt = 0;  ///< tokens
  std::int64_t num_prompts = 0;     ///< of the set
};

/// A kind of numbers that the program computes: one file of src/measure/analyses, which declares them and measures them
/// (docs/adding-an-analysis.md). Stateless: there is one of each.
class Analysis {
 public:
  explicit Analysis(AnalysisInfo info) : info_(std::move(info)) {}
  virtual ~Analysis() = default;
  Analysis(const Analysis&) = delete;
  Analysis& operator=(const Analysis&) = delete;

  const AnalysisInfo& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  const Quantity* find_quantity(const std::string& quantity) const;
  /// Whether its matrices are those that the job's slicing cuts.
  bool is_sliced() const { return info_.ignores_slicing.empty(); }

  /// The job's section, checked beyond its schema, and completed. @throws InputError (usage) naming the place.
  virtual Settings complete(const std::optional<JsonNode>& section) const;
  /// What of it decides bits.
  virtual std::vector<Setting> deciding(const Settings&) const { return {}; }
  /// Its own dimensions, in the order of info().dimensions.
  virtual std::vector<DimensionValues> dimensions(const Circumstances&) const { return {}; }
  /// Matrices that are measured each by itself, as the checkpoint stores them, in the order of the dimensions before
  /// `index`; none if it has other parts. The record of one has the quantities without these dimensions, and as many
  /// singular values as the matrix has (stored_spectrum). @throws InputError (model) if it finds none where it has to.
  virtual std::vector<PlacedMatrix> matrices(const ModelDescription&, const Settings&) const { return {}; }
  /// Why the model cannot have it; empty if it can.
  std::string lacks(const ModelDescription& model) const;
  /// The same of any model of a family.
  virtual std::string lacks_by_family(const FamilyLimits&) const { return {}; }

 private:
  /// Whether it looks at more than tensors by their names.
  virtual bool needs_family() const { return true; }
  /// What else the model lacks for it. @pre there is a family, if it needs one.
  virtual std::string find_lack(const ModelDescription&) const { return {}; }

  AnalysisInfo info_;
};

/// Why an analysis of the unembedding cannot be had; empty if the model has one.
std::string find_lack_of_head(const ModelDescription& model);

/// What an analysis sees of one layer.
struct LayerView {
  const ModelDescription& model;
  const LayerMatrices& matrices;             ///< of the roles that it needs and the layer has, cut as `slicing` says
  Slicing slicing = Slicing::correct;        ///< the job's, unless the analysis ignores it
  const std::vector<ValueSpectrum>& values;  ///< [num_heads], of the job's slicing; empty unless it needs them
};

/// An analysis of the weights of each layer by itself. Its record has the quantities without their dimension `layer`.
class LayerAnalysis : public Analysis {
 public:
  using Analysis::Analysis;
  /// Matrices that it is made of, of one layer or another. A layer that has none of them has no results of it.
  /// @pre the model lacks nothing.
  virtual MatrixRoles needs(const ModelDescription& model) const = 0;
  virtual bool needs_value_spectra() const { return false; }
  /// Estimate, of one layer; where it needs value spectra, theirs among it.
  virtual double flops(const ModelDescription& model) const = 0;
  /// Peak bytes of `measure` of so many layers side by side, beside their matrices, with as many tasks at work as there
  /// are threads.
  virtual std::int64_t workspace_bytes(const ModelDescription& model, std::int64_t num_layers) const = 0;
  /// @throws NumericalError if no route to a spectrum converges.
  virtual Record measure(const LayerView& layer) const = 0;

  /// What it sees of a layer whose matrices are there as the model uses them, and as the job's slicing cuts them.
  LayerView view(const ModelDescription& model, const LayerMatrices& matrices, const LayerMatrices& sliced,
                 Slicing slicing, const std::vector<ValueSpectrum>& values) const {
    if (is_sliced()) return {model, sliced, slicing, values};
    return {model, matrices, Slicing::correct, values};
  }
};

/// Puts the records of parts together that ranks did.
class RowsJoin {
 public:
  virtual ~RowsJoin() = default;
  /// Parts in their order. @pre fits(part, rows).
  virtual void add(const Record& part) = 0;
  /// The record of all rows. Call once. @throws NumericalError.
  virtual Record finish() = 0;
};

/// An analysis of one large matrix of the model that is read in blocks of rows, by several ranks perhaps.
class RowsAnalysis : public Analysis {
 public:
  using Analysis::Analysis;
  virtual const TensorSource& matrix(const ModelDescription& model) const = 0;
  /// Rows of each part, in order; they follow from the shape alone.
  virtual std::vector<RowRange> parts(const ModelDescription& model) const = 0;
  virtual double flops(const ModelDescription& model, const RowRange& rows) const = 0;
  /// Of putting the parts together.
  virtual double join_flops(const ModelDescription& model) const = 0;
  virtual std::int64_t workspace_bytes(const ModelDescription& model) const = 0;
  virtual std::int64_t join_bytes(const ModelDescription& model) const = 0;
  /// Of all rows the analysis' quantities; of a part what `join` needs. `on_progress` is told which share of the work
  /// was done since the last call; it may throw to end the work. @throws InputError (model, io) naming the tensor.
  virtual Record measure(const ModelDescription& model, const TensorStore& store, Slicing slicing, const RowRange& rows,
                         const std::function<void(double share)>& on_progress) const = 0;
  /// Whether a record can be that of a part.
  virtual bool fits(const Record& part, const ModelDescription& model, const RowRange& rows) const = 0;
  virtual std::unique_ptr<RowsJoin> join(const ModelDescription& model) const = 0;
};

/// An analysis of matrices by the names of their tensors, of a model of any family or none. They lie along the
/// dimension `tensor`.
class TensorAnalysis : public Analysis {
 public:
  using Analysis::Analysis;
  std::vector<PlacedMatrix> matrices(const ModelDescription& model, const Settings& settings) const override = 0;

 private:
  bool needs_family() const final { return false; }
};

/// What an analysis of prompts wants to see of them. Whoever wants the mean attention or the scores gets the attention
/// too (wants_of).
struct PromptWants {
  bool norms = false;           ///< of the residual stream's rows
  bool last_tokens = false;     ///< the last row of each prompt
  bool boundaries = false;      ///< these rows themselves
  bool entering = false;        ///< those that enter a block, once more
  bool writes = false;          ///< what attention and MLP add to these rows
  bool attention = false;       ///< of every head
  bool mean_attention = false;  ///< averaged over heads
  bool graph_spectra = false;   ///< of every head's token graph
  bool value_spectra = false;   ///< of every head's slice of W_V
  bool scores = false;          ///< what the softmax is made of, row by row
  bool predictions = false;     ///< of the next token
};
PromptWants operator|(const PromptWants& a, const PromptWants& b);

/// Heads [first_head, first_head + a.size(0)) of one prompt in one layer.
struct HeadsView {
  std::int64_t layer, prompt, first_head;
  const Tensor& a;                           ///< [heads, n, n] after softmax, where the forward pass runs
  const std::vector<ValueSpectrum>& values;  ///< [num_heads] of the layer, if wanted
  const RowScores& scores;                   ///< of these heads, if wanted
};

/// All heads of one prompt in one layer.
struct AllHeadsView {
  std::int64_t layer, prompt;
  const std::vector<ValueSpectrum>& values;  ///< [num_heads] of the layer, if wanted
  const std::vector<GraphSpectrum>& graphs;  ///< [num_heads], if wanted
  const Tensor& mean;                        ///< attention averaged over heads, [n, n] float64, if wanted
};

/// Where the values of a batch go: arrays by the names of quantities, prompt first.
class PromptArrays {
 public:
  virtual ~PromptArrays() = default;
  /// Everything of the quantity under the indices of its first dimensions; empty if the job does not ask for it (its
  /// option). @throws InternalError naming it if no analysis declares it.
  virtual std::span<double> slots(const char* quantity, std::initializer_list<std::int64_t> index) = 0;
  /// @pre index has all dimensions.
  virtual void set(const char* quantity, std::initializer_list<std::int64_t> index, double value) = 0;
};

/// Takes down one analysis of one batch while it goes through the model. Different prompts may come at the same time,
/// so what lies between calls is kept by prompt. Nothing may lie between layers: a batch is gone on with elsewhere.
class PromptObserver {
 public:
  virtual ~PromptObserver() = default;
  /// All rows at boundary b of the residual stream, [num_tokens, hidden_size], on the host; their norms, and those
  /// after the final norm. Prompts that have failed are among them.
  virtual void see_boundary(std::int64_t /*boundary*/, const Tensor& /*hidden*/) {}
  virtual void see_norms(std::int64_t /*boundary*/, const std::vector<double>& /*of_rows*/) {}
  virtual void see_final_norms(const std::vector<double>& /*of_rows*/) {}
  /// The last row of each prompt at boundary b, [num_prompts, hidden_size], on the host, if wanted.
  virtual void see_last_tokens(std::int64_t /*boundary*/, const Tensor& /*rows*/) {}
  /// Boundary `layer` once more, before the block: wherever the batch comes from.
  virtual void see_entering(std::int64_t /*layer*/, const Tensor& /*hidden*/) {}
  virtual void see_heads(const HeadsView&) {}
  /// When all heads of a prompt have come in a layer.
  virtual void see_all_heads(const AllHeadsView&) {}
  /// When the block is done with all prompts, if wanted.
  virtual void see_writes(std::int64_t /*layer*/, const BlockWrites&) {}
  /// After the final norm, if wanted.
  virtual void see_predictions(const Predictions&) {}
  /// At the end.
  virtual void finish() {}
};

/// Makes the numbers of a set as a whole of what the records of its batches have.
class SetJoin {
 public:
  virtual ~SetJoin() = default;
  /// Batches in the plan's order; one that failed does not come, and prompts that failed have NaN in it.
  virtual void add(const Record& batch) = 0;
  /// Asked when all have come: whether they have to come once more, since not all could be done at once.
  virtual bool needs_another_pass() { return false; }
  /// Call once. @throws NumericalError.
  virtual Record finish() = 0;
};

/// An analysis of what prompts do in the model.
class PromptAnalysis : public Analysis {
 public:
  using Analysis::Analysis;
  std::string lacks_by_family(const FamilyLimits& limits) const final { return limits.no_forward; }
  virtual PromptWants wants() const = 0;
  /// Of a prompt in one layer, beyond the forward pass and what comes with its wants.
  virtual double flops(const ModelDescription&, std::int64_t /*num_tokens*/) const { return 0; }
  /// Peak bytes of the host for one prompt that is seen, beside its attention, which lies on `device`.
  virtual std::int64_t workspace_bytes(const ModelDescription&, std::int64_t /*num_tokens*/,
                                       const Device& /*device*/) const {
    return 0;
  }
  /// Of these, what one thread surely takes where the prompt is long (has_long_attention).
  virtual std::int64_t least_bytes(const ModelDescription&, std::int64_t /*num_tokens*/) const { return 0; }
  /// Peak bytes of that device, if it is not the host.
  virtual std::int64_t device_bytes(const ModelDescription&, std::int64_t /*num_tokens*/) const { return 0; }
  /// @pre model, batch, settings and arrays outlive the observer.
  virtual std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch& batch,
                                                  const Settings& settings, PromptArrays& arrays) const = 0;

  /// Makes its set_quantities, if it has any, in so much memory, or the least that it takes. @pre model and settings
  /// outlive it.
  virtual std::unique_ptr<SetJoin> join(const Circumstances&, std::int64_t /*limit_bytes*/) const { return nullptr; }
  /// The least that it takes, bytes, and its flops.
  virtual std::int64_t join_bytes(const Circumstances&) const { return 0; }
  virtual double join_flops(const Circumstances&) const { return 0; }
};

}  // namespace spectrace
