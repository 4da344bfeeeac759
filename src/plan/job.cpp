#include "spectrace/plan/job.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "spectrace/checkpoint/hub.hpp"
#include "spectrace/core/home.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Collects errors instead of stopping at the first.
class Problems {
 public:
  explicit Problems(std::string document) : document_(std::move(document)) {}
  void add(const std::string& line) { lines_.push_back(line); }
  /// Whether `f` went well.
  template <typename F>
  bool collect(F&& f) {
    try {
      f();
      return true;
    } catch (const InputError& error) {
      const std::string line = error.what(), prefix = document_ + ": ";
      lines_.push_back(line.starts_with(prefix) ? line.substr(prefix.size()) : line);
      return false;
    }
  }
  void throw_if_any() const {
    if (lines_.empty()) return;
    if (lines_.size() == 1) throw InputError(ErrorKind::usage, document_ + ": " + lines_.front());
    std::string text = document_ + ": " + std::to_string(lines_.size()) + " errors:";
    const std::size_t num_shown = std::min(lines_.size(), kMaxShown);
    for (std::size_t i = 0; i < num_shown; ++i) text += "\n  " + lines_[i];
    if (lines_.size() > num_shown) text += "\n  and " + std::to_string(lines_.size() - num_shown) + " more";
    throw InputError(ErrorKind::usage, text);
  }

 private:
  static constexpr std::size_t kMaxShown = 100;
  std::string document_;
  std::vector<std::string> lines_;
};

fs::path relative_to(const fs::path& folder, const std::string& path) {
  return path.empty() ? fs::path() : (folder / expand_home(path)).lexically_normal();
}

/// A path as the job gives it. One character would end it early for the system, and hide the rest from every message.
const std::string& path_text(const JsonNode& node) {
  if (node.as_string().find('\0') != std::string::npos) throw node.error("holds the character U+0000");
  return node.as_string();
}

Prompt parse_prompt(const JsonNode& node, std::size_t number) {
  Prompt prompt;
  prompt.id = std::to_string(number);
  if (node.is_string()) {
    prompt.text = node.as_string();
    return prompt;
  }
  prompt.id = node.get_string("id", prompt.id);
  prompt.text = node.get_string("text", "");
  if (const auto ids = node.find("input_ids")) {
    prompt.input_ids.emplace();
    ids->for_each([&](const JsonNode& id) { prompt.input_ids->push_back(id.as_int()); });
  }
  return prompt;
}

std::vector<Prompt> parse_prompts(const JsonNode& set, const fs::path& folder) {
  std::vector<Prompt> prompts;
  if (const auto path = set.find("path")) {
    prompts = read_prompt_file(relative_to(folder, path_text(*path)));
  } else {
    const JsonNode list = set.at("prompts");
    prompts.reserve(list.json().size());
    list.for_each([&](const JsonNode& prompt) { prompts.push_back(parse_prompt(prompt, prompts.size())); });
  }
  check_prompt_ids(prompts, "prompt set '" + set.at("name").as_string() + "'");
  return prompts;
}

RepeatedRandomTokens parse_random_tokens(const JsonNode& node) {
  const RepeatedRandomTokens wanted{node.at("prompts").as_int(), node.at("length").as_int(), node.at("seed").as_int()};
  if (2 * wanted.length > kMostRandomTokens / wanted.prompts)
    throw node.error("has too many tokens", std::to_string(wanted.prompts) + " prompts of twice " +
                                                std::to_string(wanted.length) + ", at most " +
                                                std::to_string(kMostRandomTokens) + " in all");
  return wanted;
}

/// Those asked for, each with its section; sections of others are looked through too.
AnalysisChoice parse_analyses(const JsonNode& job, Problems& problems) {
  std::set<std::string> asked;
  if (const auto names = job.find("analyses"))
    names->for_each([&](const JsonNode& name) { asked.insert(name.as_string()); });
  std::vector<Chosen> chosen;
  for (const Analysis* analysis : catalogue()) {
    Settings settings;
    problems.collect([&] { settings = analysis->complete(job.find(analysis->name())); });
    const bool is_asked = job.find("analyses") ? asked.contains(analysis->name()) : analysis->info().is_default;
    if (is_asked) chosen.push_back({analysis, std::move(settings)});
  }
  return AnalysisChoice(std::move(chosen));
}

