#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/measure/choice.hpp"
#include "spectrace/text/prompt_set.hpp"
#include "spectrace/text/random_tokens.hpp"

namespace spectrace {

struct ModelEntry {
  std::string name;      ///< names the results file
  std::string path;      ///< folder or hub id, as in the job ("id@revision" among them)
  std::string revision;  ///< of the hub id, by the key or by `path`; empty: the cache's main
  // What describes the model, and decides no number:
  std::string lab;
  std::string expected;
  std::optional<std::int64_t> step;                     ///< of its training
  Json meta = Json::object();                           ///< names and scalars
  std::optional<std::vector<std::string>> prompt_sets;  ///< names; absent: every set
};

struct PromptSetEntry {
  std::string name;
  std::vector<Prompt> prompts;  ///< read already, wherever they come from
  /// Instead of these: every model gets its own ids, as prompts "0", "1", …
  std::optional<RepeatedRandomTokens> random_tokens = {};

  std::size_t num_prompts() const {
    return random_tokens ? static_cast<std::size_t>(random_tokens->prompts) : prompts.size();
  }
};

enum class DeviceChoice { automatic, cpu, cuda };
DeviceChoice parse_device(const std::string& text);

/// Which per-prompt quantities the results hold beside their statistics. Ids, token ids and errors always.
struct KeepChoice {
  enum class Which { most, all, listed };
  Which which = Which::most;            ///< most: all but what makes files many times larger
  std::vector<std::string> quantities;  ///< if listed
};
/// Whether the results hold the quantity of every prompt.
bool is_kept(const Quantity& quantity, const KeepChoice& keep);

struct ComputeOptions {
  ComputeType dtype = ComputeType::float32;
  DeviceChoice device = DeviceChoice::automatic;
  std::string device_kind;               ///< of the device that was chosen (Device::kind); empty: the host, or not yet
  std::int64_t tokens_per_batch = 256;   ///< fixes the batches, and so the bits
  std::optional<double> max_memory_gib;  ///< a rank
  std::optional<int> threads;            ///< a rank
  std::optional<int> stages;             ///< ranks that share one model's layers; absent: chosen from the plan
};

/// A job, validated, with every prompt read. The same on all ranks.
struct Job {
  std::string name;
  std::vector<ModelEntry> models;
  std::vector<PromptSetEntry> prompt_sets;
  AnalysisChoice analyses;
  ComputeOptions compute;
  Slicing slicing = Slicing::correct;
  KeepChoice keep;
  std::filesystem::path folder;  ///< of the job file: what relative paths start from
  std::filesystem::path models_root;
  std::filesystem::path output;
  std::string text;      ///< the job file, comments and prompts of files left out, options put in: one line of JSON
  std::string settings;  ///< of this, all but the prompt sets

  const PromptSetEntry* find_set(const std::string& set_name) const;
  /// The sets that a model runs on, in the job's order.
  std::vector<const PromptSetEntry*> sets_of(const ModelEntry& model) const;
};

/// Command-line options that beat the job file.
struct JobOverrides {
  std::optional<std::string> output, dtype, device;
  std::optional<double> max_memory_gib;
  std::optional<int> threads;
  std::optional<int> stages;        ///< 0: "auto"
  std::vector<std::string> models;  ///< names of those to take; empty: every one
};

/// Reads and validates a job file, its schema first, then what a schema cannot say; reads its prompt files.
/// @throws InputError (usage) that lists every error found, a line each.
Job read_job(const std::filesystem::path& path, const JobOverrides& overrides = {});

/// A job as text for other ranks: prompts and all, a line of JSON each, so that whoever reads or writes it needs little
/// memory beside. parse_resolved_job(resolve_job(job)) is the same job.
std::string resolve_job(const Job& job);
Job parse_resolved_job(const std::string& text);

/// The JSON Schema (draft-07) of job files: jobs/job.schema.json, with what the catalogue of analyses says. The file is
/// made from it (tools/update_docs), so that editors know the same.
const Json& job_schema();

/// Every way in which the document breaks the schema, "place: problem (why)"; empty if none.
std::vector<std::string> schema_errors(const JsonNode& job);

}  // namespace spectrace
