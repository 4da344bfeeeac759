#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/model/description.hpp"

namespace spectrace {

class TensorStore;  // adapters only pass it on: without its header, and so libtorch's, they compile in a second

/// A size and the config fields that it comes from, for error messages.
struct Dim {
  std::int64_t size = 0;
  std::string keys;
};

/// a * b, from the fields of both.
Dim operator*(const Dim& a, const Dim& b);
Dim operator*(std::int64_t a, const Dim& b);
Dim operator+(const Dim& a, const Dim& b);

enum class Bias { no, yes };
enum class Layout { out_in, in_out };  ///< in_out: GPT-2's Conv1D

/// The rows of q, k and v in a matrix that holds all three.
struct FusedRows {
  std::vector<RowRange> q, k, v;
};
/// [q; k; v], each whole (GPT-2, Phi-3).
FusedRows fused_blocks(std::int64_t num_heads, std::int64_t num_kv_heads, std::int64_t head_dim);
/// [group, {its query heads, k, v}, head_dim] (NeoX and BLOOM with one query head a group, Falcon).
FusedRows fused_per_group(std::int64_t num_heads, std::int64_t num_kv_heads, std::int64_t head_dim);

/// Makes the sources of one checkpoint: names with the prefix that the checkpoint uses, shapes with their config
/// fields. The prefix is one of the family's, or one of these behind the name that a model of more than text gives to
/// its text part ("language_model.model.").
class SourceNames {
 public:
  /// Picks the first prefix with which the checkpoint holds a tensor `probe`; where none does, the first with which
  /// there is any tensor, or the first of all, so that errors show the usual name.
  SourceNames(const TensorStore& store, std::initializer_list<const char*> prefixes, const std::string& probe);

  bool has(const std::string& whole_name) const;
  /// Whether a tensor's name begins with the prefix and this.
  bool has_any(const std::string& base) const;
  /// Of the tensor of that name; empty if there is none.
  std::vector<std::int64_t> stored_shape(const std::string& base) const;
  std::string name(const std::string& base) const { return prefix_ + base; }

  TensorSource matrix(const std::string& base, const Dim& rows, const Dim& columns) const;
  TensorSource vector(const std::string& base, const Dim& size) const;
  NormSource norm(const std::string& base, const Dim& size, Bias bias) const;
  LinearSource linear(const std::string& base, const Dim& out, const Dim& in, Bias bias,
                      Layout layout = Layout::out_in) const;
  /// w_q, w_k, w_v of `layer` out of one fused matrix (and bias) of `out` rows.
  void fused_qkv(LayerSources& layer, const std::string& base, const Dim& out, const Dim& in, Bias bias,
                 const FusedRows& rows, Layout layout = Layout::out_in) const;
  /// The unembedding: the first of `heads` (names without a prefix) that the checkpoint holds (the first where none
  /// does). Where the weights are tied, it is the token table, unless the checkpoint has a head with other values,
  /// which counts (embedding.tied is false then). Of a tied pair the head alone may be stored: it is the token table
  /// too.
  void unembedding(EmbeddingSources& embedding, std::initializer_list<const char*> heads, bool tied, const Dim& vocab,
                   const Dim& hidden) const;
  /// The bias of a head that always has one (GPT-J, Phi). A checkpoint of the bare model, tied, has no head.
  void unembedding_bias(EmbeddingSources& embedding, const Dim& vocab) const;

 private:
  /// The first of the names, with or without the text part's, that is there.
  std::optional<std::string> find_head(std::initializer_list<const char*> heads) const;

  const TensorStore& store_;
  std::string prefix_;
  std::string text_part_;  ///< what it begins with, before the family's own
};

}  // namespace spectrace
