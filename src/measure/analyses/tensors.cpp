// Spectra of every matrix that the checkpoint stores, by name (docs/quantities.md, section "tensors").
#include <algorithm>

#include "../matrix_spectra.hpp"
#include "../rows_spectrum.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
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

/// From here on a tall matrix is read in blocks of rows, as W_U is, instead of whole: 16 MiB in float32.
constexpr std::int64_t kLeastElementsInRows = std::int64_t{1} << 22;
constexpr std::int64_t kLeastHeightInRows = 3;

bool is_of_16_bits(const StoredMatrix& matrix) {
  return matrix.type == StorageType::bfloat16 || matrix.type == StorageType::float16;
}
at::ScalarType type_of_16_bits(const StoredMatrix& matrix) {
  return matrix.type == StorageType::bfloat16 ? at::kBFloat16 : at::kHalf;
}
ComputeType type_to_read(const StoredMatrix& matrix) {
  return matrix.exceeds_float32 ? ComputeType::float64 : ComputeType::float32;
}

std::unique_ptr<RowsWay> way_for(const StoredMatrix& matrix) {
  return way_to_rows_spectrum(matrix.rows, matrix.columns, is_of_16_bits(matrix));
}

/// Rows a block, of about 16 MiB and more.
std::int64_t wanted_rows(const StoredMatrix& matrix) {
  return std::max(matrix.columns, kLeastElementsInRows / matrix.columns);
}

/// A whole matrix: 16-bit numbers stay what they are, since whoever takes its spectrum widens them.
Tensor read(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix) {
  if (!matrix.slice)
    return store.read(info, type_to_read(matrix), Widening::later).reshape({matrix.rows, matrix.columns});
  const Tensor one = at::empty({1, matrix.rows, matrix.columns}, scalar_type(type_to_read(matrix)));
  store.read_rows(info, *matrix.slice, one);
  return one[0];
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
  std::vector<StoredMatrix> matrices(const ModelDescription& model, const Settings& settings) const override;
  double flops(const StoredMatrix& matrix) const override {
    return comes_in_rows(matrix) ? way_for(matrix)->flops() : singular_values_flops(matrix.rows, matrix.columns);
  }
  std::int64_t bytes(const StoredMatrix& matrix) const override;
  std::int64_t least_bytes(const StoredMatrix& matrix) const override {
    if (comes_in_rows(matrix)) return 8 * matrix.columns * matrix.columns;
    const std::int64_t smaller = matrix.num_singular_values();
    return matrix.size_bytes() + 8 * smaller * smaller;
  }
  /// Not of a stack, whose matrices have no rows of their own; nor what exceeds float32, where squares may need a
  /// common scale.
  bool comes_in_rows(const StoredMatrix& matrix) const override {
    return !matrix.slice && !matrix.exceeds_float32 && matrix.rows >= kLeastHeightInRows * matrix.columns &&
           matrix.num_elements() >= kLeastElementsInRows;
  }
  Record measure(const TensorStore& store, const StoredMatrix& matrix,
                 const std::function<void(double share)>& on_progress) const override;

 private:
  Record measure_in_rows(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix,
                         const std::function<void(double share)>& on_progress) const;
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

std::vector<StoredMatrix> Tensors::matrices(const ModelDescription& model, const Settings& settings) const {
  StoredMatrices found = stored_matrices(model.tensors, choice_of(settings));
  if (!found.matrices.empty()) return std::move(found.matrices);
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

std::int64_t Tensors::bytes(const StoredMatrix& matrix) const {
  if (comes_in_rows(matrix)) {
    const std::int64_t height = std::min(matrix.rows, wanted_rows(matrix));
    return height * matrix.columns * (is_of_16_bits(matrix) ? 6 : 4) + matrix.rows * 48 + way_for(matrix)->bytes();
  }
  // What a stack is read into is at least float32.
  const std::int64_t element =
      matrix.slice ? element_size_bytes(type_to_read(matrix)) : element_size_bytes(matrix.type);
  return matrix.num_elements() * element + singular_values_bytes(matrix.rows, matrix.columns);
}

Record Tensors::measure(const TensorStore& store, const StoredMatrix& matrix,
                        const std::function<void(double share)>& on_progress) const {
  const TensorInfo* info = store.find(matrix.tensor);
  SPECTRACE_ASSERT(info != nullptr);  // the plan was made of the same header
  if (comes_in_rows(matrix)) return measure_in_rows(store, *info, matrix, on_progress);
  const Tensor w = read(store, *info, matrix);
  Record record;
  make_spectrum_arrays(record, {}, matrix.num_singular_values());
  const SingularValues singular = singular_values(w);
  store_spectrum(record, 0, {matrix.rows, matrix.columns}, singular, entry_moments(w));
  return record;
}

Record Tensors::measure_in_rows(const TensorStore& store, const TensorInfo& info, const StoredMatrix& matrix,
                                const std::function<void(double share)>& on_progress) const {
  const auto way = way_for(matrix);
  const auto spectrum = way->start();
  EntryMomentsOfRows entries;
  // Whole segments, so that the tensor's digest sees all rows.
  const std::int64_t segment = segment_rows(info);
  const std::int64_t height = std::min(matrix.rows, (wanted_rows(matrix) + segment - 1) / segment * segment);
  std::vector<std::int64_t> shape = info.shape;
  shape.front() = height;
  const Tensor buffer = at::empty(shape, at::kFloat);
  for (std::int64_t first = 0; first < matrix.rows; first += height) {
    const Tensor read = buffer.narrow(0, 0, std::min(height, matrix.rows - first));
    store.read_rows(info, first, read);
    const Tensor block = read.reshape({read.size(0), matrix.columns});
    entries.add_rows(block);
    spectrum->add_rows(way->takes_16_bits() ? block.to(type_of_16_bits(matrix)) : block);
    if (on_progress) on_progress(static_cast<double>(read.size(0)) / static_cast<double>(matrix.rows));
  }
  Record record;
  make_spectrum_arrays(record, {}, matrix.num_singular_values());
  store_spectrum(record, 0, {matrix.rows, matrix.columns}, spectrum->finish(), entries.finish());
  return record;
}

}  // namespace
}  // namespace tensors

const Analysis& tensors_analysis() {
  static const tensors::Tensors analysis;
  return analysis;
}

}  // namespace spectrace
