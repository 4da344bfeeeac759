#include "spectrace/store/schema.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"

namespace spectrace {

const std::vector<DatasetSpec>& checkpoint_schema() {
  static const std::vector<DatasetSpec> schema = {
      {"digest", {"tensor"}, "1", "Digest of the tensor's bytes, type and shape: what the results were made of"},
  };
  return schema;
}

const std::vector<DatasetSpec>& weights_schema() {
  static const std::vector<std::string> matrix = {"layer", "matrix"};
  static const std::vector<DatasetSpec> schema = {
      {"singular_values", {"layer", "matrix", "index"}, "1", "Singular values, descending; NaN past the last"},
      {"num_singular_values", matrix, "1", "Number of singular values, min(rows, columns)"},
      {"singular_value_error", matrix, "1", "Absolute error bound that holds for every singular value"},
      {"spectral_norm", matrix, "1", "Largest singular value"},
      {"frobenius_norm", matrix, "1", "Frobenius norm, from the entries"},
      {"effective_rank", matrix, "1", "exp of the entropy of the singular values scaled to sum 1"},
      {"stable_rank", matrix, "1", "Squared Frobenius norm over squared spectral norm"},
      {"condition_number", matrix, "1", "Largest over smallest singular value; inf if the smallest is 0"},
      {"numerical_rank", matrix, "1", "Singular values above the largest times max(rows, columns) times 2^-23"},
      {"entry_mean", matrix, "1", "Mean of the entries"},
      {"entry_std", matrix, "1", "Standard deviation of the entries, unbiased"},
  };
  return schema;
}

const std::vector<DatasetSpec>& heads_schema() {
  static const std::vector<std::string> head = {"layer", "matrix", "head"};
  static const std::vector<DatasetSpec> schema = {
      {"singular_values", {"layer", "matrix", "head", "index"}, "1", "Singular values of the head's slice, descending"},
      {"spectral_norm", head, "1", "Largest singular value of the head's slice"},
      {"frobenius_norm", head, "1", "Frobenius norm of the head's slice, from the entries"},
      {"effective_rank", head, "1", "exp of the entropy of the slice's singular values scaled to sum 1"},
      {"stable_rank", head, "1", "Squared Frobenius norm over squared spectral norm of the slice"},
      {"condition_number", head, "1", "Largest over smallest singular value of the slice; inf if the smallest is 0"},
  };
  return schema;
}

const std::vector<DatasetSpec>& unembedding_schema() {
  static const std::vector<DatasetSpec> schema = {
      {"singular_values", {"index"}, "1", "Singular values of W_U, descending"},
      {"row_norm", {"token"}, "1", "Euclidean norm of each token's row of W_U"},
      {"singular_value_error", {}, "1", "Absolute error bound that holds for every singular value"},
      {"spectral_norm", {}, "1", "Largest singular value of W_U"},
      {"frobenius_norm", {}, "1", "Frobenius norm of W_U, from the entries"},
      {"effective_rank", {}, "1", "exp of the entropy of the singular values scaled to sum 1"},
      {"row_norm_mean", {}, "1", "Mean of the row norms"},
      {"row_norm_std", {}, "1", "Standard deviation of the row norms, unbiased"},
      {"spectral_per_sqrt_vocab", {}, "1", "Spectral norm over the square root of the vocabulary's size"},
  };
  return schema;
}

const std::vector<PromptQuantity>& prompt_schema() {
  static const std::vector<std::string> head = {"prompt", "layer", "head"}, layer = {"prompt", "layer"},
                                        beta = {"prompt", "layer", "head", "beta"}, boundary = {"prompt", "boundary"},
                                        prompt = {"prompt"};
  constexpr auto attention = Analysis::attention, sheaf = Analysis::sheaf, residual = Analysis::residual;
  const auto large = [](const char* name, const char* units, const char* meaning) {
    return PromptQuantity{{name, beta, units, meaning}, sheaf, true, true, true};
  };
  static const std::vector<PromptQuantity> schema = {
      {{"row_entropy", head, "nat", "Mean over rows of the entropy of the attention"}, attention},
      {{"sparsity", head, "1", "Share of all n^2 attention entries that are below 0.01"}, attention},
      {{"flat_entropy", head, "1", "Entropy of all attention entries above 1e-10, over the log of their number"},
       attention},
      {{"row_entropy_mean_attention", layer, "nat", "Row entropy of the attention averaged over heads"}, attention},
      {{"sparsity_mean_attention", layer, "1", "Sparsity of the attention averaged over heads"}, attention},
      {{"flat_entropy_mean_attention", layer, "1", "Flat entropy of the attention averaged over heads"}, attention},
      {{"trace", head, "1", "Trace of the sheaf Laplacian"}, sheaf},
      {{"lambda_max", head, "1", "Largest eigenvalue of the sheaf Laplacian"}, sheaf},
      {{"spectral_gap", head, "1", "Smallest non-zero eigenvalue of the sheaf Laplacian; NaN if there is none"}, sheaf},
      {{"nullity", head, "1", "Dimension of the sheaf Laplacian's null space"}, sheaf},
      {{"spectral_entropy", head, "nat", "Entropy of the sheaf Laplacian's eigenvalues scaled to sum 1"}, sheaf},
      {{"graph_lambda_2", head, "1",
        "Second smallest eigenvalue of the token graph's Laplacian (Fiedler value); NaN for one token"},
       sheaf},
      {{"trace_multihead", layer, "1", "Sum over heads of the traces"}, sheaf},
      {{"trace_mean_attention", layer, "1", "Trace with the attention averaged over heads and the first head's W_V"},
       sheaf},
      {{"contraction_ratio", layer, "1",
        "Mean over token pairs j <= i of the root of the attention averaged over heads"},
       sheaf},
      {{"log_partition", beta, "nat", "Log of the partition function over all eigenvalues, zeros included"}, sheaf},
      {{"free_energy", beta, "1", "Minus log_partition over beta"}, sheaf, true, false},
      large("log_partition_nonzero", "nat", "Log of the partition function over the non-zero eigenvalues"),
      large("internal_energy", "1", "Mean of the non-zero eigenvalues weighted by exp(-beta lambda)"),
      large("heat_capacity", "1",
            "beta^2 times the variance of the non-zero eigenvalues weighted by exp(-beta lambda)"),
      large("thermal_entropy", "nat", "Entropy of the weights exp(-beta lambda) of the non-zero eigenvalues"),
      large("graph_log_partition_nonzero", "nat", "log_partition_nonzero of the token graph's Laplacian alone"),
      large("graph_internal_energy", "1", "internal_energy of the token graph's Laplacian alone"),
      large("graph_heat_capacity", "1", "heat_capacity of the token graph's Laplacian alone"),
      large("graph_thermal_entropy", "nat", "thermal_entropy of the token graph's Laplacian alone"),
      {{"graph_eigenvalues",
        {"prompt", "layer", "head", "graph_index"},
        "1",
        "Eigenvalues of the token graph's Laplacian, ascending; NaN past the last"},
       sheaf,
       false},
      {{"last_token_norm", boundary, "1", "Norm of the last token's residual vector"}, residual},
      {{"mean_token_norm", boundary, "1", "Mean over tokens of the norm of the residual vector"}, residual},
      {{"final_norm_last_token", prompt, "1", "Norm of the last token's vector after the final norm"}, residual},
      {{"final_norm_mean_token", prompt, "1", "Mean over tokens of the norm after the final norm"}, residual},
      {{"gain", layer, "1", "Last token's norm leaving the layer over that entering it"}, residual},
      {{"last_gain_after_norm", prompt, "1",
        "Last token's norm after the final norm over that entering the last layer"},
       residual},
  };
  return schema;
}

bool is_kept(const PromptQuantity& quantity, const KeepChoice& keep) {
  if (!quantity.is_stored) return false;
  switch (keep.which) {
    case KeepChoice::Which::most: return !quantity.is_large;
    case KeepChoice::Which::all: return true;
    case KeepChoice::Which::listed: break;
  }
  return std::find(keep.quantities.begin(), keep.quantities.end(), quantity.dataset.name) != keep.quantities.end();
}

const std::vector<DatasetSpec>& statistics_scalars_schema() {
  static const std::vector<DatasetSpec> schema = {
      {"last_gain_mean", {}, "1", "Mean over prompts of the last layer's gain"},
      {"last_gain_after_norm_mean", {}, "1", "Mean over prompts of the last gain with the final norm"},
      {"effective_amplification", {}, "1", "Spectral norm of W_U times last_gain_mean"},
      {"l_star_trace", {}, "1", "Layer of the steepest change of the prompt-mean trace_multihead"},
      {"l_star_entropy",
       {},
       "1",
       "First layer whose prompt-mean flat entropy has reached the midpoint of first and last"},
      {"l_star_sign_change", {}, "1", "First layer where the prompt-mean trace_multihead turns from rising to falling"},
  };
  return schema;
}

const std::vector<std::string>& statistic_names() {
  static const std::vector<std::string> names = {"count", "nonfinite", "mean", "std", "min", "max"};
  return names;
}

DatasetSpec dimension_spec(const std::string& name) {
  static const std::vector<DatasetSpec> dimensions = {
      {"layer", {}, "1", "Block of the model, from 0"},
      {"matrix", {}, "1", "Attention matrix"},
      {"index", {}, "1", "Place of the singular value, largest first, from 0"},
      {"head", {}, "1", "Query head, from 0"},
      {"token", {}, "1", "Token id (unembedding) or place in the row of all prompts' tokens"},
      {"prompt", {}, "1", "Prompt, in the order of the set, from 0"},
      {"boundary", {}, "1", "0: what enters the first block; b: what leaves block b - 1"},
      {"beta", {}, "1", "Inverse temperature"},
      {"graph_index", {}, "1", "Place of the eigenvalue, smallest first, from 0"},
      {"statistic", {}, "1", "Statistic over the prompts"},
      {"row", {}, "1", "Model and prompt set"},
      {"tensor", {}, "1", "Tensor of the checkpoint"},
  };
  for (const auto& dimension : dimensions)
    if (dimension.name == name) return dimension;
  SPECTRACE_ASSERT(false);
  return {};
}

namespace {

void add_row(std::string& text, const DatasetSpec& spec) {
  std::string dims;
  for (const auto& dim : spec.dims) dims += (dims.empty() ? "" : ", ") + dim;
  text += "| `" + spec.name + "` | " + (dims.empty() ? "scalar" : dims) + " | " + spec.units + " | " + spec.long_name +
          " |\n";
}

void add_table(std::string& text, const std::string& title, const std::vector<DatasetSpec>& schema) {
  text += "\n## " + title + "\n\n| dataset | dimensions | units | meaning |\n|---|---|---|---|\n";
  for (const auto& spec : schema) add_row(text, spec);
}

}  // namespace

std::string schema_as_markdown() {
  std::string text;
  add_table(text, "/checkpoint", checkpoint_schema());
  add_table(text, "/weights", weights_schema());
  add_table(text, "/heads", heads_schema());
  add_table(text, "/unembedding", unembedding_schema());
  std::vector<DatasetSpec> prompt_datasets;
  for (const auto& quantity : prompt_schema())
    if (quantity.is_stored) prompt_datasets.push_back(quantity.dataset);
  add_table(text, "/prompts/<set>", prompt_datasets);
  add_table(text, "/prompts/<set>/statistics: scalars", statistics_scalars_schema());
  return text;
}

}  // namespace spectrace
