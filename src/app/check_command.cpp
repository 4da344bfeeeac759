#include <fmt/format.h>

#include "spectrace/app/commands.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// Everything wrong with one model, found from headers and prompts.
std::vector<std::string> model_errors(const Job& job, const ModelEntry& entry) {
  std::vector<std::string> lines;
  try {
    const OpenModel model = open_model(entry, job, IoMode::automatic);
    if (!job.analyses.any_of_prompts()) return lines;
    for (const auto& set : prepare_prompts(model, job.sets_of(entry)))
      for (const auto& prompt : set.prompts)
        if (!prompt.error.empty())
          lines.push_back(fmt::format("prompt '{}' of set '{}': {}", prompt.id, set.name, prompt.error));
  } catch (const InputError& error) {
    lines.push_back(error.what());
  }
  return lines;
}

}  // namespace

int command_check(const CommandLine& line) {
  const Job job = read_job(line.target);
  std::size_t num_errors = 0, num_models_with_errors = 0;
  for (const auto& entry : job.models) {
    const auto lines = model_errors(job, entry);
    for (const auto& text : lines) fmt::print("{}: {}\n", entry.name, text);
    num_errors += lines.size();
    num_models_with_errors += !lines.empty();
  }
  std::size_t num_prompts = 0;
  for (const auto& set : job.prompt_sets) num_prompts += set.prompts.size();
  if (num_errors == 0) {
    fmt::print("{}: ok: {} models, {} prompt sets, {} prompts\n", line.target, job.models.size(),
               job.prompt_sets.size(), num_prompts);
    return kAllDone;
  }
  fmt::print("{}: {} errors in {} of {} models\n", line.target, num_errors, num_models_with_errors, job.models.size());
  return kSomeFailed;
}

}  // namespace spectrace
