#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "spectrace/app/commands.hpp"
#include "spectrace/checkpoint/hub.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {
namespace {

std::string attention_kind(const ModelDescription& model) {
  std::string kind = model.num_kv_heads == model.num_heads ? "multi-head"
                     : model.num_kv_heads == 1             ? "multi-query"
                                                           : "grouped-query";
  const auto any = [&](auto has) { return std::any_of(model.attention.begin(), model.attention.end(), has); };
  if (any([](const AttentionSpec& a) { return a.sliding_window.has_value(); })) kind += ", sliding window";
  if (any([](const AttentionSpec& a) { return a.score_softcap.has_value(); })) kind += ", soft-capped scores";
  if (model.layers.front().query_norm) kind += ", query and key norm";
  if (model.fused_qkv_per_head) kind += ", stored fused per head";
  return kind;
}

Json norms(const ModelDescription& model) {
  const LayerSources& layer = model.layers.front();
  Json found = Json::array();
  const auto add = [&](const char* name, bool there) {
    if (there) found.push_back(name);
  };
  add("attention input", layer.attention_input_norm.has_value());
  add("attention output", layer.attention_output_norm.has_value());
  add("mlp input", layer.mlp_input_norm.has_value());
  add("mlp output", layer.mlp_output_norm.has_value());
  add("query", layer.query_norm.has_value());
  add("key", layer.key_norm.has_value());
  add("final", model.embedding.final_norm.has_value());
  return {{"kind", model.block.norm.kind == NormKind::rms_norm ? "RMSNorm" : "LayerNorm"},
          {"placement", model.norm_placement},
          {"where", found}};
}

/// Memory of one rank that runs prompts of 2048 tokens in all, MiB: libraries, the largest layer, work on it.
Json memory_needed(const ModelDescription& model) {
  Json needed;
  for (const auto type : {ComputeType::float32, ComputeType::float64}) {
    std::int64_t layer = 0;
    for (std::int64_t l = 0; l < model.num_layers; ++l) layer = std::max(layer, layer_size_bytes(model, l, type));
    const auto work = block_workspace_bytes(model, 2048, 512, type);
    needed[name(type)] = {{"largest_layer_bytes", layer}, {"work_bytes_2048_tokens", work}};
  }
  return needed;
}

Json describe(const OpenModel& model) {
  const ModelDescription& d = model.description;
  std::map<std::string, std::int64_t> bytes_by_type;
  std::uint64_t file_bytes = 0;
  for (const auto& tensor : model.store.tensors())
    bytes_by_type[name(tensor.type)] += static_cast<std::int64_t>(tensor.size_bytes);
  for (const auto& file : model.store.files()) file_bytes += file.size_bytes;
  Json heads = Json::array();
  for (std::int64_t h = 0; h < d.num_heads; ++h) heads.push_back(static_cast<std::int64_t>(d.kv_head_of(QueryHead{h})));
  Json rope = Json::object();
  for (const auto& [fact, value] : d.rope_facts) rope[fact] = value;
  Json json = {{"folder", model.folder.string()},
               {"family", d.family},
               {"architecture", d.architecture},
               {"num_layers", d.num_layers},
               {"num_heads", d.num_heads},
               {"num_kv_heads", d.num_kv_heads},
               {"kv_head_of_head", heads},
               {"head_dim", d.head_dim},
               {"hidden_size", d.hidden_size},
               {"intermediate_size", d.intermediate_size},
               {"vocab_size", d.vocab_size},
               {"max_positions", d.max_positions},
               {"num_parameters", num_parameters(d)},
               {"attention", attention_kind(d)},
               {"parallel_residual", d.block.parallel_residual},
               {"norms", norms(d)},
               {"position_encoding", d.position_encoding},
               {"rope", rope},
               {"tied_embeddings", d.embedding.tied},
               {"format", model.store.format()},
               {"num_files", model.store.files().size()},
               {"file_bytes", file_bytes},
               {"num_tensors", model.store.tensors().size()},
               {"storage_bytes_by_type", bytes_by_type},
               {"unused_tensors", unused_tensors(d, model.store)},
               {"missing_tensors", Json::array()},
               {"memory", memory_needed(d)}};
  try {
    json["tokenizer"] = Tokenizer::load(model.folder).description();
  } catch (const InputError& error) {
    json["tokenizer_error"] = error.what();
  }
  return json;
}

std::string shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_array()) {
    std::string text;
    for (const auto& element : value) text += (text.empty() ? "" : ", ") + shown(element);
    return text.empty() ? "none" : text;
  }
  if (value.is_object()) {
    std::string text;
    for (auto it = value.begin(); it != value.end(); ++it)
      text += (text.empty() ? "" : "; ") + it.key() + ": " + shown(*it);
    return text.empty() ? "none" : text;
  }
  return value.dump();
}

}  // namespace

int command_inspect(const CommandLine& line) {
  const auto folder = find_model_folder(line.target, std::filesystem::current_path(), {});
  const Json json = describe(open_model_folder(folder, IoMode::automatic));
  if (line.as_json) {
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  for (const char* key : {"folder",
                          "family",
                          "architecture",
                          "num_parameters",
                          "num_layers",
                          "hidden_size",
                          "intermediate_size",
                          "num_heads",
                          "num_kv_heads",
                          "head_dim",
                          "kv_head_of_head",
                          "attention",
                          "parallel_residual",
                          "norms",
                          "position_encoding",
                          "rope",
                          "max_positions",
                          "vocab_size",
                          "tied_embeddings",
                          "format",
                          "num_files",
                          "file_bytes",
                          "num_tensors",
                          "storage_bytes_by_type",
                          "missing_tensors",
                          "unused_tensors",
                          "memory",
                          "tokenizer",
                          "tokenizer_error"})
    if (json.contains(key)) fmt::print("{:<22} {}\n", key, shown(json[key]));
  return 0;
}

}  // namespace spectrace
