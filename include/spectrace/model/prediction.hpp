#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "spectrace/model/forward.hpp"

namespace spectrace {

/// What the model makes of a batch of prompts in the end: which tokens it expects next
/// (docs/quantities.md, section 5).
struct Predictions {
  std::vector<double> next_token_nll;       ///< [num_tokens]: -ln p of the token that follows; NaN of a prompt's last
  std::vector<double> entropy;              ///< [num_tokens]: of the distribution over the next token, nat
  std::vector<std::int64_t> most_probable;  ///< [num_tokens]: the token; the first one of equals
  // The logit lens (nostalgebraist 2020): the unembedding of a prompt's last token at each boundary b of the residual
  // stream, after the model's own final norm. [num_prompts, num_layers + 1]
  std::vector<double> lens_kl;       ///< divergence sum p_L ln(p_L / p_b) of the final distribution from it, nat
  std::vector<double> lens_entropy;  ///< nat
  std::vector<double> lens_rank;     ///< tokens more probable in p_b than p_L's most probable one
};

/// A batch behind the last block.
struct PredictionBatch {
  const TokenBatch* tokens = nullptr;
  Tensor normed;       ///< [num_tokens, hidden_size], after the final norm
  Tensor last_tokens;  ///< [num_prompts, num_layers + 1, hidden_size]: of each prompt's last token, before it
  Predictions found = {};
};

/// Scores of all tokens in blocks of rows of W_U, which is read twice; none is kept. The bits depend on each batch, W_U
/// and the kind of device alone. `go_on` is told after each block which share of the work was done since the last call.
/// @return false if `go_on` said so; then what was found is not whole.
/// @throws InputError (model, io) naming the tensor. @pre the model has an unembedding; all vectors lie on one device
/// and have one type.
bool predict(const ModelDescription& model, const TensorStore& store, std::span<PredictionBatch> batches,
             const std::function<bool(double share)>& go_on);

/// Of batches that go together, at most: so many hide the reading of W_U, and take some seconds of 8B.
inline constexpr std::int64_t kTokensPredictedTogether = 4096;

/// Flops for a prompt of so many tokens.
double prediction_flops(const ModelDescription& model, std::int64_t num_tokens);
/// Peak bytes of predict beside the batches' vectors: of the host, or of another device.
std::int64_t prediction_bytes(const ModelDescription& model, std::int64_t num_tokens, std::int64_t num_prompts,
                              ComputeType type, const Device& device = Device::cpu());
/// Names of the tensors that it reads, beside the final norm's.
std::set<std::string> tensors_of_prediction(const ModelDescription& model);

}  // namespace spectrace
