#include "spectrace/plan/open_model.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "spectrace/checkpoint/hub.hpp"
#include "spectrace/checkpoint/other_kinds.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {

namespace {

/// Without the folder's name: what is written down about a model must not depend on where it lies.
std::string without_folder(std::string text, const std::string& folder) {
  for (auto at = text.find(folder); at != std::string::npos; at = text.find(folder, at)) {
    const bool in_a_path = at + folder.size() < text.size() && text[at + folder.size()] == '/';
    text.replace(at, folder.size() + in_a_path, in_a_path ? "" : "the model's folder");
  }
  return text;
}

/// All that is known of a model that no adapter describes.
ModelDescription undescribed(const ModelFiles& files, const std::filesystem::path& folder, const InputError& why) {
  ModelDescription description;
  description.no_family =
      without_folder(why.problem() + (why.why().empty() ? "" : " (" + why.why() + ")"), shown_text(folder.string()));
  description.architecture = architecture_of(files.config);
  description.tensors = files.store.tensors();
  return description;
}

}  // namespace

ModelFiles open_model_files(const std::filesystem::path& folder, IoMode io) {
  const auto config_path = folder / "config.json";
  if (!is_absent(config_path)) {
    JsonNode config = JsonNode::parse_file(config_path, ErrorKind::model);
    return {.config = std::move(config), .store = TensorStore::open(folder, io)};
  }
  refuse_other_kinds(folder);
  const InputError no_config(ErrorKind::model, "'" + folder.string() + "' has no config.json",
                             "a model folder holds config.json and safetensors or .bin files",
                             "Is it the right folder?");
  std::optional<TensorStore> store;
  try {
    store = TensorStore::open(folder, io);
  } catch (const InputError&) {
    throw no_config;  // nor weights
  }
  return {.config = JsonNode::of(Json::object(), config_path.string(), ErrorKind::model),
          .no_config = no_config,
          .store = std::move(*store)};
}

OpenModel open_model_folder(const std::filesystem::path& folder, IoMode io) {
  ModelFiles files = open_model_files(folder, io);
  std::optional<InputError> refusal = files.no_config;
  ModelDescription description;
  try {
    if (!refusal) description = read_description(files.config, files.store);
  } catch (const InputError& error) {
    refusal = error;
  }
  if (refusal) {
    // Of packed numbers not even the stored matrices mean anything. What is no object says nothing of it.
    if (files.config.is_object()) refuse_quantized(files.store, files.config);
    description = undescribed(files, folder, *refusal);
  }
  SourceProblems problems = source_problems(description, files.store);
  return {folder,
          std::move(files.config),
          std::move(files.store),
          std::move(description),
          std::move(refusal),
          std::move(problems)};
}

namespace {

/// A unit whose kind alone counts, and the layer.
std::vector<Unit> kinds_of_units(const Chosen& chosen, const OpenModel& model) {
  std::vector<Unit> units;
  if (const LayerAnalysis* layers = chosen.of_layers())
    for (std::int64_t layer = 0; layer < model.description.num_layers; ++layer)
      if (const LayerWork work{layers, layer}; !roles_of(model.description, work).empty())
        units.push_back({.work = work});
  if (const RowsAnalysis* rows = chosen.of_rows()) units.push_back({.work = RowsWork{rows}});
  for (PlacedMatrix& placed : chosen.analysis->matrices(model.description, chosen.settings))
    units.push_back({.work = TensorWork{chosen.analysis, placed.place, std::move(placed.matrix)}});
  if (chosen.is_of_prompts())
    units.push_back({.work = BatchWork{.is_predicted = chosen.of_prompts()->wants().predictions}});
  return units;
}

/// Whether every unit that the job could ask for needs one of these tensors.
bool lacks_everything(const OpenModel& model, const AnalysisChoice& analyses) {
  for (const Chosen& chosen : analyses)
    for (const Unit& unit : kinds_of_units(chosen, model))
      if (!find_problem(model, unit)) return false;
  return true;
}

}  // namespace

std::optional<std::string> find_problem(const OpenModel& model, const Unit& unit) {
  if (model.problems.empty()) return std::nullopt;
  auto needed = tensors_of(model.description, unit);
  if (const RowsWork* rows = unit.of_rows()) needed.push_back(rows->analysis->matrix(model.description).tensor);
  for (const std::string& tensor : needed)
    if (const auto problem = model.problems.find(tensor); problem != model.problems.end())
      return problem->second + ". Is the checkpoint whole, and config.json its own?";
  return std::nullopt;
}

OpenModel open_model(const ModelEntry& entry, const Job& job, IoMode io) {
  OpenModel model = open_model_folder(find_model_folder(entry.path, job.folder, job.models_root, entry.revision), io);
  const auto possible = job.analyses.possible(model.description);
  if (!model.refusal) {
    if (!model.problems.empty() && lacks_everything(model, possible))
      throw source_error(model.description, model.store, model.problems);
    return model;
  }
  const bool lacks_some = possible.names().size() < job.analyses.names().size();
  // A known family's model that is damaged, or says what is not understood, is wrong; of another family it is what it
  // is.
  if (possible.empty() || (lacks_some && names_known_family(model.config))) throw *model.refusal;
  return model;
}

