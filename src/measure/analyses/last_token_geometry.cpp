// How the prompts of a set lie to each other: the spectrum of their last tokens' vectors (docs/quantities.md,
// "Geometry of last tokens").
#include <algorithm>
#include <cmath>
#include <string>

#include "../matrix_spectra.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/measure/analysis.hpp"
#include "spectrace/numerics/point_cloud.hpp"
#include "spectrace/numerics/spectral_summary.hpp"

namespace spectrace {
namespace last_token_geometry {
namespace {

constexpr const char *kVectors = "last_token_vectors", *kBoundary = "boundary", *kIndex = "index",
                     *kChannel = "channel";
constexpr const char *kNumVectors = "num_vectors", *kCentered = "centered_singular_values", *kRankMe = "rankme",
                     *kCovarianceRankMe = "rankme_covariance", *kAlpha = "alpha_req", *kRSquared = "alpha_req_r2";
constexpr const char* kName = "last_token_geometry";
constexpr const char *kEvery = "every", *kBoundaries = "boundaries";

double rankme_at_the_end(const ResultNumbers& results, const std::string& set) {
  const auto* values = results.numbers(group_of_set_numbers(set, kName), kRankMe);
  return values == nullptr || values->empty() ? kNaN : values->back();
}

std::vector<Quantity> geometry_of_set() {
  const std::vector<std::string> boundary = {kBoundary}, values = {kBoundary, kIndex};
  return {
      {.name = kNumVectors,
       .meaning = "Prompts that ran: rows of the matrix",
       .formula = "N",
       .function = "PointCloud"},
      {.name = spectral::kSingularValues,
       .dims = values,
       .meaning = "Singular values of the matrix of last tokens' vectors, largest first; NaN past the last",
       .formula = "σ(X), X [N, D] the last tokens' h_b",
       .function = "PointCloud"},
      {.name = kCentered,
       .dims = values,
       .meaning = "The same of these vectors less their mean",
       .formula = "σ(X − 1x̄ᵀ), x̄ the mean of the rows; σ²/(N − 1) are the covariance's eigenvalues",
       .function = "PointCloud"},
      {.name = spectral::kSingularValueError,
       .dims = boundary,
       .meaning = "Bound on the absolute error of each singular value, of both kinds",
       .formula = "proven bound ([numerics.md](numerics.md))",
       .function = "PointCloud"},
      {.name = kRankMe,
       .dims = boundary,
       .meaning = "exp of the entropy of the normalised singular values",
       .formula = "exp(−Σ p ln p), p = σ/Σσ",
       .function = "summarize_spectrum",
       .source = "Garrido et al. 2023"},
      {.name = kCovarianceRankMe,
       .dims = boundary,
       .meaning = "exp of the entropy of the covariance's normalised eigenvalues",
       .formula = "exp(−Σ p ln p), p = σ²/Σσ² of the centered σ",
       .function = "summarize_spectrum",
       .source = "Li et al. 2025"},
      {.name = spectral::kStableRank,
       .dims = boundary,
       .meaning = "Squared Frobenius norm over squared spectral norm",
       .formula = "Σσ²/σ₁²",
       .function = "summarize_spectrum"},
      {.name = kAlpha,
       .dims = boundary,
       .meaning = "Exponent of the fall of the covariance's eigenvalues over ranks 12 to 100; NaN for fewer than 21",
       .formula = "−slope of ln σᵢ² (centered) over ln i, i = 12 … 100, weights 1/i, of those σᵢ above "
                  "2⁻²³·√max(N, D)·σ₁(X)",
       .function = "eigenvalue_decay",
       .source = "Agrawal et al. 2022"},
      {.name = kRSquared,
       .dims = boundary,
       .meaning = "Share of the variance of the logarithms that this power law explains",
       .formula = "R² of that line over the same ranks, unweighted",
       .function = "eigenvalue_decay"},
  };
}

Json geometry_section() {
  return {{kEvery,
           {{"description", "Boundaries 0, every, 2 every ... and the last one."},
            {"type", "integer"},
            {"minimum", 1},
            {"default", 8}}},
          {kBoundaries,
           {{"description",
             "Instead: these boundaries; -1 is the last one, -2 the one before. A model has those of them that it is "
             "deep enough for."},
            {"type", "array"},
            {"minItems", 1},
            {"uniqueItems", true},
            {"items", {{"type", "integer"}}}}}};
}

AnalysisInfo geometry_info() {
  return {
      .name = kName,
      .meaning = "How the prompts of a set lie to each other: the spectrum of their last tokens' vectors.",
      .place = 68,
      .is_default = false,
      .quantities = {{.name = kVectors,
                      .dims = {"prompt", kBoundary, kChannel},
                      .meaning = "The last token's vector at the boundary",
                      .formula = "h_b of the last token",
                      .function = "PromptMeasurement",
                      .has_statistics = false,
                      .keep = Keep::in_records}},
      .set_quantities = geometry_of_set(),
      .dimensions = {{kChannel, "Place in the vector, from 0"}},
      .summary = {{.name = "rankme_last_boundary",
                   .meaning = "RankMe of the last tokens' vectors at the last boundary that was asked for",
                   .place = 82,
                   .value = rankme_at_the_end}},
      .section_schema = geometry_section(),
      .section_meaning = "Settings of the geometry of last tokens.",
  };
}

/// Ascending.
std::vector<std::int64_t> boundaries_of(const ModelDescription& model, const Settings& settings) {
  const std::int64_t last = model.num_layers;
  std::vector<std::int64_t> chosen;
  if (const auto named = settings.find(kBoundaries); named != settings.end()) {
    for (const Json& boundary : *named) {
      const std::int64_t b = boundary;
      chosen.push_back(b < 0 ? last + 1 + b : b);
    }
    std::erase_if(chosen, [&](std::int64_t b) { return b < 0 || b > last; });
  } else {
    for (std::int64_t b = 0; b < last; b += settings.at(kEvery).get<std::int64_t>()) chosen.push_back(b);
    chosen.push_back(last);
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

class Observer final : public PromptObserver {
 public:
  Observer(const ModelDescription& model, const Settings& settings, PromptArrays& arrays)
      : boundaries_(boundaries_of(model, settings)), arrays_(arrays) {}

  void see_last_tokens(std::int64_t boundary, const Tensor& rows) override {
    const auto place = std::lower_bound(boundaries_.begin(), boundaries_.end(), boundary);
    if (place == boundaries_.end() || *place != boundary) return;
    const Array values = as_array(rows);
    const std::int64_t width = rows.size(1);
    for (std::int64_t p = 0; p < rows.size(0); ++p)
      std::copy_n(values.values.begin() + p * width, width,
                  arrays_.slots(kVectors, {p, place - boundaries_.begin()}).begin());
  }

 private:
  const std::vector<std::int64_t> boundaries_;
  PromptArrays& arrays_;
};

/// As many boundaries a pass as there is memory for.
class Join final : public SetJoin {
 public:
  Join(const Circumstances& of, std::int64_t num_boundaries, std::int64_t limit_bytes)
      : width_(of.model.hidden_size), most_vectors_(of.num_prompts), num_boundaries_(num_boundaries) {
    const std::int64_t of_one = std::max<std::int64_t>(1, point_cloud_bytes(width_, most_vectors_));
    together_ = std::clamp<std::int64_t>(limit_bytes / of_one, 1, std::max<std::int64_t>(1, num_boundaries));
    const std::int64_t num_values = std::min(width_, most_vectors_);
    for (const Quantity& quantity : geometry_of_set()) {
      std::vector<std::int64_t> shape;
      if (!quantity.dims.empty()) shape.push_back(num_boundaries);
      if (quantity.dims.size() == 2) shape.push_back(num_values);
      numbers_.arrays[quantity.name] = Array::filled_with_nan(std::move(shape));
    }
    start_pass();
  }

  void add(const Record& batch) override {
    const Array& vectors = batch.arrays.at(kVectors);
    const std::int64_t num_prompts = vectors.shape[0];
    const Tensor all = at::from_blob(const_cast<double*>(vectors.values.data()), vectors.shape, at::kDouble);
    parallel_for(std::ssize(clouds_), [&](std::int64_t c) {
      const c10::InferenceMode no_autograd;
      std::vector<Tensor> ran;
      for (std::int64_t p = 0; p < num_prompts; ++p)
        if (const Tensor vector = all.select(0, p).select(0, first_ + c); is_number(vector)) ran.push_back(vector);
      if (!ran.empty()) clouds_[static_cast<std::size_t>(c)].add(at::stack(ran));
    });
  }

  bool needs_another_pass() override {
    for (std::size_t c = 0; c < clouds_.size(); ++c) store(first_ + static_cast<std::int64_t>(c), clouds_[c].finish());
    first_ += std::ssize(clouds_);
    start_pass();
    return !clouds_.empty();
  }

  Record finish() override { return std::move(numbers_); }

 private:
  /// Of a prompt that failed every entry is NaN, and of one that ran none.
  static bool is_number(const Tensor& vector) { return !std::isnan(*vector.const_data_ptr<double>()); }

  void start_pass() {
    clouds_.clear();
    for (std::int64_t b = first_; b < std::min(num_boundaries_, first_ + together_); ++b)
      clouds_.emplace_back(width_, most_vectors_);
  }

  void store(std::int64_t boundary, const CloudSpectra& spectra);

  const std::int64_t width_, most_vectors_, num_boundaries_;
  std::int64_t together_ = 1, first_ = 0;
  std::vector<PointCloud> clouds_;  // of the boundaries from first_ on
  Record numbers_;
};

void Join::store(std::int64_t boundary, const CloudSpectra& spectra) {
  const auto place = static_cast<std::size_t>(boundary);
  const auto set = [&](const char* name, double value) { numbers_.arrays.at(name).values.at(place) = value; };
  const auto set_values = [&](const char* name, const std::vector<double>& values) {
    Array& array = numbers_.arrays.at(name);
    std::copy(values.begin(), values.end(), array.values.begin() + boundary * array.shape.back());
  };
  numbers_.arrays.at(kNumVectors).values.front() = static_cast<double>(spectra.num_vectors);
  if (spectra.num_vectors == 0) return;
  const auto &values = spectra.of_vectors.values, &centered = spectra.centered.values;
  set_values(spectral::kSingularValues, values);
  set_values(kCentered, centered);
  set(spectral::kSingularValueError, std::max(spectra.of_vectors.error_bound, spectra.centered.error_bound));
  const SpectralSummary summary = summarize_spectrum(values, spectra.frobenius_norm, spectra.num_vectors, width_);
  set(kRankMe, summary.effective_rank);
  set(spectral::kStableRank, summary.stable_rank);
  if (centered.empty()) return;
  // What is smaller may be rounding of a forward pass in float32, whose spectrum falls in a way of its own.
  const double least = 0x1p-23 * std::sqrt(static_cast<double>(std::max(spectra.num_vectors, width_))) * values.front();
  std::vector<double> eigenvalues, known;  // over the largest one
  for (const double value : centered) {
    eigenvalues.push_back((value / centered.front()) * (value / centered.front()));
    if (value > least) known.push_back(eigenvalues.back());
  }
  set(kCovarianceRankMe, summarize_spectrum(eigenvalues, kNaN, spectra.num_vectors, width_).effective_rank);
  const EigenvalueDecay decay = eigenvalue_decay(known);
  set(kAlpha, decay.exponent);
  set(kRSquared, decay.r_squared);
}

class LastTokenGeometry final : public PromptAnalysis {
 public:
  LastTokenGeometry() : PromptAnalysis(geometry_info()) {}

  Settings complete(const std::optional<JsonNode>& section) const override {
    if (section && section->find(kEvery) && section->find(kBoundaries))
      throw section->error("'every' and 'boundaries' exclude each other");
    Settings settings = Analysis::complete(section);
    if (settings.contains(kBoundaries)) settings.erase(kEvery);
    return settings;
  }
  std::vector<Setting> deciding(const Settings& settings) const override {
    return {{"boundaries of last_token_geometry", kName, settings}};
  }
  std::vector<DimensionValues> dimensions(const Circumstances& of) const override {
    return {{{kBoundary}, boundaries_of(of.model, of.settings)},
            {{kIndex}, counted(std::min(of.num_prompts, of.model.hidden_size))},
            {info().dimensions.front(), counted(of.model.hidden_size)}};
  }
  PromptWants wants() const override { return {.last_tokens = true}; }
  std::unique_ptr<PromptObserver> observe(const ModelDescription& model, const TokenBatch&, const Settings& settings,
                                          PromptArrays& arrays) const override {
    return std::make_unique<Observer>(model, settings, arrays);
  }
  std::unique_ptr<SetJoin> join(const Circumstances& of, std::int64_t limit_bytes) const override {
    return std::make_unique<Join>(of, std::ssize(boundaries_of(of.model, of.settings)), limit_bytes);
  }
  std::int64_t join_bytes(const Circumstances& of) const override {
    return point_cloud_bytes(of.model.hidden_size, of.num_prompts);
  }
  double join_flops(const Circumstances& of) const override {
    const auto boundaries = static_cast<double>(boundaries_of(of.model, of.settings).size());
    return boundaries * point_cloud_flops(of.model.hidden_size, of.num_prompts);
  }
};

}  // namespace
}  // namespace last_token_geometry

const Analysis& last_token_geometry_analysis() {
  static const last_token_geometry::LastTokenGeometry analysis;
  return analysis;
}

}  // namespace spectrace
