#include "spectrace/plan/job.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// Collects errors instead of stopping at the first.
class Problems {
 public:
  void add(const std::string& line) { lines_.push_back(line); }
  template <typename F>
  void collect(F&& f) {
    try {
      f();
    } catch (const InputError& error) {
      lines_.push_back(error.what());
    }
  }
  void throw_if_any(const std::string& document) const {
    if (lines_.empty()) return;
    if (lines_.size() == 1) throw InputError(ErrorKind::usage, document + ": " + lines_.front());
    std::string text = document + ": " + std::to_string(lines_.size()) + " errors:";
    for (const auto& line : lines_) text += "\n  " + line;
    throw InputError(ErrorKind::usage, text);
  }

 private:
  std::vector<std::string> lines_;
};

fs::path relative_to(const fs::path& folder, const std::string& path) {
  return path.empty() ? fs::path() : (folder / path).lexically_normal();
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

PromptSetEntry parse_prompt_set(const JsonNode& node, const fs::path& folder) {
  PromptSetEntry set;
  set.name = node.at("name").as_string();
  if (const auto path = node.find("path")) {
    set.prompts = read_prompt_file(relative_to(folder, path->as_string()));
  } else {
    node.at("prompts").for_each(
        [&](const JsonNode& prompt) { set.prompts.push_back(parse_prompt(prompt, set.prompts.size())); });
  }
  check_prompt_ids(set.prompts, "prompt set '" + set.name + "'");
  return set;
}

AnalysisChoice parse_analyses(const JsonNode& node) {
  AnalysisChoice choice{false, false, false, false, false, false};
  node.for_each([&](const JsonNode& name) {
    const std::string& text = name.as_string();
    if (text == "weights") choice.weights = true;
    if (text == "heads") choice.heads = true;
    if (text == "unembedding") choice.unembedding = true;
    if (text == "attention") choice.attention = true;
    if (text == "sheaf") choice.sheaf = true;
    if (text == "residual") choice.residual = true;
  });
  return choice;
}

ComputeOptions parse_compute(const JsonNode& node) {
  ComputeOptions compute;
  compute.dtype = parse_compute_type(node.get_string("dtype", "float32"));
  compute.device = parse_device(node.get_string("device", "auto"));
  compute.tokens_per_batch = node.get_int("tokens_per_batch", compute.tokens_per_batch);
  if (const auto limit = node.find("max_memory_gib")) compute.max_memory_gib = limit->as_double();
  if (const auto threads = node.find("threads")) compute.threads = static_cast<int>(threads->as_int());
  return compute;
}

void check_names(const Job& job, Problems& problems) {
  std::set<std::string> seen;
  for (const auto& model : job.models) {
    if (!seen.insert(model.name).second)
      problems.add("/models: two models are named '" + model.name + "' (the name is that of the results file)");
    if (model.name.find('/') != std::string::npos || model.name == "summary" || model.name.starts_with("."))
      problems.add("/models: '" + model.name + "' cannot name a results file (no '/', no leading dot, not 'summary')");
    if (model.prompt_sets)
      for (const auto& name : *model.prompt_sets)
        if (job.find_set(name) == nullptr)
          problems.add("/models: model '" + model.name + "' names the prompt set '" + name +
                       "', which the job does not have");
  }
  seen.clear();
  for (const auto& set : job.prompt_sets) {
    if (!seen.insert(set.name).second) problems.add("/prompt_sets: two prompt sets are named '" + set.name + "'");
    if (set.prompts.empty()) problems.add("/prompt_sets: the set '" + set.name + "' has no prompts");
  }
  if (job.analyses.any_of_prompts() && job.prompt_sets.empty())
    problems.add(
        "/prompt_sets: is empty (attention, sheaf and residual need prompts) "
        "Add a prompt set, or leave these analyses out.");
}

/// @pre the document follows the schema.
Job parse_job(const JsonNode& node, const fs::path& folder, Problems& problems) {
  Job job;
  job.folder = folder;
  job.name = node.at("name").as_string();
  node.at("models").for_each([&](const JsonNode& entry) {
    ModelEntry model;
    model.name = entry.at("name").as_string();
    model.path = entry.at("path").as_string();
    model.lab = entry.get_string("lab", "");
    model.expected = entry.get_string("expected", "");
    if (const auto sets = entry.find("prompt_sets")) {
      model.prompt_sets.emplace();
      sets->for_each([&](const JsonNode& name) { model.prompt_sets->push_back(name.as_string()); });
    }
    job.models.push_back(std::move(model));
  });
  if (const auto sets = node.find("prompt_sets"))
    sets->for_each([&](const JsonNode& set) {
      problems.collect([&] { job.prompt_sets.push_back(parse_prompt_set(set, folder)); });
    });
  if (const auto analyses = node.find("analyses")) job.analyses = parse_analyses(*analyses);
  if (const auto sheaf = node.find("sheaf")) {
    job.graph_eigenvalues = sheaf->get_bool("graph_eigenvalues", false);
    if (const auto beta = sheaf->find("beta")) {
      job.beta.from = beta->get_double("from", job.beta.from);
      job.beta.to = beta->get_double("to", job.beta.to);
      job.beta.count = beta->get_int("count", job.beta.count);
      if (job.beta.to < job.beta.from || (job.beta.count > 1 && job.beta.to <= job.beta.from))
        problems.add("/sheaf/beta: 'to' must be larger than 'from'");
    }
  }
  if (const auto compute = node.find("compute")) job.compute = parse_compute(*compute);
  job.slicing = parse_slicing(node.get_string("slicing", "correct"));
  job.models_root = relative_to(folder, node.get_string("models_root", ""));
  job.output = relative_to(folder, node.get_string("output", job.name));
  check_names(job, problems);
  return job;
}

Json apply(Json json, const JobOverrides& overrides) {
  if (overrides.dtype) json["compute"]["dtype"] = *overrides.dtype;
  if (overrides.device) json["compute"]["device"] = *overrides.device;
  if (overrides.max_memory_gib) json["compute"]["max_memory_gib"] = *overrides.max_memory_gib;
  return json;
}

}  // namespace

