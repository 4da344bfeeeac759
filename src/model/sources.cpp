#include "sources.hpp"

#include "spectrace/checkpoint/tensor_store.hpp"

namespace spectrace {
namespace {

std::string merged_keys(const std::string& a, const std::string& b) {
  if (a.empty() || a == b || b.empty()) return a.empty() ? b : a;
  return a + ", " + b;
}

LinearSource rows_of(const LinearSource& fused, const std::vector<RowRange>& rows) {
  LinearSource part = fused;
  part.weight.rows = rows;
  if (part.bias) part.bias->rows = rows;
  return part;
}

}  // namespace

Dim operator*(const Dim& a, const Dim& b) { return {a.size * b.size, merged_keys(a.keys, b.keys)}; }
Dim operator*(std::int64_t a, const Dim& b) { return {a * b.size, b.keys}; }
Dim operator+(const Dim& a, const Dim& b) { return {a.size + b.size, merged_keys(a.keys, b.keys)}; }

FusedRows fused_blocks(std::int64_t num_heads, std::int64_t num_kv_heads, std::int64_t head_dim) {
  const std::int64_t q = num_heads * head_dim, kv = num_kv_heads * head_dim;
  return {{{0, q}}, {{q, kv}}, {{q + kv, kv}}};
}

FusedRows fused_per_group(std::int64_t num_heads, std::int64_t num_kv_heads, std::int64_t head_dim) {
  const std::int64_t queries = num_heads / num_kv_heads * head_dim;
  FusedRows rows;
  for (std::int64_t group = 0; group < num_kv_heads; ++group) {
    const std::int64_t first = group * (queries + 2 * head_dim);
    rows.q.push_back({first, queries});
    rows.k.push_back({first + queries, head_dim});
    rows.v.push_back({first + queries + head_dim, head_dim});
  }
  return rows;
}

SourceNames::SourceNames(const TensorStore& store, std::initializer_list<const char*> prefixes,
                         const std::string& probe)
    : store_(store), prefix_(*prefixes.begin()) {
  for (const char* prefix : prefixes) {
    if (store.find(prefix + probe)) {
      prefix_ = prefix;
      return;
    }
  }
}

bool SourceNames::has(const std::string& whole_name) const { return store_.find(whole_name) != nullptr; }

TensorSource SourceNames::matrix(const std::string& base, const Dim& rows, const Dim& columns) const {
  TensorSource source;
  source.tensor = name(base);
  source.shape = {rows.size, columns.size};
  source.config_keys = merged_keys(rows.keys, columns.keys);
  return source;
}

TensorSource SourceNames::vector(const std::string& base, const Dim& size) const {
  TensorSource source;
  source.tensor = name(base);
  source.shape = {size.size};
  source.config_keys = size.keys;
  return source;
}

NormSource SourceNames::norm(const std::string& base, const Dim& size, Bias bias) const {
  NormSource source;
  source.weight = vector(base + ".weight", size);
  if (bias == Bias::yes) source.bias = vector(base + ".bias", size);
  return source;
}

LinearSource SourceNames::linear(const std::string& base, const Dim& out, const Dim& in, Bias bias,
                                 Layout layout) const {
  LinearSource source;
  source.weight = layout == Layout::out_in ? matrix(base + ".weight", out, in) : matrix(base + ".weight", in, out);
  source.weight.transposed = layout == Layout::in_out;
  if (bias == Bias::yes) source.bias = vector(base + ".bias", out);
  return source;
}

void SourceNames::fused_qkv(LayerSources& layer, const std::string& base, const Dim& out, const Dim& in, Bias bias,
                            const FusedRows& rows, Layout layout) const {
  const LinearSource fused = linear(base, out, in, bias, layout);
  layer.w_q = rows_of(fused, rows.q);
  layer.w_k = rows_of(fused, rows.k);
  layer.w_v = rows_of(fused, rows.v);
}

void SourceNames::unembedding(EmbeddingSources& embedding, std::initializer_list<const char*> heads, bool tied,
                              const Dim& vocab, const Dim& hidden) const {
  embedding.tied = tied;
  if (tied) {
    embedding.unembedding = embedding.token;
    return;
  }
  embedding.unembedding.tensor = *heads.begin();
  for (const char* head : heads) {
    if (!store_.find(head)) continue;
    embedding.unembedding.tensor = head;
    break;
  }
  embedding.unembedding.shape = {vocab.size, hidden.size};
  embedding.unembedding.config_keys = merged_keys(vocab.keys, hidden.keys);
}

void SourceNames::unembedding_bias(EmbeddingSources& embedding, const Dim& vocab) const {
  constexpr const char* kName = "lm_head.bias";
  if (embedding.tied && !has(kName)) return;
  embedding.unembedding_bias = vector(kName, vocab);
  embedding.unembedding_bias->tensor = kName;
}

}  // namespace spectrace