namespace {

/// The model's tokenizer, or why there is none.
struct TokenizerOrError {
  std::optional<Tokenizer> tokenizer;
  std::string error;
};

TokenizerOrError load_tokenizer(const std::filesystem::path& folder) {
  try {
    return {Tokenizer::load(folder), {}};
  } catch (const InputError& error) {
    return {std::nullopt, without_folder(error.what(), shown_text(folder.string()))};
  }
}

bool has_text(const PromptSetEntry& set) {
  return std::any_of(set.prompts.begin(), set.prompts.end(), [](const Prompt& prompt) { return !prompt.input_ids; });
}

PreparedPrompt prepare_prompt(const Prompt& prompt, const ModelDescription& model, const TokenizerOrError& loaded) {
  PreparedPrompt prepared{prompt.id, {}, {}};
  if (!prompt.input_ids && !loaded.tokenizer) {
    prepared.error = loaded.error;
    return prepared;
  }
  try {
    prepared.token_ids = prompt.input_ids ? *prompt.input_ids : loaded.tokenizer->encode(prompt.text);
    prepared.error = check_tokens(model, prepared.token_ids);
  } catch (const InputError& error) {
    prepared.error = error.what();
  }
  return prepared;
}

/// Ids that config.json gives a meaning of their own, numbers or lists of them: the ends of a text, and of a model of
/// more than text whatever stands for an image ("image_token_id", "boi_token_index").
std::set<std::int64_t> special_tokens(const OpenModel& model) {
  std::set<std::int64_t> ids;
  const auto add_one = [&](const JsonNode& id) {
    if (id.is_integer()) ids.insert(id.as_int());
  };
  const auto add = [&](const JsonNode& value) {
    if (value.is_array()) value.for_each(add_one);
    add_one(value);
  };
  const bool is_part = !model.description.part_of.empty();
  const std::function<void(const JsonNode&)> add_all = [&](const JsonNode& config) {
    config.for_each_member([&](const std::string& key, const JsonNode& value) {
      const bool ends_text = key == "bos_token_id" || key == "eos_token_id" || key == "pad_token_id";
      if (ends_text || (is_part && (key.ends_with("_token_id") || key.ends_with("_token_index")))) add(value);
      if (is_part && value.is_object()) add_all(value);
    });
  };
  add_all(model.config);
  return ids;
}

std::vector<PreparedPrompt> prepare_random_tokens(const RepeatedRandomTokens& wanted, const OpenModel& model) {
  const std::set<std::int64_t> special = special_tokens(model);
  std::vector<std::int64_t> ids;
  for (std::int64_t id = 0; id < model.description.vocab_size; ++id)
    if (!special.contains(id)) ids.push_back(id);
  std::vector<PreparedPrompt> prepared(static_cast<std::size_t>(wanted.prompts));
  std::vector<std::vector<std::int64_t>> drawn(prepared.size());
  std::string error;
  try {
    drawn = repeated_random_tokens(wanted, ids);
  } catch (const InputError& none) {
    error = none.what();
  }
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    prepared[i] = {std::to_string(i), std::move(drawn[i]), error};
    if (error.empty()) prepared[i].error = check_tokens(model.description, prepared[i].token_ids);
  }
  return prepared;
}

}  // namespace

std::vector<PreparedSet> prepare_prompts(const OpenModel& model, const std::vector<const PromptSetEntry*>& sets) {
  TokenizerOrError loaded;
  if (std::any_of(sets.begin(), sets.end(), [](const auto* set) { return has_text(*set); }))
    loaded = load_tokenizer(model.folder);
  std::vector<PreparedSet> prepared;
  for (const auto* set : sets) {
    PreparedSet& out = prepared.emplace_back();
    out.name = set->name;
    if (set->random_tokens) {
      out.prompts = prepare_random_tokens(*set->random_tokens, model);
      continue;
    }
    if (loaded.tokenizer && has_text(*set)) out.tokenizer = loaded.tokenizer->choice().to_json().dump();
    out.prompts.resize(set->prompts.size());
    parallel_for(static_cast<std::int64_t>(set->prompts.size()), [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      out.prompts[index] = prepare_prompt(set->prompts[index], model.description, loaded);
    });
  }
  return prepared;
}

std::vector<std::string> tokenizer_warnings(const std::vector<PreparedSet>& sets) {
  for (const PreparedSet& set : sets) {
    if (set.tokenizer.empty()) continue;
    const Json choice = Json::parse(set.tokenizer);
    if (choice.contains("warnings")) return choice["warnings"].get<std::vector<std::string>>();
    return {};
  }
  return {};
}

}  // namespace spectrace
