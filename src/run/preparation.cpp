#include "spectrace/run/preparation.hpp"

#include <algorithm>

#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/schema.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// What the journal's records depend on, beside them.
fs::path identity_note(const RunContext& context, const ModelEntry& entry) {
  return context.journal_folder(entry) / "identity.json";
}

/// Sizes and times of the checkpoint's files: as long as they stay, the digest of the weights is still good.
std::string describe_files(const TensorStore& store) {
  Json files = Json::array();
  for (const auto& file : store.files())
    files.push_back({fs::absolute(file.path).string(), file.size_bytes, file.modified_ns});
  return files.dump();
}

/// The digest that an earlier run noted for exactly these files.
std::optional<std::string> noted_digest(const fs::path& path, const std::string& files) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    const JsonNode noted = JsonNode::parse_file(path, ErrorKind::io);
    if (noted.get_string("checkpoint_files", "") == files) return noted.get_string("weights_sha256", "");
  } catch (const InputError& error) {
    log_warning("{}: not used", error.what());
  }
  return std::nullopt;
}

Identity make_identity(const RunContext& context, const OpenModel& model, const std::string& weights_sha256,
                       const std::vector<PreparedSet>& sets) {
  const Job& job = context.job;
  Identity identity = {{"weights", weights_sha256},
                       {"config.json", sha256_hex(model.config.json().dump())},
                       {"compute dtype", name(job.compute.dtype)},
                       {"slicing", name(job.slicing)}};
  if (job.analyses.any_of_prompts())
    identity.emplace_back("tokens_per_batch", std::to_string(job.compute.tokens_per_batch));
  if (job.analyses.sheaf) identity.emplace_back("beta grid", Json(job.beta.values()).dump());
  for (const auto& set : sets) identity.emplace_back("prompts of the set '" + set.name + "'", set.digest());
  return identity;
}

void expect_same(const Identity& before, const Identity& now, const fs::path& where) {
  const auto differences = identity_differences(before, now);
  if (differences.empty()) return;
  std::string list;
  for (const auto& line : differences) list += (list.empty() ? "" : "; ") + line;
  throw InputError(ErrorKind::usage, "'" + where.string() + "' holds results of something else", list,
                   "Give another output folder, or --fresh to compute everything anew.");
}

std::string text_attribute(const ResultTree& tree, const std::string& name) {
  const auto* value = tree.find_attribute(name);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return text == nullptr ? "" : *text;
}

/// Gives an error another kind: who catches it decides by that what the error ends.
template <typename F>
auto with_kind(ErrorKind kind, F&& f) {
  try {
    return f();
  } catch (const InputError& error) {
    throw InputError(kind, error.problem(), error.why(), error.suggestion());
  }
}

/// Results that are there and may be built upon; nothing if they failed for a reason that may be gone now.
std::optional<ResultTree> earlier_results(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  ResultTree tree = with_kind(ErrorKind::usage, [&] { return read_result_file(path); });
  const auto* failed_units = tree.find_attribute("failed_units");
  const bool retry = text_attribute(tree, "status") == "failed" ||
                     (failed_units != nullptr && std::get<std::int64_t>(*failed_units) > 0);
  if (retry) return std::nullopt;
  return tree;
}

/// Takes off what the earlier results hold. A set that lacks an analysis is done again with all it had and shall have.
void leave_out_finished(const ResultTree& earlier, const Job& job, Preparation& preparation) {
  AnalysisChoice& left = preparation.analyses;
  left.weights = left.weights && earlier.find("/weights") == nullptr;
  left.heads = left.heads && earlier.find("/heads") == nullptr;
  left.unembedding = left.unembedding && earlier.find("/unembedding") == nullptr;

  const AnalysisChoice wanted = left;
  std::vector<PreparedSet> open;
  for (auto& set : preparation.sets) {
    const Group* group = earlier.find("/prompts/" + set.name);
    const auto has = [&](const char* dataset) { return group != nullptr && group->find(dataset) != nullptr; };
    const bool had_attention = has("row_entropy"), had_sheaf = has("trace"), had_residual = has("gain");
    const bool complete = (!wanted.attention || had_attention) && (!wanted.sheaf || had_sheaf) &&
                          (!wanted.residual || had_residual) &&
                          (!wanted.sheaf || !job.graph_eigenvalues || has("graph_eigenvalues"));
    if (complete && group != nullptr) continue;
    left.attention |= had_attention;
    left.sheaf |= had_sheaf;
    left.residual |= had_residual;
    open.push_back(std::move(set));
  }
  preparation.sets = std::move(open);
  if (preparation.sets.empty()) left.attention = left.sheaf = left.residual = false;
}

