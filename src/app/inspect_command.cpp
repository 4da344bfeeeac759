#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "spectrace/app/commands.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/stored_spectrum.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/model/layer_parts.hpp"
#include "spectrace/plan/cost.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {
namespace {

/// "sliding window 4096", "sliding window 4096 in layers 0, 2, 4"; nothing if no layer has one.
std::string windows(const ModelDescription& model) {
  std::map<std::int64_t, std::vector<std::size_t>> layers_of;
  for (std::size_t layer = 0; layer < model.attention.size(); ++layer)
    if (model.attention[layer].sliding_window) layers_of[*model.attention[layer].sliding_window].push_back(layer);
  std::string text;
  for (const auto& [window, layers] : layers_of) {
    text += fmt::format(", sliding window {}", window);
    if (layers.size() < model.attention.size()) text += fmt::format(" in layers {}", fmt::join(layers, ", "));
  }
  return text;
}

std::string attention_kind(const ModelDescription& model) {
  std::string kind = model.num_kv_heads == model.num_heads ? "multi-head"
                     : model.num_kv_heads == 1             ? "multi-query"
                                                           : "grouped-query";
  kind += windows(model);
  const AttentionSpec& first = model.attention.front();
  if (first.score_softcap) kind += fmt::format(", scores capped at {}", *first.score_softcap);
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

/// Bytes that one rank needs: the program, the largest layer with what its reading takes for a while, and work on
/// prompts of 2048 tokens in all.
Json memory_needed(const ModelDescription& model) {
  Json needed;
  for (const auto type : {ComputeType::float32, ComputeType::float64}) {
    std::int64_t layer = 0;
    for (std::int64_t l = 0; l < model.num_layers; ++l) layer = std::max(layer, layer_size_bytes(model, l, type));
    const auto work = block_workspace_bytes(model, 2048, 512, type, /*is_observed=*/true);
    const auto total = kProgramBytes + layer * 3 / 2 + work;
    needed[name(type)] = {{"largest_layer_bytes", layer}, {"work_bytes_2048_tokens", work}, {"total_bytes", total}};
  }
  return needed;
}

/// "1.5 GiB"
std::string human_size(double bytes) {
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (bytes < 1024) break;
    bytes /= 1024;
    unit = larger;
  }
  return unit == std::string("B") ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, unit);
}

/// What an analysis of tensors would take, with the settings of a job that says nothing of it, and what it costs.
Json stored_matrices_of(const TensorAnalysis& analysis, const ModelDescription& d) {
  Json matrices = Json::array();
  std::int64_t elements = 0, bytes = 0;
  double flops = 0;
  for (const auto& [place, matrix] : analysis.matrices(d, analysis.complete(std::nullopt))) {
    matrices.push_back({{"name", matrix.name}, {kRows, matrix.rows}, {kColumns, matrix.columns}});
    elements += matrix.num_elements();
    bytes = std::max(bytes, stored_spectrum_bytes(matrix));
    flops += stored_spectrum_flops(matrix);
  }
  return {{"num_matrices", matrices.size()},
          {"num_elements", elements},
          {"flops", flops},
          {"memory_bytes", kProgramBytes + bytes},
          {"matrices", std::move(matrices)}};
}

/// By the analysis' name; `error` where it finds none.
Json stored_matrices_of(const ModelDescription& d) {
  Json all = Json::object();
  for (const Analysis* analysis : catalogue())
    if (const auto* of_tensors = dynamic_cast<const TensorAnalysis*>(analysis)) try {
        all[analysis->name()] = stored_matrices_of(*of_tensors, d);
      } catch (const InputError& error) {
        all[analysis->name()] = {{"error", error.what()}};
      }
  return all;
}

/// What there is to say of the files.
Json describe_files(const std::filesystem::path& folder, const TensorStore& store) {
  std::map<std::string, std::int64_t> bytes_by_type;
  std::uint64_t file_bytes = 0;
  for (const auto& tensor : store.tensors())
    bytes_by_type[name(tensor.type)] += static_cast<std::int64_t>(tensor.size_bytes);
  for (const auto& file : store.files()) file_bytes += file.size_bytes;
  return {{"folder", folder.string()},
          {"format", store.format()},
          {"num_files", store.files().size()},
          {"file_bytes", file_bytes},
          {"num_tensors", store.tensors().size()},
          {"storage_bytes_by_type", bytes_by_type}};
}

