#pragma once

#include <string>
#include <vector>

#include "../config_fields.hpp"
#include "../sources.hpp"

namespace spectrace {

/// Why a family has no forward pass here.
inline constexpr const char* kMixtureOfExperts =
    "a mixture of experts, whose MLPs are chosen for each token: the block here has one for all";
inline constexpr const char* kHybrid =
    "a hybrid, in which something else than attention goes along the tokens too: the block here has attention alone";
inline constexpr const char* kLatentAttention =
    "keys and values come up from one latent vector a token, which the block here does not have";
/// Why heads of latent attention have no spectra of their own here.
inline constexpr const char* kNoHeads =
    "its keys and values come up from one latent vector a token, past a norm: no head has a W_K and a W_V on the "
    "residual stream (weights has W_DKV, W_UK and W_UV)";

/// How the stacks of a family's experts hold gate and up, which are one tensor.
enum class ExpertStacks {
  rows,         ///< (experts, [gate; up], hidden), and down (experts, hidden, inner)
  columns,      ///< (experts, hidden, [gate, up]), and down (experts, inner, hidden)
  taking_turns  ///< the same, gate and up in turn
};

/// Names of the matrices in the layers of a family whose block is not known, which are otherwise Llama's, and what its
/// config class has for fields that are absent.
struct StoredNames {
  std::int64_t num_kv_heads = 0;  ///< 0: as many as heads
  std::int64_t head_dim = 0;      ///< 0: D / H
  bool tied = false;
  std::string mlp = "mlp.";          ///< of experts, and of a layer without
  std::string experts = "experts.";  ///< behind that
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  std::string fused_gate_up = {};  ///< in their place, one matrix with the gate's rows first
  std::string shared = {};         ///< of the expert that every token goes through
  ExpertStacks stacks = ExpertStacks::rows;
  std::string stacked_gate_up = "experts.gate_up_proj", stacked_down = "experts.down_proj";  ///< behind `mlp`
  std::string output = "o_proj";
  bool is_hybrid = false;      ///< some layers have no attention
  bool gated_queries = false;  ///< behind the rows of each head's query as many of a gate
};

/// Mixtral's: experts w1, w3, w2 in block_sparse_moe; 8 key/value heads.
StoredNames mixtral_names();
/// Granite MoE's: stacks input_linear and output_linear in block_sparse_moe, and in models that have one a shared MLP.
StoredNames granite_moe_names();
/// Qwen3-Next's: gated queries in some layers, 2 key/value heads of 256 where the config does not say.
StoredNames qwen3_next_names();
/// LFM2's: w1, w3, w2 in feed_forward, short convolutions in most layers.
StoredNames lfm2_names();

/// A model of which it is known where its matrices lie, and no more. A layer's MLP is one of experts if the checkpoint
/// has any in it. Sizes of an MLP are those of the stored matrices, which have to fit each other.
ModelDescription describe_stored(ConfigFields& fields, const TensorStore& store, const StoredNames& stored);

/// The same with latent attention.
ModelDescription describe_stored_latent(ConfigFields& fields, const TensorStore& store, const StoredNames& stored);

}  // namespace spectrace
