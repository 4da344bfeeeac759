#include "spectrace/results/earlier_results.hpp"

#include "spectrace/core/json.hpp"
#include "spectrace/plan/settings.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/result_attributes.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// The attribute `identity` has to be read again; why it cannot be.
std::string find_wrong_identity(const ResultTree& tree) {
  const Json identity = Json::parse(text_attribute(tree, "identity"), nullptr, /*allow_exceptions=*/false);
  if (!identity.is_array()) return "its attribute 'identity' is absent or no JSON array";
  for (const auto& pair : identity)
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      return "its attribute 'identity' does not hold pairs of texts";
  return find_wrong_value(identity_from_json(identity.dump()));
}

std::string find_checkpoint_misfit(const ResultTree& tree) {
  const Group* group = tree.find(kCheckpointGroup);
  const Dimension* tensor = group == nullptr ? nullptr : group->find_dimension(kTensor);
  const Dataset* digest = group == nullptr ? nullptr : group->find(kDigest);
  const bool is_good = tensor != nullptr && std::holds_alternative<std::vector<std::string>>(tensor->values) &&
                       digest != nullptr && std::holds_alternative<std::vector<std::string>>(digest->values) &&
                       digest->dims == std::vector<std::string>{kTensor};
  return is_good ? "" : "/checkpoint does not hold the digests of tensors";
}

std::string find_tree_misfit(const ResultTree& tree) {
  if (auto misfit = find_wrong_identity(tree); !misfit.empty()) return misfit;
  if (auto misfit = find_checkpoint_misfit(tree); !misfit.empty()) return misfit;
  for (const auto& group : tree.groups)
    if (auto misfit = find_misfit(group); !misfit.empty()) return misfit;
  return "";
}

void expect_kind(const fs::path& path, fs::file_type expected, const char* what) {
  std::error_code error;
  const auto type = fs::status(path, error).type();
  if (type == fs::file_type::not_found || type == expected) return;
  throw InputError(ErrorKind::model, "'" + path.string() + "' is in the way",
                   error ? error.message() : "it is not " + std::string(what),
                   "Remove it, or give another output folder.");
}

}  // namespace

std::optional<ResultTree> read_earlier_results(const Job& job, const ModelEntry& entry, WrongDigest wrong_digest) {
  const fs::path path = result_path(job, entry);
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  ResultTree tree;
  try {
    tree = read_result_file(path, wrong_digest, kMostValuesInMemory);
  } catch (const InputError& unreadable) {
    // What is wrong with one model's file is this model's failure.
    throw InputError(ErrorKind::model, unreadable.problem(), unreadable.why(), unreadable.suggestion());
  }
  if (const std::string format = text_attribute(tree, "Conventions"); format != kConventions)
    throw InputError(ErrorKind::usage, "'" + path.string() + "' holds results of another format",
                     "'" + format + "', this version builds on '" + kConventions + "'",
                     "Give another output folder, or --fresh to compute everything anew.");
  if (tree.groups.empty()) return std::nullopt;
  if (const std::string misfit = find_tree_misfit(tree); !misfit.empty())
    throw InputError(ErrorKind::model, "cannot build upon the results file '" + path.string() + "'", misfit,
                     "Remove it, use --fresh or give another output folder.");
  return tree;
}

void expect_room_for_results(const Job& job, const ModelEntry& entry) {
  expect_kind(result_path(job, entry), fs::file_type::regular, "a regular file");
  expect_kind(run_info_path(job, entry), fs::file_type::regular, "a regular file");
  expect_kind(journal_folder(job, entry), fs::file_type::directory, "a folder");
}

}  // namespace spectrace
