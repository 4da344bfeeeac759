#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/checkpoint/tensor_info.hpp"

namespace spectrace {

/// A query head and a key/value head do not share a bare int.
enum class QueryHead : std::int64_t {};
enum class KvHead : std::int64_t {};
/// Which key/value head every query head uses, as results and `inspect` name it.
inline constexpr const char* kKvHeadOfHead = "kv_head_of_head";

enum class NormKind { layer_norm, rms_norm };

/// How a normalization layer computes; its weights come with the layer.
struct NormSpec {
  NormKind kind = NormKind::layer_norm;
  double epsilon = 1e-5;
  double weight_offset = 0.0;  ///< 1 for Gemma: (1 + w) x
};

/// gelu_tanh_short: the tanh form with sqrt(2 / pi) cut to 0.79788456, as Megatron and so BLOOM write it.
/// gelu_sigmoid: x sigmoid(1.702 x), the "quick" one. relu_squared: So et al. 2021, arXiv:2109.08668. xielu: with two
/// parameters a layer (Huang & Schlag 2024, arXiv:2411.13010).
enum class Activation { relu, relu_squared, gelu, gelu_tanh, gelu_tanh_short, gelu_sigmoid, silu, xielu };

/// Rotary embedding of one layer. The tables are what the model was trained with: angles in float32 (docs/numerics.md).
struct RotarySpec {
  std::int64_t rotary_dim = 0;             ///< leading dimensions of a head that are turned
  bool interleaved = false;                ///< pairs (0,1),(2,3),… (GPT-J) instead of (i, i + rotary_dim / 2)
  bool reversed = false;                   ///< by the negative angle (nanochat)
  std::vector<float> inverse_frequencies;  ///< [rotary_dim / 2], scaling applied
  double attention_factor = 1.0;           ///< scales cos and sin (yarn, longrope)

  /// Prompts of more tokens than this turn at other frequencies: `long_inverse_frequencies` if there are any
  /// (longrope), else the theta that grows with the length (dynamic NTK). 0: the same for all lengths.
  std::int64_t long_threshold = 0;
  std::vector<float> long_inverse_frequencies;  ///< [rotary_dim / 2]
  double dynamic_theta = 0.0, dynamic_factor = 1.0;
};

/// The frequencies at which a prompt of `num_tokens` tokens turns: [rotary_dim / 2].
std::vector<float> inverse_frequencies(const RotarySpec& rotary, std::int64_t num_tokens);

/// Queries grow with their position p: by 1 + beta ln(1 + floor(p / positions)) (Llama 4's, in Ministral 3).
struct QueryGrowth {
  double beta = 0.0;
  std::int64_t positions = 0;
};

/// Attention of one layer.
struct AttentionSpec {
  double score_scale = 1.0;                    ///< scores are scale * q k^T
  std::optional<double> clip_qkv;              ///< entries of q, k and v, before their norms, lie within +- this (OLMo)
  std::optional<QueryGrowth> query_growth;     ///< after rotary
  std::optional<double> score_softcap;         ///< cap * tanh(score / cap)
  std::optional<std::int64_t> sliding_window;  ///< a token sees itself and the window - 1 before it
  std::optional<RotarySpec> rotary;
  std::vector<double> alibi_slopes;  ///< [num_heads], or empty; key j adds slope * j to the scores
  bool alibi_from_last = false;      ///< slope * (j - last key of the prompt) instead: the same attention (MPT)
  double alibi_scale = 1.0;          ///< of what ALiBi adds (Falcon: score_scale; BLOOM: 1)
  bool alibi_in_bfloat16 = false;    ///< slope * j is rounded to bfloat16, as Falcon was trained
};

/// The block: norm, attention, residual, norm, MLP, residual. Which norms there are is told by the weights' sources.
struct BlockSpec {
  bool parallel_residual = false;    ///< x + attention(norm(x)) + mlp(norm'(x)), instead of one after the other
  bool norm_after_residual = false;  ///< post-norm: x = norm(x + f(x)) (OPT-350m), instead of pre-norm
  NormSpec norm;
  bool query_key_norm_after_rotary = false;  ///< of queries and keys (Hunyuan), not before it
  double residual_multiplier = 1.0;          ///< of what attention and MLP add to the residual (Granite)
  Activation activation = Activation::gelu;
  bool gated_mlp = false;  ///< down(act(gate(x)) * up(x))
  bool residual_from_norm =
      false;  ///< the residual is norm(x), not x (BLOOM's apply_residual_connection_post_layernorm)
};

/// Rows [first, first + count) of a canonical (out, in) matrix as it is stored.
struct RowRange {
  std::int64_t first = 0, count = 0;
  std::int64_t last() const { return first + count; }  ///< the one behind them
};

/// Where a matrix W of y = W x, or a vector, lies in the checkpoint.
struct TensorSource {
  std::string tensor;                ///< name in the checkpoint, prefix included
  std::vector<std::int64_t> shape;   ///< as stored; checked before reading
  std::string config_keys;           ///< the config fields that the shape follows from: "ffn_dim, hidden_size"
  bool transposed = false;           ///< stored (in, out), as GPT-2's Conv1D
  std::vector<RowRange> rows;        ///< of the (out, in) matrix (or the vector), in this order; empty: all
  std::vector<std::string> stacked;  ///< further vectors of that shape: the rows of a matrix (StableLM: a norm a head)

