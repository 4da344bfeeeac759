#include "spectrace/results/result_attributes.hpp"

#include <algorithm>
#include <charconv>
#include <map>

#include "spectrace/core/build_info.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

/// Names of unused tensors that the file lists; their number stands beside them.
constexpr std::size_t kMostUnusedNamed = 50;

Attributes head_attributes(const Job& job, const ModelEntry& entry, const ResultStatus& status) {
  Attributes attributes = {
      {"Conventions", kConventions},
      {"source", std::string("spectrace ") + program_version()},
      {"parameters", Json{{"slicing", name(job.slicing)}, {"dtype", name(job.compute.dtype)}}.dump()},
      {"model", entry.name},
      {"lab", entry.lab},
      {"expected", entry.expected},
      {"status", status.status},
      {"error", status.error},
      {"failed_units", status.failed_units},
      {"slicing", std::string(name(job.slicing))},
      {"compute_dtype", std::string(name(job.compute.dtype))}};
  if (!entry.revision.empty()) attributes.emplace_back("revision", entry.revision);
  if (entry.step) attributes.emplace_back("step", *entry.step);
  if (!entry.meta.empty()) attributes.emplace_back("meta", entry.meta.dump());
  return attributes;
}

/// Type of the checkpoint's weights: that of the first W_V, of latent attention of the first matrix; of no family the
/// one that most bytes are of.
std::string storage_dtype(const OpenModel& model) {
  const auto& layers = model.description.layers;
  const auto with_values = std::find_if(layers.begin(), layers.end(),
                                        [](const LayerSources& layer) { return has_matrix(layer, MatrixRole::w_v); });
  const TensorSource* matrix = with_values == layers.end() ? first_matrix(model.description) : &with_values->w_v.weight;
  if (matrix != nullptr) {
    const TensorInfo* info = model.store.find(matrix->tensor);
    return info == nullptr ? "" : name(info->type);
  }
  std::map<StorageType, std::uint64_t> bytes;
  for (const TensorInfo& tensor : model.store.tensors()) bytes[tensor.type] += tensor.size_bytes;
  return name(std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) {
                return a.second < b.second;
              })->first);
}

/// What is known of a model that an adapter describes, or of one of no family.
Attributes model_attributes(const OpenModel& model) {
  const ModelDescription& description = model.description;
  if (!description.no_family.empty())
    return {{"architecture", description.architecture},
            {"no_family", description.no_family},
            {"num_parameters", num_parameters(description)},
            {"storage_dtype", storage_dtype(model)}};
  Attributes attributes = {
      {"architecture", description.architecture}, {"num_layers", description.num_layers},
      {"num_heads", description.num_heads},       {"num_kv_heads", description.num_kv_heads},
      {"head_dim", description.head_dim},         {"hidden_size", description.hidden_size},
      {"vocab_size", description.vocab_size},     {"num_parameters", num_parameters(description)},
      {"storage_dtype", storage_dtype(model)},    {"tied_embeddings", std::int64_t{description.embedding.tied}}};
  if (!description.has_forward()) {
    attributes.emplace_back("no_forward", description.limits.no_forward);
    if (const auto without = layers_without_attention(description); !without.empty())
      attributes.emplace_back("layers_without_attention", Json(without).dump());
    return attributes;
  }
  attributes.emplace_back("norm_placement", description.norm_placement);
  attributes.emplace_back("position_encoding", description.position_encoding);
  attributes.emplace_back("max_positions", description.max_positions);
  return attributes;
}

/// RoPE facts come as text; a number is kept as one.
AttributeValue number_or_text(const std::string& text) {
  const char* end = text.data() + text.size();
  std::int64_t integer = 0;
  if (const auto read = std::from_chars(text.data(), end, integer); read.ec == std::errc() && read.ptr == end)
    return integer;
  double number = 0;
  if (const auto read = std::from_chars(text.data(), end, number); read.ec == std::errc() && read.ptr == end)
    return number;
  return text;
}

/// Where a group stands in the file: weights in the catalogue's order, prompt sets as the job has them, each before its
/// statistics and what analyses say of it as a whole, sets of earlier jobs, the checkpoint.
std::size_t place_of(const Job& job, const std::string& path) {
  std::size_t place = 0;
  for (const Analysis* analysis : catalogue())
    if (const std::string& group = analysis->info().group; !group.empty()) {
      if (path == group) return place;
      ++place;
    }
  for (const auto& set : job.prompt_sets) {
    if (path == group_of_set(set.name)) return place;
    if (path == group_of_statistics(set.name)) return place + 1;
    place += 2;
    for (const Analysis* analysis : catalogue()) {
      if (analysis->info().set_quantities.empty()) continue;
      if (path == group_of_set_numbers(set.name, analysis->name())) return place;
      ++place;
    }
  }
  return path == kCheckpointGroup ? place + 1 : place;
}

}  // namespace

std::string text_attribute(const ResultTree& tree, const std::string& name) {
  const auto* value = tree.find_attribute(name);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? "" : *text;
}

Attributes result_attributes(const Job& job, const ModelEntry& entry, const OpenModel& model,
                             const ResultStatus& status) {
  Attributes attributes = head_attributes(job, entry, status);
  const ModelDescription& description = model.description;
  const Attributes facts = model_attributes(model);
  attributes.insert(attributes.end(), facts.begin(), facts.end());
  if (const std::string decoding = decoding_text(model.store); !decoding.empty())
    attributes.emplace_back("storage_decoding", decoding);
  const bool has_family = description.no_family.empty();
  if (const auto unused = unused_tensors(description, model.store); has_family && !unused.empty()) {
    std::string names;
    for (std::size_t i = 0; i < std::min(unused.size(), kMostUnusedNamed); ++i) names += (i ? " " : "") + unused[i];
    attributes.emplace_back("num_unused_tensors", static_cast<std::int64_t>(unused.size()));
    attributes.emplace_back("unused_tensors", shown_text(names));
  }
  if (!description.part_of.empty()) attributes.emplace_back("text_part_of", description.part_of);
  if (const Json impossible = impossible_analyses(description); !impossible.empty())
    attributes.emplace_back("impossible_analyses", impossible.dump());
  for (const auto& [fact, value] : description.rope_facts) attributes.emplace_back(fact, number_or_text(value));
  return attributes;
}

Attributes failed_attributes(const Job& job, const ModelEntry& entry, const std::string& error) {
  return head_attributes(job, entry, {"failed", error, 1});
}

void set_parameters(ResultTree& tree, const Identity& identity) {
  const std::string parameters = parameters_of(identity, analyses_in(tree)).dump();
  for (auto& [attribute, value] : tree.attributes)
    if (attribute == "parameters") value = parameters;
}

void add_earlier_groups(const ResultTree& earlier, ResultTree& tree) {
  for (const auto& group : earlier.groups)
    if (tree.find(group.path) == nullptr) tree.groups.push_back(group);
}

void order_groups(const Job& job, ResultTree& tree) {
  std::stable_sort(tree.groups.begin(), tree.groups.end(),
                   [&](const Group& a, const Group& b) { return place_of(job, a.path) < place_of(job, b.path); });
}

}  // namespace spectrace
