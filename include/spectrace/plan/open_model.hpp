#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/checkpoint/tensor_store.hpp"
#include "spectrace/core/json.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/plan/model_plan.hpp"

namespace spectrace {

/// A model folder's config.json and the headers of its checkpoint.
struct ModelFiles {
  JsonNode config;                        ///< an empty object if there is no file
  std::optional<InputError> no_config{};  ///< why not
  TensorStore store;
};

/// @throws InputError (model, io) if the weights are absent, or one of them is unreadable.
ModelFiles open_model_files(const std::filesystem::path& folder, IoMode io);

/// A model whose headers have been read: nothing of its data.
struct OpenModel {
  std::filesystem::path folder;
  JsonNode config;
  TensorStore store;
  ModelDescription description;
  std::optional<InputError> refusal{};  ///< why no adapter describes it: description.no_family, in full
  SourceProblems problems{};            ///< with tensors that the description names
};

/// What is wrong with the tensors that a unit needs; nothing if all is well. Only the units that it touches fail of it.
std::optional<std::string> find_problem(const OpenModel& model, const Unit& unit);

/// Config, headers, description, its tensors held against the headers. Of a model that no adapter describes, whatever
/// the reason, the tensors alone, and the refusal. @throws InputError (model) if it cannot be opened, or is quantized.
OpenModel open_model_folder(const std::filesystem::path& folder, IoMode io);
/// The same, for what the job asks. @throws InputError (model) also where nothing of that can be had: the refusal, or
/// source_error; and where the family is known, but its config is wrong, and the job asks for what needs it.
OpenModel open_model(const ModelEntry& entry, const Job& job, IoMode io);

/// Token ids of every prompt, by the model's own tokenizer where a prompt is text. What is wrong with one prompt goes
/// into its `error`, and so does a tokenizer that cannot be loaded, into that of every text: the rest of the model can
/// be measured without. A set of token ids needs none; random ones are drawn of the model's vocabulary but for the
/// special tokens that config.json names.
std::vector<PreparedSet> prepare_prompts(const OpenModel& model, const std::vector<const PromptSetEntry*>& sets);

/// Where the files of the tokenizer that made these ids contradict each other (TokenizerChoice::warnings).
std::vector<std::string> tokenizer_warnings(const std::vector<PreparedSet>& sets);

}  // namespace spectrace