ComputeOptions parse_compute(const JsonNode& node) {
  ComputeOptions compute;
  compute.dtype = parse_compute_type(node.get_string("dtype", "float32"));
  compute.device = parse_device(node.get_string("device", "auto"));
  compute.tokens_per_batch = node.get_int("tokens_per_batch", compute.tokens_per_batch);
  if (const auto limit = node.find("max_memory_gib")) compute.max_memory_gib = limit->as_double();
  if (const auto threads = node.find("threads")) compute.threads = static_cast<int>(threads->as_int());
  if (const auto stages = node.find("stages"); stages && !stages->is_string())
    compute.stages = static_cast<int>(stages->as_int());
  return compute;
}

KeepChoice parse_keep(const JsonNode& node) {
  KeepChoice keep{KeepChoice::Which::listed, {}};
  if (node.is_string()) {
    if (node.as_string() == "most") keep.which = KeepChoice::Which::most;
    if (node.as_string() == "all") keep.which = KeepChoice::Which::all;
    return keep;
  }
  node.for_each([&](const JsonNode& name) { keep.quantities.push_back(name.as_string()); });
  return keep;
}

ModelEntry parse_model(const JsonNode& node) {
  ModelEntry model;
  model.name = node.at("name").as_string();
  model.path = path_text(node.at("path"));
  model.revision = node.get_string("revision", "");
  const std::string of_path = split_revision(model.path).revision;
  if (model.revision.empty()) {
    model.revision = of_path;
  } else if (!of_path.empty() && of_path != model.revision) {
    throw node.error("'path' and 'revision' name different revisions", "'" + of_path + "' and '" + model.revision + "'",
                     "Keep one of the two.");
  }
  model.lab = node.get_string("lab", "");
  model.expected = node.get_string("expected", "");
  if (const auto step = node.find("step")) model.step = step->as_int();
  if (const auto meta = node.find("meta")) model.meta = meta->json();
  if (const auto sets = node.find("prompt_sets")) {
    model.prompt_sets.emplace();
    sets->for_each([&](const JsonNode& name) { model.prompt_sets->push_back(name.as_string()); });
  }
  return model;
}

void check_models(const Job& job, Problems& problems) {
  std::set<std::string> seen;
  const bool needs_prompts = job.analyses.of_weights().empty();
  for (const auto& model : job.models) {
    if (!seen.insert(model.name).second)
      problems.add("/models: two models are named '" + model.name + "' (the name is that of the results file)");
    if (model.name == "summary")
      problems.add("/models: 'summary' cannot name a results file (the table of all models is called so)");
    if (!model.prompt_sets) continue;
    for (const auto& name : *model.prompt_sets)
      if (job.find_set(name) == nullptr)
        problems.add("/models: model '" + model.name + "' names the prompt set '" + name +
                     "', which the job does not have");
    if (needs_prompts && model.prompt_sets->empty())
      problems.add("/models: model '" + model.name +
                   "' is zero work (its prompt_sets are none, and every analysis of the job needs prompts) "
                   "Give it a prompt set, or take it out.");
  }
}

/// `unreadable`: sets whose error is known already.
void check_sets(const Job& job, const std::set<std::string>& unreadable, Problems& problems) {
  std::set<std::string> seen;
  for (const auto& set : job.prompt_sets) {
    if (!seen.insert(set.name).second) problems.add("/prompt_sets: two prompt sets are named '" + set.name + "'");
    if (set.num_prompts() == 0 && !unreadable.contains(set.name))
      problems.add("/prompt_sets: the set '" + set.name + "' has no prompts");
  }
  if (job.analyses.any_of_prompts() && job.prompt_sets.empty())
    problems.add("/prompt_sets: is empty (" + plain_list(job.analyses.of_prompts().names()) +
                 " need prompts) Add a prompt set, or leave these analyses out.");
}

