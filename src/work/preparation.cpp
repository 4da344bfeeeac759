#include "spectrace/work/preparation.hpp"

#include <algorithm>
#include <set>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/work/error_of.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// The last line: what all before it must be.
std::string checksum_line(std::string_view lines) { return Json{{"sha256", sha256_hex(lines)}}.dump() + "\n"; }

/// With what is asked of each: what is made again may be asked for more than the job says.
Json analyses_to_json(const AnalysisChoice& analyses) {
  Json json = Json::array();
  for (const Chosen& chosen : analyses) json.push_back({chosen.name(), chosen.settings});
  return json;
}

AnalysisChoice analyses_from_json(const Json& json) {
  std::vector<Chosen> chosen;
  for (const Json& one : json) {
    const Analysis* analysis = find_analysis(one.at(0));
    if (analysis == nullptr || !one.at(1).is_object())
      throw InputError(ErrorKind::io, "a preparation is of another version", "it asks for '" + one.dump() + "'");
    chosen.push_back({analysis, one.at(1)});
  }
  return AnalysisChoice(std::move(chosen));
}

/// Takes lines of JSON off a text.
class JsonLines {
 public:
  explicit JsonLines(std::string_view text) : left_(text) {}
  Json next() {
    const auto end = std::min(left_.find('\n'), left_.size());
    const std::string_view line = left_.substr(0, end);
    left_.remove_prefix(std::min(end + 1, left_.size()));
    return Json::parse(line);
  }

 private:
  std::string_view left_;
};

}  // namespace

// A line of JSON for what is not a prompt, one for each prompt, the checksum: all of it as one JSON would be several
// times as large in memory as the token ids.
void Preparation::write(const RunContext& context, const ModelEntry& entry) const {
  std::string text;
  const auto add = [&](const Json& line) {
    text += line.dump(-1, ' ', false, Json::error_handler_t::replace);
    text += '\n';
  };
  Json head = {{"folder", text_of_bytes(folder.string())},
               {"fingerprint", fingerprint},
               {"of_weights", analyses_to_json(lack.of_weights)},
               {"sets", Json::array()},
               {"states", Json::array()},
               {"identity", identity_to_json(identity)},
               {"fresh", fresh},
               {"num_starts", num_starts},
               {"open_s", open_s}};
  for (const auto& set : lack.sets)
    head["sets"].push_back({set.name, set.prompts.size(), analyses_to_json(set.analyses), set.tokenizer});
  for (const auto& [key, place] : states)
    head["states"].push_back(
        {key, place.entry.file.filename().string(), place.entry.offset, place.entry.size_bytes, place.next_layer});
  add(head);
  for (const auto& set : lack.sets)
    for (const auto& prompt : set.prompts) add({prompt.id, prompt.token_ids, prompt.error});
  text += checksum_line(text);
  create_journal_folder(journal_folder(context.job, entry));
  write_file_atomically(preparation_path(context.job, entry), text);
}

Preparation Preparation::read(const RunContext& context, const ModelEntry& entry) {
  const fs::path path = preparation_path(context.job, entry);
  const auto damaged = [&](const std::string& why) {
    return InputError(ErrorKind::io, "cannot use '" + path.string() + "'", why,
                      "Run the same command again: it is made anew, and what is finished stays.");
  };
  try {
    // Ranks compute what stands here: a token id that a bit fell out of must not be one of them.
    const std::string text = read_text_file(path);
    static const std::size_t checksum_bytes = checksum_line("").size();
    const std::string_view all = text, lines = all.substr(0, all.size() - std::min(all.size(), checksum_bytes));
    if (all.substr(lines.size()) != checksum_line(lines)) throw damaged("its checksum is wrong");
    JsonLines reader(lines);
    const Json head = reader.next();
    Preparation preparation;
    preparation.folder = bytes_of_text(head.at("folder").get<std::string>());
    preparation.fingerprint = head.at("fingerprint");
    preparation.lack.of_weights = analyses_from_json(head.at("of_weights"));
    for (const auto& state : head.at("states"))
      preparation.states[state.at(0)] = {
          {journal_folder(context.job, entry) / state.at(1).get<std::string>(), state.at(2), state.at(3), false},
          state.at(4)};
    preparation.identity = identity_from_json(head.at("identity"));
    preparation.fresh = head.at("fresh");
    preparation.num_starts = head.at("num_starts");
    preparation.open_s = head.at("open_s");
    for (const auto& set : head.at("sets")) {
      PlannedSet& target = preparation.lack.sets.emplace_back();
      target.name = set.at(0);
      target.analyses = analyses_from_json(set.at(2));
      target.tokenizer = set.at(3);
      target.prompts.resize(set.at(1).get<std::size_t>());
      for (auto& prompt : target.prompts) {
        const Json line = reader.next();
        prompt = {line.at(0), line.at(1).get<std::vector<std::int64_t>>(), line.at(2)};
      }
    }
    return preparation;
  } catch (const Json::exception& error) {
    throw damaged(error.what());
  }
}

ModelPlan plan_of(const Job& job, const OpenModel& model, Lack lack) {
  return plan_model(model.description, lack.of_weights, std::move(lack.sets), plan_options(job, model.config.json()));
}

OpenedModel::OpenedModel(const RunContext& context, const ModelEntry& entry)
    : preparation(Preparation::read(context, entry)),
      model(with_kind(ErrorKind::model, [&] { return open_model_folder(preparation.folder, context.io); })),
      plan(plan_of(context.job, model, std::move(preparation.lack))) {}

void drop_journal(const RunContext& context, const ModelEntry& entry, const std::vector<std::string>& file_names) {
  std::error_code error;
  // The preparation, and what a kill left of one half written.
  std::set<fs::path> files = {preparation_path(context.job, entry)};
  for (fs::directory_iterator file(journal_folder(context.job, entry), error), end; !error && file != end;
       file.increment(error))
    if (file->path().filename().string().starts_with("preparation.json")) files.insert(file->path());
  for (const auto& file : files) {
    fs::remove(file, error);
    if (error && error != std::errc::not_a_directory)
      throw InputError(ErrorKind::io, "cannot remove '" + file.string() + "'", error.message());
  }
  // The folder around it stays for the sweep: another rank may be about to make one in it.
  remove_journal(journal_folder(context.job, entry), file_names);
}

void drop_finished_journal(const RunContext& context, const ModelEntry& entry,
                           const std::vector<std::string>& file_names) {
  try {
    drop_journal(context, entry, file_names);
  } catch (const InputError& error) {
    log_warning(
        "{}: {} ({}). The results are whole; what is left of the journal is of no use, and the next start removes it",
        entry.name, error.problem(), error.why());
  }
}

}  // namespace spectrace