std::vector<double> BetaGrid::values() const {
  std::vector<double> grid;
  const double low = std::log(from), high = std::log(to);
  for (std::int64_t i = 0; i < count; ++i) {
    if (i == 0)
      grid.push_back(from);
    else if (i == count - 1)
      grid.push_back(to);
    else
      grid.push_back(std::exp(low + (high - low) * static_cast<double>(i) / static_cast<double>(count - 1)));
  }
  return grid;
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
  const JsonNode file = JsonNode::parse_file(path, ErrorKind::usage);
  Problems problems;
  if (file.is_object()) {
    const JsonNode node = JsonNode::parse_text(apply(file.json(), overrides).dump(), path.string(), ErrorKind::usage);
    for (const auto& line : schema_errors(node)) problems.add(line);
    problems.throw_if_any(path.string());
    Job job = parse_job(node, fs::absolute(path).parent_path(), problems);
    problems.throw_if_any(path.string());
    if (overrides.output) job.output = fs::absolute(*overrides.output).lexically_normal();
    job.text = node.json().dump();
    return job;
  }
  throw InputError(ErrorKind::usage, path.string() + ": is not a JSON object", "", "See jobs/demo/demo.json for one.");
}

std::string resolve_job(const Job& job) {
  Json json = Json::parse(job.text);
  Json sets = Json::array();
  for (const auto& set : job.prompt_sets) {
    Json prompts = Json::array();
    for (const auto& prompt : set.prompts) {
      Json entry = {{"id", prompt.id}};
      if (prompt.input_ids) entry["input_ids"] = *prompt.input_ids;
      if (!prompt.text.empty() || !prompt.input_ids) entry["text"] = prompt.text;
      prompts.push_back(std::move(entry));
    }
    sets.push_back({{"name", set.name}, {"prompts", std::move(prompts)}});
  }
  json["prompt_sets"] = std::move(sets);
  return Json{{"job", json}, {"text", job.text}, {"folder", job.folder.string()}, {"output", job.output.string()}}
      .dump();
}

Job parse_resolved_job(const std::string& text) {
  const JsonNode node = JsonNode::parse_text(text, "job", ErrorKind::usage);
  Problems problems;
  Job job = parse_job(node.at("job"), node.at("folder").as_string(), problems);
  problems.throw_if_any("job");
  job.text = node.at("text").as_string();
  job.output = node.at("output").as_string();
  return job;
}

}  // namespace spectrace