/// Of a model of no family.
Json describe_tensors(const OpenModel& model) {
  Json json = describe_files(model.folder, model.store);
  const ModelDescription& d = model.description;
  json.update({{"no_family", d.no_family},
               {"architecture", d.architecture},
               {"num_parameters", num_parameters(d)},
               {"impossible_analyses", impossible_analyses(d)},
               {"stored_matrices", stored_matrices_of(d)}});
  return json;
}

Json describe_block(const ModelDescription& d) {
  Json rope = Json::object();
  for (const auto& [fact, value] : d.rope_facts) rope[fact] = value;
  return {{"max_positions", d.max_positions},
          {"attention", attention_kind(d)},
          {"parallel_residual", d.block.parallel_residual},
          {"norms", norms(d)},
          {"position_encoding", d.position_encoding},
          {"rope", rope},
          {"memory", memory_needed(d)}};
}

/// Of a model whose block is not known: which layers have which matrices.
Json describe_stored_layers(const ModelDescription& d) {
  Json json = {{"no_forward", d.limits.no_forward}};
  std::map<std::string, std::vector<std::size_t>> layers_of_experts;
  for (std::size_t layer = 0; layer < d.layers.size(); ++layer) {
    std::string experts;
    std::size_t numbered = 0;
    for (const ExpertSources& expert : d.layers[layer].experts)
      if (expert.up.slice || std::isdigit(static_cast<unsigned char>(expert.name.front())))
        ++numbered;
      else
        experts += (experts.empty() ? "" : ", ") + expert.name;
    if (numbered > 0) experts = std::to_string(numbered) + " routed" + (experts.empty() ? "" : ", ") + experts;
    if (!experts.empty()) layers_of_experts[experts].push_back(layer);
  }
  for (const auto& [experts, layers] : layers_of_experts)
    json["experts"][experts] = fmt::format("{}", fmt::join(layers, ", "));
  if (const auto without = layers_without_attention(d); !without.empty()) json["layers_without_attention"] = without;
  return json;
}