  /// (out, in) or (out) after taking the rows
  std::vector<std::int64_t> canonical_shape() const;
};

struct LinearSource {
  TensorSource weight;
  std::optional<TensorSource> bias;
};

struct NormSource {
  std::optional<TensorSource> weight;  ///< absent in norms without parameters (OLMo 1, Galactica)
  std::optional<TensorSource> bias;
};

/// The numbers of a layer's xIELU: beta x + softplus(alpha_p) x^2 for x > 0, else beta x + (beta + softplus(alpha_n))
/// (exp(min(x, eps)) - 1 - x). Shape (1) for the alphas, () for the others.
struct XieluSource {
  TensorSource alpha_p, alpha_n, beta, eps;
};

/// Where a matrix lies that is one of several in a tensor: of a stack of them, and of that one some rows or columns. As
/// it is stored or its transpose, whose spectrum, norms and entries are the same.
struct PartSource {
  TensorSource whole;                 ///< of two dimensions, or a stack (experts, rows, columns)
  std::optional<std::int64_t> slice;  ///< along the first dimension of a stack
  std::optional<RowRange> rows;       ///< absent: all
  std::optional<RowRange> columns;    ///< absent: all; `step` apart
  std::int64_t column_step = 1;       ///< 2 where two matrices take turns (gpt-oss)

