#pragma once

#include <initializer_list>
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
/// fields.
class SourceNames {
 public:
  /// Picks the first prefix with which the checkpoint holds a tensor `probe`; the first of all where none does, so that
  /// errors show the usual name.
  SourceNames(const TensorStore& store, std::initializer_list<const char*> prefixes, const std::string& probe);

  bool has(const std::string& whole_name) const;
  std::string name(const std::string& base) const { return prefix_ + base; }

  TensorSource matrix(const std::string& base, const Dim& rows, const Dim& columns) const;
  TensorSource vector(const std::string& base, const Dim& size) const;
  NormSource norm(const std::string& base, const Dim& size, Bias bias) const;
  LinearSource linear(const std::string& base, const Dim& out, const Dim& in, Bias bias,
                      Layout layout = Layout::out_in) const;
  /// w_q, w_k, w_v of `layer` out of one fused matrix (and bias) of `out` rows.
  void fused_qkv(LayerSources& layer, const std::string& base, const Dim& out, const Dim& in, Bias bias,
                 const FusedRows& rows, Layout layout = Layout::out_in) const;
  /// The unembedding: the token table where the weights are tied, else the first of `heads` (whole names) that the
  /// checkpoint holds (the first where none does).
  void unembedding(EmbeddingSources& embedding, std::initializer_list<const char*> heads, bool tied, const Dim& vocab,
                   const Dim& hidden) const;
  /// The bias of a head that always has one (GPT-J, Phi). A checkpoint of the bare model, tied, has no head.
  void unembedding_bias(EmbeddingSources& embedding, const Dim& vocab) const;

 private:
  const TensorStore& store_;
  std::string prefix_;
};

}  // namespace spectrace