Json describe(const std::filesystem::path& folder, const TensorStore& store, const ModelDescription& d) {
  Json heads = Json::array();
  for (std::int64_t h = 0; h < d.num_heads; ++h) heads.push_back(static_cast<std::int64_t>(d.kv_head_of(QueryHead{h})));
  std::vector<std::string> missing, unusable;
  for (const auto& [name, problem] : source_problems(d, store))
    (store.find(name) == nullptr ? missing : unusable).push_back(store.find(name) == nullptr ? name : problem);
  Json json = describe_files(folder, store);
  json.update({{"family", d.family},
               {"architecture", d.architecture},
               {"num_layers", d.num_layers},
               {"num_heads", d.num_heads},
               {"num_kv_heads", d.num_kv_heads},
               {kKvHeadOfHead, heads},
               {"head_dim", d.head_dim},
               {"hidden_size", d.hidden_size},
               {"intermediate_size", d.intermediate_size},
               {"vocab_size", d.vocab_size},
               {"num_parameters", num_parameters(d)},
               {"tied_embeddings", d.embedding.tied},
               {"unused_tensors", unused_tensors(d, store)},
               {"missing_tensors", missing},
               {"unusable_tensors", unusable},
               {"impossible_analyses", impossible_analyses(d)},
               {"stored_matrices", stored_matrices_of(d)}});
  json.update(d.has_forward() ? describe_block(d) : describe_stored_layers(d));
  json["warnings"] = store.warnings();
  for (const std::string& warning : d.warnings) json["warnings"].push_back(warning);
  if (const auto mtp = mtp_tensors(d, store); !mtp.empty()) json["mtp_tensors"] = mtp;
  if (!d.part_of.empty()) {
    json["text_part_of"] = d.part_of;
    json["num_tensors_of_other_parts"] = tensors_of_other_parts(d, store).size();
  }
  if (const std::string decoding = decoding_text(store); !decoding.empty()) json["storage_decoding"] = decoding;
  try {
    json["tokenizer"] = Tokenizer::load(folder).choice().to_json();
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

std::string shown_memory(const Json& memory) {
  std::string text;
  for (auto it = memory.begin(); it != memory.end(); ++it)
    text += fmt::format("{}{}: {} (largest layer {}, work on 2048 tokens {})", text.empty() ? "" : "; ", it.key(),
                        human_size((*it)["total_bytes"].get<double>()),
                        human_size((*it)["largest_layer_bytes"].get<double>()),
                        human_size((*it)["work_bytes_2048_tokens"].get<double>()));
  return text;
}

/// "197 of 108 million elements, about 4.2e+11 flops, 190 MiB": of each analysis.
std::string shown_matrices(const Json& analyses) {
  std::string text;
  for (const auto& [analysis, found] : analyses.items()) {
    if (found.contains("error")) {
      text += (text.empty() ? "" : "; ") + analysis + ": " + found.at("error").get<std::string>();
      continue;
    }
    text += fmt::format("{}{}: {} matrices of {:.4g} million elements, about {:.2g} flops, {} of memory",
                        text.empty() ? "" : "; ", analysis, found.at("num_matrices").get<std::size_t>(),
                        found.at("num_elements").get<double>() / 1e6, found.at("flops").get<double>(),
                        human_size(found.at("memory_bytes").get<double>()));
  }
  return text;
}

/// How a person reads it: sizes in units, big numbers in billions.
std::string shown(const std::string& key, const Json& value) {
  if (key == "file_bytes") return human_size(value.get<double>());
  if (key == "memory") return shown_memory(value);
  if (key == "stored_matrices") return shown_matrices(value);
  if (key == "num_parameters" && value.get<double>() >= 1e6)
    return fmt::format("{} ({:.4g} billion)", value.get<std::int64_t>(), value.get<double>() / 1e9);
  if (key != "storage_bytes_by_type") return shown(value);
  std::string text;
  for (auto it = value.begin(); it != value.end(); ++it)
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", it.key(), human_size(it->get<double>()));
  return text;
}

/// What the line is called where the key names bytes that it does not show.
std::string label(const std::string& key) {
  if (key == "file_bytes") return "file_size";
  if (key == "storage_bytes_by_type") return "storage_by_type";
  if (key == "memory") return "memory_of_a_rank";
  return key;
}

/// Of matrices whose names and sizes differ in numbers within the names alone, one line.
void print_matrices(const Json& analyses) {
  const auto without_numbers = [](const std::string& name) {
    std::string form;
    for (const char c : name)
      if (const bool is_digit = c >= '0' && c <= '9'; !is_digit || form.empty() || form.back() != '#')
        form += is_digit ? '#' : c;
    return form;
  };
  for (const auto& [analysis, found] : analyses.items()) {
    if (found.contains("error")) continue;
    std::vector<std::pair<std::string, std::size_t>> lines;
    for (const Json& matrix : found.at("matrices")) {
      const std::string line =
          fmt::format("{} x {}  {}", matrix.at(kRows).get<std::int64_t>(), matrix.at(kColumns).get<std::int64_t>(),
                      shown_text(without_numbers(matrix.at("name").get<std::string>())));
      const auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& one) { return one.first == line; });
      if (same == lines.end())
        lines.emplace_back(line, 1);
      else
        ++same->second;
    }
    fmt::print("\nwhat the analysis '{}' takes (#: a number):\n", analysis);
    for (const auto& [line, count] : lines) fmt::print("{:>6} of {}\n", count, line);
  }
}

}  // namespace

int command_inspect(const CommandLine& line) {
  const auto folder = find_named_model(line.target);
  const ModelFiles files = open_model_files(folder, IoMode::automatic);
  const bool has_family = names_known_family(files.config);
  const Json json = has_family ? describe(folder, files.store, read_description(files.config, files.store))
                               : describe_tensors(open_model_folder(folder, IoMode::automatic));
  const int code =
      has_family && !(json["missing_tensors"].empty() && json["unusable_tensors"].empty()) ? kSomeFailed : kAllDone;
  if (line.as_json) {
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return code;
  }
  for (const char* key : {"folder",
                          "family",
                          "no_family",
                          "no_forward",
                          "architecture",
                          "text_part_of",
                          "num_tensors_of_other_parts",
                          "num_parameters",
                          "num_layers",
                          "hidden_size",
                          "intermediate_size",
                          "num_heads",
                          "num_kv_heads",
                          "head_dim",
                          kKvHeadOfHead,
                          "layers_without_attention",
                          "experts",
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
                          "storage_decoding",
                          "warnings",
                          "missing_tensors",
                          "unusable_tensors",
                          "unused_tensors",
                          "mtp_tensors",
                          "impossible_analyses",
                          "memory",
                          "stored_matrices",
                          "tokenizer",
                          "tokenizer_error"})
    if (json.contains(key)) fmt::print("{:<22} {}\n", label(key), shown(key, json[key]));
  if (!has_family) print_matrices(json["stored_matrices"]);
  return code;
}

}  // namespace spectrace