enum class ParseMode {
  checked,
  settings  ///< root has checked them; prompt sets come by themselves
};

/// @pre the document follows the schema.
Job parse_job(const JsonNode& node, const fs::path& folder, ParseMode mode, Problems& problems) {
  Job job;
  job.folder = folder;
  job.name = node.at("name").as_string();
  node.at("models").for_each(
      [&](const JsonNode& entry) { problems.collect([&] { job.models.push_back(parse_model(entry)); }); });
  std::set<std::string> unreadable;
  if (const auto sets = node.find("prompt_sets"))
    sets->for_each([&](const JsonNode& entry) {
      PromptSetEntry& set = job.prompt_sets.emplace_back();
      set.name = entry.at("name").as_string();
      const bool is_readable = problems.collect([&] {
        if (const auto random = entry.find("repeated_random_tokens"))
          set.random_tokens = parse_random_tokens(*random);
        else
          set.prompts = parse_prompts(entry, folder);
      });
      if (!is_readable) unreadable.insert(set.name);
    });
  job.analyses = parse_analyses(node, problems);
  if (const auto compute = node.find("compute")) job.compute = parse_compute(*compute);
  if (const auto keep = node.find("keep")) job.keep = parse_keep(*keep);
  job.slicing = parse_slicing(node.get_string("slicing", "correct"));
  job.output = folder / job.name;
  problems.collect([&] {
    if (const auto root = node.find("models_root")) job.models_root = relative_to(folder, path_text(*root));
    if (const auto output = node.find("output")) job.output = relative_to(folder, path_text(*output));
  });
  if (mode == ParseMode::checked) {
    check_models(job, problems);
    check_sets(job, unreadable, problems);
  }
  return job;
}

Json apply(Json json, const JobOverrides& overrides) {
  Json compute = json.value("compute", Json::object());
  if (!compute.is_object()) return json;  // an error of its own
  if (overrides.dtype) compute["dtype"] = *overrides.dtype;
  if (overrides.device) compute["device"] = *overrides.device;
  if (overrides.max_memory_gib) compute["max_memory_gib"] = *overrides.max_memory_gib;
  if (overrides.threads) compute["threads"] = *overrides.threads;
  if (overrides.stages) compute["stages"] = *overrides.stages == 0 ? Json("auto") : Json(*overrides.stages);
  if (!compute.empty()) json["compute"] = std::move(compute);
  return json;
}

/// Leaves the models of these names, in the job's order. @pre as many entries in `json` as models in `job`.
void select_models(const std::vector<std::string>& names, Job& job, Json& json) {
  if (names.empty()) return;
  std::vector<std::string> known;
  for (const auto& model : job.models) known.push_back(model.name);
  for (const auto& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw InputError(ErrorKind::usage, "the job has no model '" + name + "'", "its models: " + quoted_list(known));
  std::vector<ModelEntry> chosen;
  Json entries = Json::array();
  for (std::size_t i = 0; i < job.models.size(); ++i) {
    if (std::find(names.begin(), names.end(), known[i]) == names.end()) continue;
    chosen.push_back(std::move(job.models[i]));
    entries.push_back(std::move(json["models"][i]));
  }
  job.models = std::move(chosen);
  json["models"] = std::move(entries);
}

}  // namespace

bool is_kept(const Quantity& quantity, const KeepChoice& keep) {
  if (!can_be_kept(quantity)) return false;
  switch (keep.which) {
    case KeepChoice::Which::most: return quantity.keep != Keep::if_asked;
    case KeepChoice::Which::all: return true;
    case KeepChoice::Which::listed: break;
  }
  return std::find(keep.quantities.begin(), keep.quantities.end(), quantity.name) != keep.quantities.end();
}

DeviceChoice parse_device(const std::string& text) {
  if (text == "auto") return DeviceChoice::automatic;
  if (text == "cpu") return DeviceChoice::cpu;
  if (text == "cuda") return DeviceChoice::cuda;
  throw InputError(ErrorKind::usage, "unknown device '" + text + "'", "allowed: auto, cpu, cuda");
}

