// Spectrum and row norms of the unembedding W_U (docs/quantities.md, section 2).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "../matrix_spectra.hpp"
#include "../rows_spectrum.hpp"
#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/numerics/exact_sum.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/singular_values.hpp"

namespace spectrace {
namespace unembedding {
namespace {

constexpr const char *kRowNorm = "row_norm", *kRowNormMean = "row_norm_mean", *kRowNormStd = "row_norm_std",
                     *kSpectralPerSqrtVocab = "spectral_per_sqrt_vocab";

std::vector<Quantity> unembedding_quantities() {
  return {
      {.name = spectral::kSingularValues,
       .dims = {"index"},
       .meaning = "Singular values of W_U, descending",
       .formula = "σᵢ of W_U, descending",
       .function = "ExactGram"},
      {.name = kRowNorm,
       .dims = {"token"},
       .meaning = "Euclidean norm of each token's row of W_U",
       .formula = "‖W_U[t]‖₂ of token t",
       .function = "row_norms"},
      {.name = spectral::kSingularValueError,
       .meaning = "Absolute error bound that holds for every singular value",
       .formula = "bound of |computed − exact| for every σᵢ",
       .function = "ExactGram"},
      {.name = spectral::kSpectralNorm,
       .meaning = "Largest singular value of W_U",
       .formula = "σ₁",
       .function = "summarize_spectrum"},
      {.name = spectral::kFrobeniusNorm,
       .meaning = "Frobenius norm of W_U, from the entries",
       .formula = "‖W_U‖_F, from the entries",
       .function = "row_norms"},
      {.name = spectral::kEffectiveRank,
       .meaning = "exp of the entropy of the singular values scaled to sum 1",
       .formula = "exp(−Σ p ln p), p = σ/Σσ",
       .function = "summarize_spectrum",
       .source = "Roy and Vetterli 2007"},
      {.name = kRowNormMean,
       .meaning = "Mean of the row norms",
       .formula = "mean of `row_norm`",
       .function = "row_norms"},
      {.name = kRowNormStd,
       .meaning = "Standard deviation of the row norms, unbiased",
       .formula = "its standard deviation, n−1",
       .function = "row_norms"},
      {.name = kSpectralPerSqrtVocab,
       .meaning = "Spectral norm over the square root of the vocabulary's size",
       .formula = "σ₁/√V",
       .function = "summarize_spectrum"},
  };
}

AnalysisInfo unembedding_info() {
  return {
      .name = "unembedding",
      .meaning = "Spectrum and row norms of the unembedding W_U.",
      .place = 30,
      .numerics_version = 2,
      .group = "/unembedding",
      .quantities = unembedding_quantities(),
      .summary = {{.name = "unembedding_spectral_norm",
                   .meaning = "Spectral norm of W_U",
                   .place = 60,
                   .value =
                       [](const ResultNumbers& results, const std::string&) {
                         return scalar_of(results, "/unembedding", spectral::kSpectralNorm);
                       }}},
  };
}

/// Rows a block: about 32 MiB in float64, and not so flat that the factorization's R is updated more often than needed.
std::int64_t wanted_rows(std::int64_t num_columns) {
  return std::max(num_columns, (std::int64_t{1} << 22) / std::max<std::int64_t>(1, num_columns));
}

/// A part shall have many times the rows of what it leaves, which goes through the journal, and be worth half a second
/// of a core and more.
constexpr std::int64_t kLeastHeight = 6;
constexpr double kLeastPartFlops = 2e10;
constexpr std::int64_t kMostParts = 8;

/// Whole segments, so that the digest of the tensor sees all rows. How rows are cut has no effect on the bits of the
/// singular values (RowsSpectrum), nor on the norms of rows and their exact sums.
std::int64_t rows_per_block(const TensorInfo& tensor) {
  const std::int64_t segment = segment_rows(tensor), wanted = wanted_rows(tensor.shape[1]);
  return (wanted + segment - 1) / segment * segment;
}

Array scalar(double value) { return Array{{}, {value}}; }

/// Norms of the rows from `first` on. @throws InputError if one of finite entries is no float64 number.
std::vector<double> finite_row_norms(const TensorInfo& tensor, const Tensor& block, std::int64_t first) {
  std::vector<double> norms = row_norms(block);
  const auto bad = std::find_if_not(norms.begin(), norms.end(), [](double norm) { return std::isfinite(norm); });
  if (bad == norms.end()) return norms;
  const std::int64_t row = bad - norms.begin();
  throw InputError(
      ErrorKind::model,
      "row " + std::to_string(first + row) + " of '" + tensor.name + "' has a norm beyond the range of float64",
      fmt::format("its largest entry is {:.3g}", block[row].abs().max().item<double>()),
      "No model has such weights: is the file damaged?");
}

/// What is stored of all rows.
Record results(RowsSpectrum& spectrum, std::vector<double> norms, std::int64_t num_columns) {
  const SingularValues singular = spectrum.finish();
  const auto num_rows = static_cast<std::int64_t>(norms.size());
  ExactSum<2> squares;
  for (const double of_row : norms) squares.add(of_row);
  const double frobenius = norm(squares);
  if (!std::isfinite(frobenius)) throw beyond_range("the Frobenius norm");
  const auto summary = summarize_spectrum(singular.values, frobenius, num_rows, num_columns);
  ExactSum<1> norm_sum;
  for (const double of_row : norms) norm_sum.add(of_row);
  const Moments row_moments = moments(num_rows, norm_sum, squares);

  Record record;
  record.arrays[spectral::kSingularValues] = {{static_cast<std::int64_t>(singular.values.size())}, singular.values};
  record.arrays[kRowNorm] = {{num_rows}, std::move(norms)};
  record.arrays[spectral::kSingularValueError] = scalar(singular.error_bound);
  record.arrays[spectral::kSpectralNorm] = scalar(summary.spectral_norm);
  record.arrays[spectral::kFrobeniusNorm] = scalar(frobenius);
  record.arrays[spectral::kEffectiveRank] = scalar(summary.effective_rank);
  record.arrays[kRowNormMean] = scalar(row_moments.mean);
  record.arrays[kRowNormStd] = scalar(row_moments.std);
  record.arrays[kSpectralPerSqrtVocab] = scalar(summary.spectral_norm / std::sqrt(static_cast<double>(num_rows)));
  return record;
}

bool is_whole(std::int64_t num_rows, const RowRange& rows) { return rows.count == num_rows; }

/// The parts in which a matrix of this shape is done, each by whichever rank: rows in order, the first ones one longer
/// where they are not equal. As many as keep the work of one worth its record. They follow from the shape alone,
/// since the bits depend on them. One if it is not worth more.
std::vector<RowRange> parts_of(std::int64_t num_rows, std::int64_t num_columns) {
  const double flops = triangle_flops(num_rows, num_columns);
  const std::int64_t by_height = num_rows / std::max<std::int64_t>(1, kLeastHeight * num_columns);
  const auto by_flops = static_cast<std::int64_t>(std::clamp(flops / kLeastPartFlops, 1.0, double{kMostParts}));
  const std::int64_t count = std::clamp<std::int64_t>(by_height, 1, by_flops);
  std::vector<RowRange> parts;
  for (std::int64_t i = 0, first = 0; i < count; ++i) {
    const std::int64_t size = num_rows / count + (i < num_rows % count ? 1 : 0);
    parts.push_back({first, size});
    first += size;
  }
  return parts;
}

MatrixShape shape_of_unembedding(const ModelDescription& model) {
  const auto shape = model.embedding.unembedding.canonical_shape();
  return {shape[0], shape[1]};
}

std::unique_ptr<RowsWay> way_for(const ModelDescription& model) {
  const MatrixShape shape = shape_of_unembedding(model);
  return way_to_rows_spectrum(shape.rows, shape.columns, model.embedding.unembedding_is_of_16_bits);
}

/// Puts what is left of all parts together.
class Join final : public RowsJoin {
 public:
  explicit Join(const ModelDescription& model)
      : spectrum_(way_for(model)->start_join()), num_columns_(shape_of_unembedding(model).columns) {}
  void add(const Record& part) override;
  Record finish() override { return results(*spectrum_, std::move(norms_), num_columns_); }

