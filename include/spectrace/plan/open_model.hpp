#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/model/description.hpp"
#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// A model folder's config.json and the headers of its checkpoint.
struct ModelFiles {
  JsonNode config;
  TensorStore store;
};

/// @throws InputError (model, io) if one of them is absent or unreadable.
ModelFiles open_model_files(const std::filesystem::path& folder, IoMode io);

/// A model whose headers have been read: nothing of its data.
struct OpenModel {
  std::filesystem::path folder;
  JsonNode config;
  TensorStore store;
  ModelDescription description;
};

/// Config, headers, description, shapes checked. @throws InputError (model).
OpenModel open_model_folder(const std::filesystem::path& folder, IoMode io);
OpenModel open_model(const ModelEntry& entry, const Job& job, IoMode io);

/// Token ids of every prompt, by the model's own tokenizer where a prompt is text. What is wrong with one prompt goes
/// into its `error`, and so does a tokenizer that cannot be loaded, into that of every text: the rest of the model can
/// be measured without. A set of token ids needs none; random ones are drawn of the model's vocabulary but for the
/// special tokens that config.json names.
std::vector<PreparedSet> prepare_prompts(const OpenModel& model, const std::vector<const PromptSetEntry*>& sets);

/// Where the files of the tokenizer that made these ids contradict each other (TokenizerChoice::warnings).
std::vector<std::string> tokenizer_warnings(const std::vector<PreparedSet>& sets);

}  // namespace spectrace