/// Opens this model's journal folder: an earlier start's is gone on with if it is of the same job, checkpoint and
/// prompts.
void open_journal(const RunContext& context, const ModelEntry& entry, const std::string& files,
                  Preparation& preparation) {
  const fs::path folder = context.journal_folder(entry), note = identity_note(context, entry);
  if (fs::exists(note)) {
    const JsonNode noted = JsonNode::parse_file(note, ErrorKind::io);
    expect_same(identity_from_json(noted.at("identity").as_string()), preparation.identity, folder);
    preparation.num_starts = noted.get_int("num_starts", 0) + 1;
    preparation.journal = read_journal_index(folder);
  }
  create_folders(folder);
  const Json json = {{"identity", identity_to_json(preparation.identity)},
                     {"num_starts", preparation.num_starts},
                     {"checkpoint_files", files},
                     {"weights_sha256", preparation.identity.front().second}};
  write_file_atomically(note, json.dump(2) + "\n");
}

/// The part of the preparation that looks at the checkpoint alone, and what describes its files.
std::pair<Preparation, std::string> read_model(const RunContext& context, const ModelEntry& entry) {
  const Job& job = context.job;
  const OpenModel model = open_model(entry, job, context.io);
  Preparation preparation;
  preparation.folder = model.folder;
  preparation.analyses = job.analyses;
  if (job.analyses.any_of_prompts()) preparation.sets = prepare_prompts(model, job.sets_of(entry));

  const Stopwatch watch;
  std::string files = describe_files(model.store);
  auto weights_sha256 = noted_digest(context.run_info_path(entry), files);
  if (!weights_sha256) weights_sha256 = noted_digest(identity_note(context, entry), files);
  if (!weights_sha256) weights_sha256 = digest_weights(model.store);
  preparation.digest_s = watch.elapsed_s();
  preparation.identity = make_identity(context, model, *weights_sha256, preparation.sets);
  return {std::move(preparation), std::move(files)};
}

Json choice_to_json(const AnalysisChoice& choice) {
  return {choice.weights, choice.heads, choice.unembedding, choice.attention, choice.sheaf, choice.residual};
}

}  // namespace

std::string Preparation::to_json() const {
  Json all = {{"folder", folder.string()}, {"complete", complete}, {"analyses", choice_to_json(analyses)}};
  for (const auto& set : sets) {
    Json prompts = Json::array();
    for (const auto& prompt : set.prompts) prompts.push_back({prompt.id, prompt.token_ids, prompt.error});
    all["sets"].push_back({set.name, prompts});
  }
  for (const auto& [key, entry] : journal)
    all["journal"].push_back({key, entry.file.string(), entry.offset, entry.size_bytes});
  return all.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Preparation Preparation::from_json(const std::string& text) {
  const Json all = Json::parse(text);
  Preparation preparation;
  preparation.folder = all["folder"].get<std::string>();
  preparation.complete = all["complete"];
  const Json& a = all["analyses"];
  preparation.analyses = {a[0], a[1], a[2], a[3], a[4], a[5]};
  for (const auto& set : all.value("sets", Json::array())) {
    PreparedSet& target = preparation.sets.emplace_back();
    target.name = set[0];
    for (const auto& prompt : set[1])
      target.prompts.push_back({prompt[0], prompt[1].get<std::vector<std::int64_t>>(), prompt[2]});
  }
  for (const auto& entry : all.value("journal", Json::array()))
    preparation.journal[entry[0]] = {entry[1].get<std::string>(), entry[2], entry[3]};
  return preparation;
}

Preparation prepare_model(const RunContext& context, const ModelEntry& entry) {
  // A checkpoint that cannot be read is this model's failure, not the run's.
  auto [preparation, files] = with_kind(ErrorKind::model, [&] { return read_model(context, entry); });
  std::string digests;
  for (const auto& set : preparation.sets) digests += set.digest();
  preparation.prompt_sha256 = sha256_hex(digests);

  if (context.fresh) {
    drop_journal(context, entry);
  } else {
    preparation.earlier = earlier_results(context.result_path(entry));
    if (preparation.earlier) {
      expect_same(identity_from_json(text_attribute(*preparation.earlier, "identity")), preparation.identity,
                  context.result_path(entry));
      leave_out_finished(*preparation.earlier, context.job, preparation);
    }
  }
  const AnalysisChoice& left = preparation.analyses;
  preparation.complete =
      preparation.earlier && !left.weights && !left.heads && !left.unembedding && !left.any_of_prompts();
  if (!preparation.complete) open_journal(context, entry, files, preparation);
  return preparation;
}

void drop_journal(const RunContext& context, const ModelEntry& entry) {
  remove_leftovers(context.journal_folder(entry), "identity.json");
  remove_journal(context.journal_folder(entry));
}

void remove_leftovers(const fs::path& folder, const std::string& prefix) {
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder, error)) {
    const std::string name = file.path().filename().string();
    if (!name.starts_with(prefix) || (prefix.empty() && name.find(".part") == std::string::npos)) continue;
    fs::remove(file.path(), error);
    if (error) throw InputError(ErrorKind::io, "cannot remove '" + file.path().string() + "'", error.message());
  }
}

}  // namespace spectrace
