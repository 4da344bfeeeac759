// Which of a checkpoint's tensors a description uses, and what the others are.
#include <algorithm>
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include "spectrace/model/adapter.hpp"
#include "spectrace/model/layer_parts.hpp"

namespace spectrace {
namespace {

bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return name.ends_with(ending); });
}

}  // namespace

bool is_buffer(const TensorInfo& tensor) {
  const bool is_mask = tensor.shape.size() == 4 && ends_with_any(tensor.name, {".attn.bias", ".attention.bias"});
  const bool is_mask_value =
      tensor.num_elements() == 1 && ends_with_any(tensor.name, {".attn.masked_bias", ".attention.masked_bias"});
  return is_mask || is_mask_value || ends_with_any(tensor.name, {".rotary_emb.inv_freq", ".attn.embed_positions"});
}

namespace {

std::vector<std::string> parts_of_name(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

/// A module of its own ("mtp_layers" in MiMo, "mtp" in Qwen3-Next), or layers behind the model's (DeepSeek-V3,
/// GLM-4.5).
bool is_of_mtp_head(const ModelDescription& model, const std::string& name) {
  if (model.num_mtp_layers == 0) return false;
  const std::vector<std::string> parts = parts_of_name(name);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] == "mtp" || parts[i] == "mtp_layers") return true;
    if (parts[i] != "layers" || i + 1 == parts.size()) continue;
    for (std::int64_t layer = model.num_layers; layer < model.num_layers + model.num_mtp_layers; ++layer)
      if (parts[i + 1] == std::to_string(layer)) return true;
  }
  return false;
}

/// What the names of the text part's tensors begin with, and those of no other part: "model.language_model."; "" where
/// that is not known.
std::string text_prefix(const ModelDescription& model) {
  const TensorSource* matrix = first_matrix(model);
  const auto end = matrix == nullptr ? std::string::npos : matrix->tensor.find("layers.");
  return end == std::string::npos ? "" : matrix->tensor.substr(0, end);
}

bool is_of_other_part(const ModelDescription& model, const std::string& tensor) {
  return !model.part_of.empty() && !tensor.starts_with(text_prefix(model));
}

std::set<std::string> used_tensors(const ModelDescription& model) {
  std::set<std::string> used;
  for (const TensorSource* source : model.all_sources()) {
    used.insert(source->tensor);
    used.insert(source->stacked.begin(), source->stacked.end());
  }
  return used;
}

/// A tensor's name with a # for each number in it.
std::string without_numbers(const std::string& name) {
  std::string form;
  for (const std::string& part : parts_of_name(name)) {
    const bool is_number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return '0' <= c && c <= '9'; });
    form += (is_number ? "#" : part) + ".";
  }
  return form;
}

}  // namespace

std::vector<std::string> unused_tensors(const ModelDescription& description, const TensorStore& store) {
  const std::set<std::string> used = used_tensors(description);
  std::set<std::string> forms;  // of the names that are used
  if (!description.has_forward())
    for (const std::string& name : used) forms.insert(without_numbers(name));
  std::vector<std::string> unused;
  for (const TensorInfo& tensor : store.tensors()) {
    // Where no block is known, nobody says what else there has to be; but a layer or an expert more than config.json
    // has does not belong to it.
    if (!description.has_forward() && !forms.contains(without_numbers(tensor.name))) continue;
    const bool is_tied_head =
        description.embedding.tied &&
        ends_with_any(tensor.name, {"lm_head.weight", "embed_out.weight", "output_projection.weight"});
    if (is_floating(tensor.type) && tensor.num_elements() > 0 && !used.contains(tensor.name) && !is_buffer(tensor) &&
        !is_tied_head && !is_of_other_part(description, tensor.name) && !is_of_mtp_head(description, tensor.name))
      unused.push_back(tensor.name);
  }
  return unused;
}

std::vector<std::string> tensors_of_other_parts(const ModelDescription& description, const TensorStore& store) {
  const std::set<std::string> used = used_tensors(description);
  std::vector<std::string> others;
  for (const TensorInfo& tensor : store.tensors())
    if (is_of_other_part(description, tensor.name) && !used.contains(tensor.name)) others.push_back(tensor.name);
  return others;
}

std::vector<std::string> mtp_tensors(const ModelDescription& description, const TensorStore& store) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : store.tensors())
    if (is_of_mtp_head(description, tensor.name)) names.push_back(tensor.name);
  return names;
}

}  // namespace spectrace
