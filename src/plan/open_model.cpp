#include "spectrace/plan/open_model.hpp"

#include <optional>

#include "spectrace/checkpoint/hub.hpp"
#include "spectrace/core/parallel.hpp"
#include "spectrace/model/adapter.hpp"
#include "spectrace/model/forward.hpp"
#include "spectrace/text/tokenizer.hpp"

namespace spectrace {

ModelFiles open_model_files(const std::filesystem::path& folder, IoMode io) {
  const auto config_path = folder / "config.json";
  if (!std::filesystem::exists(config_path))
    throw InputError(ErrorKind::model, "'" + folder.string() + "' has no config.json",
                     "a model folder holds config.json and safetensors or .bin files", "Is it the right folder?");
  JsonNode config = JsonNode::parse_file(config_path, ErrorKind::model);
  return {std::move(config), TensorStore::open(folder, io)};
}

OpenModel open_model_folder(const std::filesystem::path& folder, IoMode io) {
  ModelFiles files = open_model_files(folder, io);
  ModelDescription description = describe_model(files.config, files.store);
  return {folder, std::move(files.config), std::move(files.store), std::move(description)};
}

OpenModel open_model(const ModelEntry& entry, const Job& job, IoMode io) {
  return open_model_folder(find_model_folder(entry.path, job.folder, job.models_root), io);
}

std::vector<PreparedSet> prepare_prompts(const OpenModel& model, const std::vector<const PromptSetEntry*>& sets) {
  std::optional<Tokenizer> tokenizer;
  const auto needs_tokenizer = [&] {
    for (const auto* set : sets)
      for (const auto& prompt : set->prompts)
        if (!prompt.input_ids) return true;
    return false;
  };
  if (needs_tokenizer()) tokenizer = Tokenizer::load(model.folder);

  std::vector<PreparedSet> prepared;
  for (const auto* set : sets) {
    PreparedSet& out = prepared.emplace_back();
    out.name = set->name;
    out.prompts.resize(set->prompts.size());
    parallel_for(static_cast<std::int64_t>(set->prompts.size()), [&](std::int64_t i) {
      const Prompt& prompt = set->prompts[static_cast<std::size_t>(i)];
      PreparedPrompt& target = out.prompts[static_cast<std::size_t>(i)];
      target.id = prompt.id;
      try {
        target.token_ids = prompt.input_ids ? *prompt.input_ids : tokenizer->encode(prompt.text);
        target.error = check_tokens(model.description, target.token_ids);
      } catch (const InputError& error) {
        if (error.kind() != ErrorKind::prompt) throw;
        target.error = error.what();
      }
    });
  }
  return prepared;
}

}  // namespace spectrace