  std::int64_t num_rows() const { return rows ? rows->count : whole.shape[whole.shape.size() - 2]; }
  std::int64_t num_columns() const { return columns ? columns->count : whole.shape.back(); }
};

/// One of the MLPs of a layer that has several, of which the model chooses some for each token: matrices alone.
struct ExpertSources {
  std::string name;                ///< "0", "1", …; "shared": of every token; "dense": of a layer that has no others
  std::optional<PartSource> gate;  ///< gated ones only
  PartSource up, down;
};

/// Attention whose keys and values come out of one latent vector a token (DeepSeek-V2): k = W_UK c, v = W_UV c, where
/// c = norm(W_DKV x), and a part of the keys that all heads share, W_KR x. Biases are left out.
struct LatentSources {
  std::optional<LinearSource> w_dq, w_uq;  ///< absent where queries are W_Q x
  LinearSource w_dkv, w_kr, w_uk, w_uv;
};

/// Sources of one layer, canonical: W_Q is (H d, D), W_K and W_V are (K d, D), W_O is (D, H d).
struct LayerSources {
  LinearSource w_q, w_k, w_v, w_o;  ///< without a tensor where the layer has no such matrix, as in a hybrid's others
  std::optional<LatentSources> latent;
  std::optional<NormSource> query_norm, key_norm;  ///< on the head vectors (or all of q)
  std::optional<NormSource>
      attention_input_norm;  ///< before attention (post-norm: after its residual); absent in OLMo-2
  std::optional<NormSource> attention_output_norm;  ///< on attention's output, before the residual (Gemma-2)
  std::optional<NormSource> mlp_input_norm;  ///< before the MLP; absent: parallel residual shares the attention's
  std::optional<NormSource> mlp_output_norm;
  std::optional<LinearSource> mlp_gate;  ///< gated MLPs only
  LinearSource mlp_up, mlp_down;
  std::optional<XieluSource> xielu;    ///< with Activation::xielu
  std::vector<ExpertSources> experts;  ///< in the place of the MLP above
};

/// Every source of a layer, in the order of for_each_part; then those of latent attention, and of each expert's
/// matrices.
std::vector<const TensorSource*> all_sources(const LayerSources& layer);

/// What no model of a family has here, and why; empty: they have it.
struct FamilyLimits {
  std::string no_forward;  ///< the block is not known, so no prompt runs: only where matrices lie
  std::string no_heads;    ///< heads have no W_K and W_V of their own
};

/// A family as its adapter names it.
struct FamilyClass {
  const char* name;  ///< of its model with a head, as config.json's architectures have it
  FamilyLimits limits = {};
};

/// What the model makes of W_U x before its softmax: cap * tanh(scale * W_U x / cap).
struct LogitSpec {
  double scale = 1.0;
  std::optional<double> softcap;
};

/// Positions that no tensor holds: row r has sin(r f_i), then cos(r f_i), f_i = 10000^(-i / (D / 2 - 1)), a 0 where D
/// is odd; in float32 (XGLM).
struct SinusoidalPositions {
  std::int64_t offset = 0;               ///< row of position 0
  std::optional<std::int64_t> zero_row;  ///< is 0: the padding token's id, which the family takes for a row
};

/// What comes before block 0 and after the last.
struct EmbeddingSources {
  TensorSource token;                             // (V, E)
  std::optional<TensorSource> position;           // (P, D)
  std::optional<SinusoidalPositions> sinusoidal;  ///< instead of a table
  std::int64_t position_offset = 0;               ///< row of position 0 (OPT: 2)
  double scale = 1.0;                             ///< of token embeddings (Gemma: sqrt(D), rounded as the model does)
  std::optional<NormSource> norm;                 ///< of the sum of both (BLOOM)
  std::optional<LinearSource> project_in;         ///< OPT-350m: (D, E)
  std::optional<NormSource> final_norm;           ///< after the last block
  std::optional<LinearSource> project_out;        ///< OPT-350m: (E, D), between the final norm and the unembedding
  std::optional<TensorSource> unembedding_bias;   ///< GPT-J; no spectrum sees it
  LogitSpec logits;
  bool has_unembedding = true;             ///< else the checkpoint has no such matrix: a model of vectors or rewards
  TensorSource unembedding;                // (V, D or E)
  bool unembedding_is_of_16_bits = false;  ///< stored as bfloat16 or float16
  bool tied = false;
};

/// A model, whole: sizes, the block, where each weight lies. Made by an adapter from the config and the tensor names;
/// no tensor data is read for it. Where no adapter could (no_family), all that is known are the tensors.
struct ModelDescription {
  std::string family;        ///< "gpt2", "gpt_neox", …; empty: none
  std::string no_family;     ///< why there is none
  std::string architecture;  ///< class name in config.json: "GPT2LMHeadModel"
  FamilyLimits limits;
  std::string part_of;  ///< model type of the whole that this is the text part of; empty: text is all there is
  std::int64_t num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0, hidden_size = 0, vocab_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;  ///< rows of the position table, or the config's context length
  std::int64_t num_mtp_layers =
      0;  ///< of a head that predicts further tokens, beside the model (num_nextn_predict_layers)
  bool positions_are_limited = false;  ///< a learned table: longer prompts are an error; rotary: allowed
  BlockSpec block;
  std::vector<AttentionSpec> attention;  // [num_layers]
  std::vector<LayerSources> layers;      // [num_layers]
  EmbeddingSources embedding;
  bool fused_qkv_per_head = false;  ///< NeoX and BLOOM: what "as-published" slicing cuts in thirds
  std::string norm_placement;       ///< "pre", "post", "pre+post", for the results' attributes
  std::string position_encoding;    ///< "learned", "sinusoidal", "rotary", "alibi"
  /// RoPE facts for the results' attributes and `inspect`: theta, scaling fields, max positions; numbers as text.
  std::vector<std::pair<std::string, std::string>> rope_facts;
  std::vector<TensorInfo> tensors;  ///< everything that the checkpoint holds, by name

  /// What the files say that is not followed, or was taken in one of several ways, for whoever runs the model.
  std::vector<std::string> warnings;

  /// Among `tensors`; null if there is none of the name.
  const TensorInfo* find_tensor(const std::string& name) const;
  /// Whether it has a block, so that prompts run.
  bool has_forward() const { return no_family.empty() && limits.no_forward.empty(); }
  /// docs/quantities.md, section 1.
  KvHead kv_head_of(QueryHead head) const { return KvHead{static_cast<std::int64_t>(head) * num_kv_heads / num_heads}; }
  /// Every source, once, in a fixed order: to check shapes from headers, and to know what is unused.
  std::vector<const TensorSource*> all_sources() const;
};

}  // namespace spectrace
