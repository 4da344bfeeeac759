// Spectra of every matrix that the checkpoint stores, by name (docs/quantities.md, section "tensors").
#include <algorithm>

#include "../matrix_spectra.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace tensors {
namespace {

constexpr const char *kTensor = "tensor", *kLeftOut = "left_out";
constexpr const char *kInclude = "include", *kExclude = "exclude", *kConvolutions = "convolutions",
                     *kMaxElements = "max_elements";

TensorChoice choice_of(const Settings& settings) {
  return {settings.at(kInclude), settings.at(kExclude), settings.at(kConvolutions), settings.at(kMaxElements)};
}

StoredMatrices stored(const Circumstances& of) { return stored_matrices(of.model.tensors, choice_of(of.settings)); }

Json section() {
  const auto patterns = [](const char* description, Json otherwise, int least) {
    return Json{{"description", description},
                {"type", "array"},
                {"items", {{"type", "string"}, {"minLength", 1}}},
                {"minItems", least},
                {"default", std::move(otherwise)}};
  };
  return {{kInclude, patterns("Tensors to take: patterns of their names, * for any characters, ? for one.", {"*"}, 1)},
          {kExclude, patterns("Of these, tensors to leave out.", Json::array(), 0)},
          {kConvolutions,
           patterns("Tensors of three dimensions that are convolutions (out, in, kernel): one matrix each. Others of "
                    "three are stacks of matrices, such as experts.",
                    {"*conv*", "*Conv*"}, 0)},
          {kMaxElements,
           {{"description", "Matrices of more elements are left out; 0: none."},
            {"type", "integer"},
            {"minimum", 0},
            {"default", 0}}}};
}

template <std::int64_t StoredMatrix::*kSize>
FactValues sizes(const Circumstances& of) {
  std::vector<std::int64_t> values;
  for (const StoredMatrix& matrix : stored(of).matrices) values.push_back(matrix.*kSize);
  return values;
}

FactValues reasons(const Circumstances& of) {
  std::vector<std::string> values;
  for (LeftOutTensor& tensor : stored(of).left_out) values.push_back(std::move(tensor.why));
  return values;
}

std::vector<Fact> facts() {
  const auto fact = [](const char* name, const char* dim, const char* meaning, const char* formula) {
    return Quantity{.name = name, .dims = {dim}, .meaning = meaning, .formula = formula, .function = "stored_matrices"};
  };
  return {{fact(kRows, kTensor, "Rows of the matrix", "m"), sizes<&StoredMatrix::rows>},
          {fact(kColumns, kTensor, "Columns of the matrix; of a convolution inputs x kernel", "n"),
           sizes<&StoredMatrix::columns>},
          {fact("why_left_out", kLeftOut, "Why the tensor is left out", "the first reason that holds"), reasons}};
}

double mean_stable_rank(const ResultNumbers& results, const std::string& /*set*/) {
  const std::vector<double>* ranks = results.numbers("/tensors", spectral::kStableRank);
  if (ranks == nullptr || ranks->empty()) return kNaN;
  double sum = 0;
  for (const double rank : *ranks) sum += rank;
  return sum / static_cast<double>(ranks->size());
}

AnalysisInfo tensors_info() {
  return {
      .name = "tensors",
      .meaning = "Spectra and norms of every matrix that the checkpoint stores, by name, of any model.",
      .place = 35,
      .is_default = false,
      .group = "/tensors",
      .quantities = matrix_quantities({kTensor}),
      .dimensions = {{kLeftOut, "Tensor of the checkpoint that is left out"}},
      .facts = facts(),
      .summary = {{.name = "tensors_stable_rank_mean",
                   .meaning = "Mean over the matrices of the checkpoint of the stable rank",
                   .place = 65,
                   .value = mean_stable_rank}},
      .section_schema = section(),
      .section_meaning = "Which tensors the analysis 'tensors' takes.",
      .ignores_slicing = "it takes tensors as they are stored",
  };
}

class Tensors final : public TensorAnalysis {
 public:
  Tensors() : TensorAnalysis(tensors_info()) {}

  std::vector<Setting> deciding(const Settings& settings) const override {
    std::vector<Setting> all;
    for (const char* key : {kInclude, kExclude, kConvolutions, kMaxElements})
      all.push_back({std::string("tensors ") + key, std::string("tensors_") + key, settings.at(key)});
    return all;
  }
  std::vector<DimensionValues> dimensions(const Circumstances& of) const override;
  std::vector<PlacedMatrix> matrices(const ModelDescription& model, const Settings& settings) const override;
};

std::vector<DimensionValues> Tensors::dimensions(const Circumstances& of) const {
  const StoredMatrices found = stored(of);
  std::vector<std::string> names, left_out;
  std::int64_t most = 0;
  for (const StoredMatrix& matrix : found.matrices) {
    names.push_back(matrix.name);
    most = std::max(most, matrix.num_singular_values());
  }
  for (const LeftOutTensor& tensor : found.left_out) left_out.push_back(tensor.name);
  return {
      {info().dimensions.front(), std::move(left_out)},
      {{kTensor, "Matrix of the checkpoint: its tensor's name, with [i] where it is one of a stack"}, std::move(names)},
      {{"index"}, counted(most)}};
}

std::vector<PlacedMatrix> Tensors::matrices(const ModelDescription& model, const Settings& settings) const {
  StoredMatrices found = stored_matrices(model.tensors, choice_of(settings));
  std::vector<PlacedMatrix> placed;
  for (StoredMatrix& matrix : found.matrices)
    placed.push_back({static_cast<std::int64_t>(placed.size()), std::move(matrix)});
  if (!placed.empty()) return placed;
  constexpr std::size_t kMostShown = 5;
  std::vector<std::string> there;
  for (const StoredMatrix& matrix : stored_matrices(model.tensors, {{"*"}, {}, {"*"}, 0}).matrices)
    there.push_back(matrix.tensor);
  const std::size_t count = there.size();
  there.resize(std::min(count, kMostShown));
  throw InputError(ErrorKind::model, "the analysis 'tensors' finds no matrix in the checkpoint",
                   count == 0
                       ? "it holds no tensor of floating numbers with two dimensions or more"
                       : "include " + settings.at(kInclude).dump() + ", exclude " + settings.at(kExclude).dump() +
                             ", max_elements " + settings.at(kMaxElements).dump() + "; it holds " + quoted_list(there) +
                             (count > kMostShown ? " and " + std::to_string(count - kMostShown) + " more" : ""),
                   count == 0 ? "" : "Mend the patterns in the job's section 'tensors'.");
}

}  // namespace
}  // namespace tensors

const Analysis& tensors_analysis() {
  static const tensors::Tensors analysis;
  return analysis;
}

}  // namespace spectrace
