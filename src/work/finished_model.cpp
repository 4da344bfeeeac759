#include <algorithm>
#include <set>

#include "group_copy.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/work/collector.hpp"
#include "spectrace/work/preparation.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// What describes a model and decides no number.
bool is_description(const std::string& attribute) {
  static const std::set<std::string> names = {"lab", "expected", "revision", "step", "meta"};
  return names.contains(attribute);
}

/// The file with the job's description of the model, if it has another one. True if it had.
bool update_description(const RunContext& context, const ModelEntry& entry, ResultTree& tree) {
  const Attributes in_order = failed_attributes(context.job, entry, "");
  Attributes now, before, kept;
  for (const auto& attribute : in_order)
    if (is_description(attribute.first)) now.push_back(attribute);
  for (const auto& attribute : tree.attributes) (is_description(attribute.first) ? before : kept).push_back(attribute);
  if (before == now) return false;
  // Each behind the one that it follows in a file that is made at once: so the bytes are the same.
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    if (!is_description(in_order[i].first)) continue;
    const auto previous = std::find_if(kept.begin(), kept.end(),
                                       [&](const auto& attribute) { return attribute.first == in_order[i - 1].first; });
    kept.insert(previous == kept.end() ? previous : previous + 1, in_order[i]);
  }
  tree.attributes = std::move(kept);
  ResultFileWriter writer(result_path(context.job, entry));
  for (const auto& group : tree.groups) copy_group(result_path(context.job, entry), group, writer);
  writer.commit(tree.attributes);
  return true;
}

}  // namespace

Collection finished_model(const RunContext& context, const ModelEntry& entry, ResultTree tree) {
  if (update_description(context, entry, tree)) log_info("{}: its description is brought up to date", entry.name);
  drop_finished_journal(context, entry);
  const bool is_ok = text_attribute(tree, "status") == name(ModelStatus::ok);
  Collection collection;
  collection.outcome = {is_ok ? ModelStatus::ok : ModelStatus::partial, text_attribute(tree, "error")};
  collection.rows = summarize(context.job, entry, collection.outcome, &tree);
  return collection;
}

Collection unopened_model(const RunContext& context, const ModelEntry& entry, const ModelOutcome& outcome) {
  Collection collection;
  collection.outcome = outcome;
  std::optional<ResultTree> there;
  bool is_in_the_way = false;  // what cannot be read is somebody's to look at, not ours to write over
  std::error_code error;
  try {
    if (fs::exists(result_path(context.job, entry), error))
      there = read_result_file(result_path(context.job, entry), WrongDigest::unasked, kMostValuesInMemory);
  } catch (const InputError& unreadable) {
    is_in_the_way = true;
    log_warning("{}: '{}' is left as it is: {}", entry.name, result_path(context.job, entry).string(),
                unreadable.why());
  }
  const bool is_good = there && !there->groups.empty();
  if (outcome.status == ModelStatus::failed) {
    if (is_good) {
      log_warning("'{}' keeps the results of an earlier run", result_path(context.job, entry).string());
    } else if (!is_in_the_way) {
      ResultTree tree;
      tree.attributes = failed_attributes(context.job, entry, outcome.error);
      write_result_file(result_path(context.job, entry), tree);
    }
  }
  collection.rows = summarize(context.job, entry, outcome, is_good ? &*there : nullptr);
  return collection;
}

}  // namespace spectrace