const PromptSetEntry* Job::find_set(const std::string& set_name) const {
  const auto it =
      std::find_if(prompt_sets.begin(), prompt_sets.end(), [&](const auto& set) { return set.name == set_name; });
  return it == prompt_sets.end() ? nullptr : &*it;
}

std::vector<const PromptSetEntry*> Job::sets_of(const ModelEntry& model) const {
  std::vector<const PromptSetEntry*> sets;
  for (const auto& set : prompt_sets)
    if (!model.prompt_sets ||
        std::find(model.prompt_sets->begin(), model.prompt_sets->end(), set.name) != model.prompt_sets->end())
      sets.push_back(&set);
  return sets;
}

Job read_job(const fs::path& path, const JobOverrides& overrides) {
  JsonNode file = JsonNode::parse_file(path, ErrorKind::usage, DuplicateKeys::refused);
  if (!file.is_object())
    throw InputError(ErrorKind::usage, path.string() + ": is not a JSON object", "",
                     "See jobs/demo/demo.json for one.");
  // One tree of it at a time: a job may hold 100 000 prompts.
  JsonNode node = JsonNode::of(apply(std::move(file).release(), overrides), path.string(), ErrorKind::usage);
  Problems problems(path.string());
  for (const auto& line : schema_errors(node)) problems.add(line);
  problems.throw_if_any();
  Job job = parse_job(node, fs::absolute(path).parent_path(), ParseMode::checked, problems);
  problems.throw_if_any();
  Json json = std::move(node).release();
  select_models(overrides.models, job, json);
  if (overrides.output) job.output = fs::absolute(expand_home(*overrides.output)).lexically_normal();
  job.text = json.dump();
  json.erase("prompt_sets");
  job.settings = json.dump();
  return job;
}

std::string resolve_job(const Job& job) {
  std::string lines;
  const auto add = [&](const Json& line) { lines += line.dump() + "\n"; };
  add({{"settings", job.settings},
       {"text", job.text},
       {"folder", text_of_bytes(job.folder.string())},
       {"output", text_of_bytes(job.output.string())}});
  for (const auto& set : job.prompt_sets) {
    add({set.name, set.prompts.size(),
         set.random_tokens ? Json({set.random_tokens->prompts, set.random_tokens->length, set.random_tokens->seed})
                           : Json()});
    for (const auto& prompt : set.prompts)
      add({prompt.id, prompt.text, prompt.input_ids ? Json(*prompt.input_ids) : Json()});
  }
  return lines;
}

Job parse_resolved_job(const std::string& text) {
  std::size_t begin = 0;
  const auto next = [&] {
    const std::size_t first = begin, end = std::min(text.find('\n', begin), text.size());
    begin = std::min(end + 1, text.size());
    return Json::parse(text.begin() + static_cast<std::ptrdiff_t>(first),
                       text.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const Json head = next();
  Problems problems("job");
  Job job = parse_job(JsonNode::parse_text(head.at("settings").get_ref<const std::string&>(), "job", ErrorKind::usage),
                      bytes_of_text(head.at("folder").get<std::string>()), ParseMode::settings, problems);
  problems.throw_if_any();
  job.text = head.at("text");
  job.settings = head.at("settings");
  job.output = bytes_of_text(head.at("output").get<std::string>());
  while (begin < text.size()) {
    const Json set_line = next();
    PromptSetEntry& set = job.prompt_sets.emplace_back();
    set.name = set_line.at(0);
    set.prompts.resize(set_line.at(1).get<std::size_t>());
    if (const Json& random = set_line.at(2); !random.is_null())
      set.random_tokens = RepeatedRandomTokens{random.at(0), random.at(1), random.at(2)};
    for (auto& prompt : set.prompts) {
      Json line = next();
      prompt.id = std::move(line.at(0).get_ref<std::string&>());
      prompt.text = std::move(line.at(1).get_ref<std::string&>());
      if (!line.at(2).is_null()) prompt.input_ids = line.at(2).get<std::vector<std::int64_t>>();
    }
  }
  return job;
}

}  // namespace spectrace
