#include "spectrace/results/earlier_results.hpp"

#include <algorithm>
#include <charconv>

#include "spectrace/core/json.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/store/schema.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

/// The values that the attribute `identity` holds have to be read again; why they cannot be.
std::string find_wrong_identity(const ResultTree& tree) {
  const Json identity = Json::parse(text_attribute(tree, "identity"), nullptr, /*allow_exceptions=*/false);
  if (!identity.is_array()) return "its attribute 'identity' is absent or no JSON array";
  for (const auto& pair : identity) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      return "its attribute 'identity' does not hold pairs of texts";
    const auto& value = pair[1].get_ref<const std::string&>();
    std::int64_t number = 0;
    if (pair[0] == "tokens_per_batch") {
      const auto read = std::from_chars(value.data(), value.data() + value.size(), number);
      if (read.ec != std::errc() || read.ptr != value.data() + value.size())
        return "its identity's tokens_per_batch is no number";
    }
    if (pair[0] == "beta grid" && !Json::accept(value)) return "its identity's beta grid is no JSON";
  }
  return "";
}

bool holds_numbers(const Dataset& dataset) { return std::holds_alternative<std::vector<double>>(dataset.values); }

/// Why a group is not one that the schema describes; datasets of quantities that were not asked for may be absent.
std::string find_misfit(const Group& group, const std::vector<DatasetSpec>& schema, bool all_are_there) {
  for (const auto& spec : schema) {
    const Dataset* dataset = group.find(spec.name);
    const std::string place = group.path + "/" + spec.name;
    if (dataset == nullptr && all_are_there) return place + " is absent";
    if (dataset != nullptr && (!holds_numbers(*dataset) || dataset->dims != spec.dims))
      return place + " has another type or other dimensions";
  }
  return "";
}

std::string find_checkpoint_misfit(const ResultTree& tree) {
  const Group* group = tree.find("/checkpoint");
  const Dimension* tensor = group == nullptr ? nullptr : group->find_dimension("tensor");
  const Dataset* digest = group == nullptr ? nullptr : group->find("digest");
  const bool is_good = tensor != nullptr && std::holds_alternative<std::vector<std::string>>(tensor->values) &&
                       digest != nullptr && std::holds_alternative<std::vector<std::string>>(digest->values) &&
                       digest->dims == std::vector<std::string>{"tensor"};
  return is_good ? "" : "/checkpoint does not hold the digests of tensors";
}

std::vector<DatasetSpec> prompt_datasets(const char* first_dimension) {
  std::vector<DatasetSpec> datasets;
  for (const auto& quantity : prompt_schema()) {
    datasets.push_back(quantity.dataset);
    datasets.back().dims.front() = first_dimension;
  }
  return datasets;
}

std::string find_set_misfit(const Group& group) {
  if (group.path.ends_with("/statistics")) {
    const Dimension* statistic = group.find_dimension("statistic");
    const auto* names = statistic == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&statistic->values);
    if (names == nullptr || *names != statistic_names()) return group.path + " has other statistics";
    auto misfit = find_misfit(group, statistics_scalars_schema(), true);
    return misfit.empty() ? find_misfit(group, prompt_datasets("statistic"), false) : misfit;
  }
  const Dataset* errors = group.find("prompt_error");
  if (errors == nullptr || !std::holds_alternative<std::vector<std::string>>(errors->values))
    return group.path + "/prompt_error is absent or of another type";
  return find_misfit(group, prompt_datasets("prompt"), false);
}

std::string find_misfit(const ResultTree& tree) {
  if (auto misfit = find_wrong_identity(tree); !misfit.empty()) return misfit;
  if (auto misfit = find_checkpoint_misfit(tree); !misfit.empty()) return misfit;
  for (const auto& group : tree.groups) {
    std::string misfit;
    if (group.path == "/weights") misfit = find_misfit(group, weights_schema(), true);
    if (group.path == "/heads") misfit = find_misfit(group, heads_schema(), true);
    if (group.path == "/unembedding") misfit = find_misfit(group, unembedding_schema(), true);
    if (group.path.starts_with("/prompts/")) misfit = find_set_misfit(group);
    if (!misfit.empty()) return misfit;
  }
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

std::optional<EarlierResults> read_earlier_results(const Job& job, const ModelEntry& entry, WrongDigest wrong_digest) {
  const fs::path path = result_path(job, entry);
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  EarlierResults earlier;
  ResultTree& tree = earlier.tree;
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
  earlier.is_whole = std::erase_if(tree.groups, [](const Group& group) { return has_failed_units(group); }) == 0;
  if (tree.groups.empty()) return std::nullopt;
  if (const std::string misfit = find_misfit(tree); !misfit.empty())
    throw InputError(ErrorKind::model, "cannot build upon the results file '" + path.string() + "'", misfit,
                     "Remove it, use --fresh or give another output folder.");
  return earlier;
}

void expect_room_for_results(const Job& job, const ModelEntry& entry) {
  expect_kind(result_path(job, entry), fs::file_type::regular, "a regular file");
  expect_kind(run_info_path(job, entry), fs::file_type::regular, "a regular file");
  expect_kind(journal_folder(job, entry), fs::file_type::directory, "a folder");
}

}  // namespace spectrace
