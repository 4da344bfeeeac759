#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "spectrace/app/commands.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/foreign_memory.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/text.hpp"
#include "spectrace/plan/certain_need.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/sweep/device_choice.hpp"
#include "spectrace/work/opening.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Lines to print, and how many errors they tell of.
struct Findings {
  std::vector<std::string> errors, warnings;
  std::size_t num_errors = 0;
  bool is_refused = false;  // results that are there are of something else
  void add_error(std::string line, std::size_t count = 1) {
    errors.push_back(std::move(line));
    num_errors += count;
  }
};

/// "prompt 'a' of set 's'", "3 prompts of set 's' ('a', 'b', 'c')"; of many ids the first.
std::string name_prompts(const std::vector<std::string>& ids, const std::string& set) {
  if (ids.size() == 1) return fmt::format("prompt '{}' of set '{}'", ids.front(), set);
  constexpr std::size_t kMaxShown = 5;
  const std::vector<std::string> first(ids.begin(), ids.begin() + std::min<std::ptrdiff_t>(kMaxShown, std::ssize(ids)));
  return fmt::format("{} prompts of set '{}' ({}{})", ids.size(), set, quoted_list(first),
                     ids.size() > kMaxShown ? ", …" : "");
}

/// Prompts that cannot run, those of one reason in one line.
void find_prompt_errors(const PreparedSet& set, Findings& findings) {
  std::vector<std::string> reasons;
  std::map<std::string, std::vector<std::string>> ids_of;
  for (const auto& prompt : set.prompts) {
    if (prompt.error.empty()) continue;
    auto& ids = ids_of[prompt.error];
    if (ids.empty()) reasons.push_back(prompt.error);
    ids.push_back(prompt.id);
  }
  for (const auto& reason : reasons)
    findings.add_error(name_prompts(ids_of[reason], set.name) + ": " + reason, ids_of[reason].size());
}

/// Rotary angles go on past the context that a model was made for: allowed, and rarely meant.
void find_long_prompts(const PreparedSet& set, const ModelDescription& model, Findings& findings) {
  if (model.position_encoding != "rotary" || model.max_positions <= 0) return;
  std::vector<std::string> ids;
  std::size_t longest = 0;
  for (const auto& prompt : set.prompts) {
    if (!std::cmp_greater(prompt.token_ids.size(), model.max_positions)) continue;
    ids.push_back(prompt.id);
    longest = std::max(longest, prompt.token_ids.size());
  }
  if (ids.empty()) return;
  findings.warnings.push_back(
      fmt::format("{}: up to {} tokens, more than the {} positions that the model is made for "
                  "(its rotary angles go on past them, so it runs)",
                  name_prompts(ids, set.name), longest, model.max_positions));
}

/// What lacks a tensor, or surely does not fit into the rank that this process would be.
void find_units_that_fail(const Job& job, const OpenModel& model, std::vector<PreparedSet> sets, Findings& findings) {
  const AnalysisChoice analyses = job.analyses.possible(model.description);
  const ModelPlan plan = plan_model(model.description, analyses, planned(std::move(sets), analyses),
                                    plan_options(job, model.config.json()));
  const CertainNeed need(model.description, plan, job.compute.dtype);
  const std::int64_t limit = memory_limit_bytes(job, host_memory_bytes(), 1);
  std::set<std::string> found;
  const auto add = [&](const std::optional<std::string>& why) {
    if (why && found.insert(*why).second) findings.add_error(*why);
  };
  bool any_problem = false;
  for (const auto& unit : plan.units) {
    const auto problem = find_problem(model, unit);
    any_problem |= problem.has_value();
    add(problem);
    add(need.find_lack(unit, limit));
  }
  for (const PlannedSet& set : plan.sets)
    for (const Chosen& chosen : set.analyses)
      if (chosen.has_set_quantities())
        add(find_lack_of_join(chosen, circumstances_of(set, chosen, model.description), set.name, limit));
  if (!model.problems.empty() && !any_problem)
    findings.warnings.push_back(source_error(model.description, model.store, model.problems).what());
}