 private:
  std::unique_ptr<RowsSpectrum> spectrum_;
  std::int64_t num_columns_;
  std::vector<double> norms_;  // of all rows so far
};

void Join::add(const Record& part) {
  const auto& norms = part.arrays.at(kRowNorm).values;
  // Those of a journal that an earlier version left: it did not ask.
  if (!std::all_of(norms.begin(), norms.end(), [](double norm) { return std::isfinite(norm); }))
    throw beyond_range("the norm of a row");
  spectrum_->add_part(part, static_cast<std::int64_t>(norms.size()));
  norms_.insert(norms_.end(), norms.begin(), norms.end());
}

class Unembedding final : public RowsAnalysis {
 public:
  Unembedding() : RowsAnalysis(unembedding_info()) {}

  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    const MatrixShape shape = shape_of_unembedding(of.model);
    return {{{"index"}, counted(std::min(shape.rows, shape.columns))}, {{"token"}, counted(shape.rows)}};
  }
  std::string find_lack(const ModelDescription& model) const override { return find_lack_of_head(model); }
  const TensorSource& matrix(const ModelDescription& model) const override { return model.embedding.unembedding; }
  std::vector<RowRange> parts(const ModelDescription& model) const override {
    return parts_of(shape_of_unembedding(model).rows, shape_of_unembedding(model).columns);
  }
  double flops(const ModelDescription& model, const RowRange& rows) const override {
    const auto way = way_for(model);
    return is_whole(shape_of_unembedding(model).rows, rows) ? way->flops() : way->part_flops(rows.count);
  }
  double join_flops(const ModelDescription& model) const override {
    const auto num_parts = static_cast<std::int64_t>(parts(model).size());
    return num_parts == 1 ? 0 : way_for(model)->join_flops(num_parts);
  }
  std::int64_t workspace_bytes(const ModelDescription& model) const override;
  std::int64_t join_bytes(const ModelDescription& model) const override;
  Record measure(const ModelDescription& model, const TensorStore& store, Slicing slicing, const RowRange& rows,
                 const std::function<void(double share)>& on_progress) const override;
  bool fits(const Record& part, const ModelDescription& model, const RowRange& rows) const override;
  std::unique_ptr<RowsJoin> join(const ModelDescription& model) const override { return std::make_unique<Join>(model); }
};

/// Of whose numbers the rows are: stored ones, or what the notebooks' slicing rounds them to.
at::ScalarType type_of_16_bits(const TensorInfo& tensor, Slicing slicing) {
  return tensor.type == StorageType::bfloat16 && slicing != Slicing::as_published_float16 ? at::kBFloat16 : at::kHalf;
}

Record Unembedding::measure(const ModelDescription& model, const TensorStore& store, Slicing slicing,
                            const RowRange& rows, const std::function<void(double share)>& on_progress) const {
  const TensorInfo* info = store.find(matrix(model).tensor);
  SPECTRACE_ASSERT(info != nullptr);  // describe_model has seen it
  const std::int64_t num_rows = info->shape[0], num_columns = info->shape[1];
  SPECTRACE_ASSERT(rows.first >= 0 && rows.count > 0 && rows.last() <= num_rows);

  const auto way = way_for(model);
  const auto spectrum = way->start();
  std::vector<double> norms;
  norms.reserve(static_cast<std::size_t>(rows.count));
  const bool is_double = info->exceeds_float32();
  // Segments that two parts have rows of are read by both: a MiB or two.
  const SegmentRange segments = segments_of_rows(*info, rows.first, rows.last());
  const std::int64_t begin = segments.first * segment_rows(*info);
  const std::int64_t end = std::min(num_rows, segments.last * segment_rows(*info));
  const std::int64_t height = std::min(end - begin, rows_per_block(*info));
  const Tensor buffer = at::empty({height, num_columns}, is_double ? at::kDouble : at::kFloat);
  for (std::int64_t first = begin; first < end; first += height) {
    const Tensor read = buffer.narrow(0, 0, std::min(height, end - first));
    store.read_rows(*info, first, read);
    const std::int64_t from = std::max(first, rows.first), to = std::min(first + read.size(0), rows.last());
    const Tensor block = read.narrow(0, from - first, to - from);
    if (const Tensor kept = rounded(block, slicing); !kept.is_same(block)) block.copy_(kept);
    spectrum->add_rows(way->takes_16_bits() ? block.to(type_of_16_bits(*info, slicing)) : block);
    const auto of_block = finite_row_norms(*info, block, from);
    norms.insert(norms.end(), of_block.begin(), of_block.end());
    if (on_progress) on_progress(static_cast<double>(block.size(0)) / static_cast<double>(rows.count));
  }
  if (is_whole(num_rows, rows)) return results(*spectrum, std::move(norms), num_columns);
  Record record;
  record.arrays[kRowNorm] = {{rows.count}, std::move(norms)};
  spectrum->leave(record);
  return record;
}

bool Unembedding::fits(const Record& part, const ModelDescription& model, const RowRange& rows) const {
  const auto norms = part.arrays.find(kRowNorm);
  return norms != part.arrays.end() && norms->second.shape == std::vector<std::int64_t>{rows.count} &&
         way_for(model)->fits(part);
}

std::int64_t Unembedding::workspace_bytes(const ModelDescription& model) const {
  const auto [num_rows, num_columns] = shape_of_unembedding(model);
  const auto all_parts = parts(model);
  const std::int64_t height = all_parts.front().count;
  const auto way = way_for(model);
  // In float32 as a rule, and as numbers of 16 bits where they are taken.
  const std::int64_t block = std::min(height, wanted_rows(num_columns)) * num_columns * (way->takes_16_bits() ? 6 : 4);
  const std::int64_t norms = height * 24;  // and what is made of them
  return block + norms + (all_parts.size() == 1 ? way->bytes() : way->part_bytes(height));
}

std::int64_t Unembedding::join_bytes(const ModelDescription& model) const {
  if (parts(model).size() == 1) return 0;
  const auto way = way_for(model);
  // A part's record as it lies in the journal, and taken apart.
  return way->join_bytes() + 2 * way->record_bytes() + shape_of_unembedding(model).rows * 24;
}

}  // namespace
}  // namespace unembedding

const Analysis& unembedding_analysis() {
  static const unembedding::Unembedding analysis;
  return analysis;
}

}  // namespace spectrace
