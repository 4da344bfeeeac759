#include "sources.hpp"

#include <algorithm>
#include <array>

#include "spectrace/checkpoint/tensor_store.hpp"

namespace spectrace {
namespace {

std::string merged_keys(const std::string& a, const std::string& b) {
  if (a.empty() || a == b || b.empty()) return a.empty() ? b : a;
  return a + ", " + b;
}

/// What a model of more than text puts before the names of its text part.
constexpr std::array kTextParts = {"", "model.language_model.", "language_model.", "model.text_model.", "text_model."};

bool holds_any(const TensorStore& store, const std::string& prefix) {
  const auto& tensors = store.tensors();  // sorted by name
  const auto first =
      std::lower_bound(tensors.begin(), tensors.end(), prefix,
                       [](const TensorInfo& tensor, const std::string& name) { return tensor.name < name; });
  return first != tensors.end() && first->name.starts_with(prefix);
}

/// Bit for bit. Reads no data where it follows from the headers, and little where the tensors differ.
bool are_equal(const TensorStore& store, const TensorInfo& a, const TensorInfo& b) {
  if (a.type != b.type || a.shape != b.shape) return false;
  if (a.file == b.file && a.offset == b.offset && a.strides == b.strides) return true;
  return store.read_segment_hashes(a, 0, 1) == store.read_segment_hashes(b, 0, 1) &&
         store.read_digest(a) == store.read_digest(b);
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
  const auto pick = [&](auto&& is_it) {
    for (const char* part : kTextParts)
      for (const char* prefix : prefixes)
        if (is_it(std::string(part) + prefix)) {
          text_part_ = part;
          prefix_ = part + std::string(prefix);
          return true;
        }
    return false;
  };
  if (!pick([&](const std::string& prefix) { return store.find(prefix + probe) != nullptr; }))
    pick([&](const std::string& prefix) { return !prefix.empty() && holds_any(store, prefix); });
}

bool SourceNames::has(const std::string& whole_name) const { return store_.find(whole_name) != nullptr; }

bool SourceNames::has_any(const std::string& base) const { return holds_any(store_, name(base)); }

std::vector<std::int64_t> SourceNames::stored_shape(const std::string& base) const {
  const TensorInfo* tensor = store_.find(name(base));
  return tensor == nullptr ? std::vector<std::int64_t>() : tensor->shape;
}

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

std::optional<std::string> SourceNames::find_head(std::initializer_list<const char*> heads) const {
  for (const char* head : heads)
    for (const std::string& name : {head + std::string(), text_part_ + head})
      if (has(name)) return name;
  return std::nullopt;
}

void SourceNames::unembedding(EmbeddingSources& embedding, std::initializer_list<const char*> heads, bool tied,
                              const Dim& vocab, const Dim& hidden) const {
  const auto head = find_head(heads);
  embedding.tied = tied;
  if (tied && head) {
    const TensorInfo* token = store_.find(embedding.token.tensor);
    if (token == nullptr)
      embedding.token.tensor = *head;
    else
      embedding.tied = are_equal(store_, *token, *store_.find(*head));
  }
  if (embedding.tied) {
    embedding.unembedding = embedding.token;
    return;
  }
  embedding.unembedding.tensor = head.value_or(*heads.begin());
  embedding.unembedding.shape = {vocab.size, hidden.size};
  embedding.unembedding.config_keys = merged_keys(vocab.keys, hidden.keys);
}

void SourceNames::unembedding_bias(EmbeddingSources& embedding, const Dim& vocab) const {
  const auto found = find_head({"lm_head.bias"});
  if (embedding.tied && !found) return;
  embedding.unembedding_bias = vector("lm_head.bias", vocab);
  embedding.unembedding_bias->tensor = found.value_or("lm_head.bias");
}

}  // namespace spectrace