/// Everything wrong with one model, found from headers and prompts.
Findings check_model(const Job& job, const ModelEntry& entry) {
  Findings findings;
  try {
    const OpenModel model = open_model(entry, job, IoMode::automatic);
    findings.warnings = model.store.warnings();
    std::vector<PreparedSet> sets;
    const AnalysisChoice possible = job.analyses.possible(model.description);
    if (possible.any_of_prompts()) {
      sets = prepare_prompts(model, job.sets_of(entry));
      if (sets.empty())
        findings.warnings.push_back(plain_list(possible.of_prompts().names()) +
                                    " are not computed (the model has no prompt sets)");
      for (const auto& warning : tokenizer_warnings(sets)) findings.warnings.push_back("tokenizer: " + warning);
    }
    for (const auto& set : sets) {
      find_prompt_errors(set, findings);
      find_long_prompts(set, model.description, findings);
    }
    findings.warnings.insert(findings.warnings.end(), model.description.warnings.begin(),
                             model.description.warnings.end());
    for (const Chosen& chosen : job.analyses)
      if (const std::string why = chosen.analysis->lacks(model.description); !why.empty())
        findings.warnings.push_back(chosen.name() + " is not computed: " + why);
    try {
      expect_fitting_results(job, entry, model, sets);
    } catch (const InputError& error) {
      findings.add_error(error.what());
      findings.is_refused = error.kind() == ErrorKind::usage;
    }
    find_units_that_fail(job, model, std::move(sets), findings);
  } catch (const InputError& error) {
    findings.add_error(error.what());
  }
  return findings;
}

/// Tries what a run does first, and removes again what that has created. @throws InputError (io).
void expect_writable(const fs::path& output) {
  std::vector<fs::path> created;
  struct Removal {
    std::vector<fs::path>& folders;
    ~Removal() {
      std::error_code ignored;
      for (auto it = folders.rbegin(); it != folders.rend(); ++it) fs::remove(*it, ignored);
    }
  } removal{created};
  fs::path folder;
  std::error_code error;
  for (const auto& part : output / "logs") {
    folder /= part;
    if (fs::is_directory(folder, error)) continue;
    if (fs::create_directory(folder, error))
      created.push_back(folder);
    else
      create_folders(output / "logs");  // says why not, in a run's words
  }
  for (const auto& place : {output, output / "logs"}) {
    const fs::path file = place / fmt::format(".check-{}", ::getpid());
    write_file_atomically(file, "");
    fs::remove(file, error);
  }
}

void print_findings(const std::string& name, const Findings& findings) {
  constexpr std::size_t kMaxShown = 100;
  for (const auto& text : findings.warnings) fmt::print("{}: warning: {}\n", name, text);
  for (std::size_t i = 0; i < std::min(findings.errors.size(), kMaxShown); ++i)
    fmt::print("{}: {}\n", name, findings.errors[i]);
  if (findings.errors.size() > kMaxShown)
    fmt::print("{}: and {} lines more\n", name, findings.errors.size() - kMaxShown);
}

}  // namespace

int command_check(const CommandLine& line) {
  const Job job = read_job(line.target, line.run.overrides);
  set_process_memory(memory_limit_bytes(job, host_memory_bytes(), 1));
  Findings of_run;
  int exit_code = kAllDone;
  const auto try_run = [&](int code, auto&& f) {
    try {
      f();
    } catch (const InputError& error) {
      of_run.add_error(error.what());
      if (exit_code == kAllDone) exit_code = code;
    }
  };
  try_run(kWrongUsage, [&] { expect_device(job.compute.device); });
  try_run(kNothingReadOrWritten, [&] { expect_writable(job.output); });
  print_findings(line.target, of_run);

  std::size_t num_errors = of_run.num_errors, num_bad_models = 0, num_warnings = 0;
  for (const auto& entry : job.models) {
    const Findings findings = check_model(job, entry);
    print_findings(entry.name, findings);
    num_errors += findings.num_errors;
    num_bad_models += !findings.errors.empty();
    num_warnings += findings.warnings.size();
    if (findings.is_refused && exit_code == kAllDone) exit_code = kWrongUsage;
  }
  std::size_t num_prompts = 0;
  for (const auto& set : job.prompt_sets) num_prompts += set.num_prompts();
  if (num_errors == 0) {
    fmt::print("{}: ok: {}, {}, {}{}\n", line.target, number_of(job.models.size(), "model"),
               number_of(job.prompt_sets.size(), "prompt set"), number_of(num_prompts, "prompt"),
               num_warnings == 0 ? "" : ", " + number_of(num_warnings, "warning"));
    return kAllDone;
  }
  fmt::print(
      "{}: {}{}\n", line.target, number_of(num_errors, "error"),
      num_bad_models == 0 ? "" : fmt::format(" in {} of {}", num_bad_models, number_of(job.models.size(), "model")));
  return exit_code == kAllDone ? kSomeFailed : exit_code;
}

}  // namespace spectrace
