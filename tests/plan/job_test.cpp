#include "spectrace/plan/job.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "spectrace/measure/catalogue.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

namespace fs = std::filesystem;

class JobFile : public testing::Test {
 protected:
  /// A job of two models and one prompt, with `more` put in.
  static Json small(const Json& more = Json::object()) {
    Json job = {{"name", "j"},
                {"models", {{{"name", "a"}, {"path", "x"}}, {{"name", "b"}, {"path", "org/y@v1"}}}},
                {"prompt_sets", {{{"name", "s"}, {"prompts", {"text"}}}}}};
    job.update(more);
    return job;
  }
  Job read(const Json& json, const JobOverrides& overrides = {}, const std::string& below = "") {
    const fs::path folder = folder_.path() / below;
    fs::create_directories(folder);
    write_bytes(folder / "job.json", json.dump());
    return read_job(folder / "job.json", overrides);
  }
  std::string error_of(const Json& json, const JobOverrides& overrides = {}) {
    try {
      read(json, overrides);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
      return error.what();
    }
    return "no error";
  }
  void expect_error(const Json& json, const std::string& part) {
    const std::string error = error_of(json);
    EXPECT_NE(error.find(part), std::string::npos) << "'" << part << "' is not in: " << error;
  }

  TempFolder folder_;
};

TEST_F(JobFile, defaults) {
  const Job job = read(small());
  EXPECT_EQ(job.keep.which, KeepChoice::Which::most);
  EXPECT_FALSE(job.compute.stages);
  EXPECT_EQ(job.models[0].revision, "");
  EXPECT_FALSE(job.models[0].step);
  EXPECT_EQ(job.models[0].meta, Json::object());
  EXPECT_EQ(job.output, folder_.path() / "j");
}

TEST_F(JobFile, what_describes_a_model) {
  Json json = small();
  json["models"][0].update({{"revision", "main"}, {"step", 1000}, {"meta", {{"tokens", 8e12}, {"kind", "base"}}}});
  const Job job = parse_resolved_job(resolve_job(read(json)));
  EXPECT_EQ(job.models[0].revision, "main");
  EXPECT_EQ(job.models[0].step, 1000);
  EXPECT_EQ(job.models[0].meta["tokens"], 8e12);
  EXPECT_EQ(job.models[1].revision, "v1");
  json["models"][1]["revision"] = "v1";
  EXPECT_EQ(read(json).models[1].revision, "v1");
  json["models"][1]["revision"] = "v2";
  expect_error(json, "/models/1: 'path' and 'revision' name different revisions ('v1' and 'v2')");
}

TEST_F(JobFile, keep) {
  const auto keep = [&](const Json& value) { return read(small({{"keep", value}})).keep; };
  EXPECT_EQ(keep("all").which, KeepChoice::Which::all);
  EXPECT_EQ(keep("most").which, KeepChoice::Which::most);
  EXPECT_EQ(keep("statistics").which, KeepChoice::Which::listed);
  EXPECT_TRUE(keep("statistics").quantities.empty());
  EXPECT_EQ(keep({"trace", "gain"}).which, KeepChoice::Which::listed);
  EXPECT_EQ(keep({"trace", "gain"}).quantities, (std::vector<std::string>{"trace", "gain"}));
  expect_error(small({{"keep", "some"}}),
               "/keep: is \"some\" (allowed: 'all', 'most', 'statistics'; or expected array, of");
  expect_error(small({{"keep", {"tracce"}}}), "/keep/0: is \"tracce\"");
}

TEST_F(JobFile, options_beat_the_file) {
  const Json json = small({{"compute", {{"stages", 4}, {"threads", 2}}}});
  EXPECT_EQ(read(json).compute.stages, 4);
  JobOverrides overrides;
  overrides.stages = 0;
  overrides.threads = 3;
  overrides.models = {"b"};
  const Job job = parse_resolved_job(resolve_job(read(json, overrides)));
  EXPECT_FALSE(job.compute.stages);
  EXPECT_EQ(job.compute.threads, 3);
  ASSERT_EQ(job.models.size(), 1u);
  EXPECT_EQ(job.models[0].name, "b");
  EXPECT_EQ(Json::parse(job.text)["models"].size(), 1u);
  overrides.models = {"b", "c"};
  EXPECT_EQ(error_of(json, overrides), "the job has no model 'c' (its models: 'a', 'b')");
  EXPECT_NE(error_of(small({{"compute", 3}}), overrides).find("/compute: is 3"), std::string::npos);
}

TEST_F(JobFile, home_folder_in_paths) {
  const std::string home = std::getenv("HOME") == nullptr ? "" : std::getenv("HOME");
  ::setenv("HOME", folder_.path().c_str(), 1);
  write_bytes(folder_.path() / "p.txt", "a\nb\n");
  Json json = small({{"output", "~/results"}, {"models_root", "~/models"}});
  json["prompt_sets"] = {{{"name", "s"}, {"path", "~/p.txt"}}};
  const Job job = read(json, {}, "below");
  EXPECT_EQ(job.output, folder_.path() / "results");
  EXPECT_EQ(job.models_root, folder_.path() / "models");
  EXPECT_EQ(job.prompt_sets[0].prompts.size(), 2u);
  JobOverrides overrides;
  overrides.output = "~/elsewhere";
  EXPECT_EQ(read(json, overrides, "below").output, folder_.path() / "elsewhere");
  ::setenv("HOME", home.c_str(), 1);
}

TEST_F(JobFile, folder_that_is_not_utf8) {
  const Job job = read(small(), {},
                       "b\xE4"
                       "d");
  const Job shared = parse_resolved_job(resolve_job(job));
  EXPECT_EQ(shared.folder, folder_.path() /
                               "b\xE4"
                               "d");
  EXPECT_EQ(shared.output, job.output);
}

TEST_F(JobFile, each_error_once_and_in_words) {
  const auto with_set = [](const Json& set) { return small({{"prompt_sets", {set}}}); };
  EXPECT_EQ(error_of(with_set({{"name", "s"}, {"path", "no.txt"}})),
            (folder_.path() / "job.json").string() + ": cannot open '" + (folder_.path() / "no.txt").string() +
                "' (No such file or directory)");
  expect_error(with_set({{"name", "s"}, {"path", "p.txt"}, {"prompts", {"x"}}}),
               "/prompt_sets/0: has both 'prompts' and 'path'");
  expect_error(with_set({{"name", "s"}}), "/prompt_sets/0: has neither 'prompts' nor 'path'");
  expect_error(with_set({{"name", "s"}, {"prompts", {{{"text", "a"}, {"input_ids", {1}}}}}}),
               "/prompt_sets/0/prompts/0: has both 'text' and 'input_ids'");
  expect_error(small({{"name", std::string(201, 'a')}}), "/name: is 201 characters long (at most 200)");
  expect_error(small({{"name", std::string(1'000'000, 'a')}}), "/name: is 1000000 characters long");
  expect_error(small({{"name", "a b"}}), "/name: is \"a b\" (expected string, of the form");
  expect_error(small({{"compute", {{"stages", 0}}}}), "/compute/stages: is 0 (expected integer, at least 1");
  expect_error(small({{"output", std::string("a\0b", 3)}}), "/output: holds the character U+0000");
  Json json = small();
  json["models"][0]["meta"] = {{"list", {1}}};
  expect_error(json, "/models/0/meta/list: is [1] (expected string or number or boolean)");
}

TEST_F(JobFile, numbers_have_bounds) {
  const auto with = [](const char* key, const Json& value) { return small({{"compute", {{key, value}}}}); };
  expect_error(with("tokens_per_batch", 1'000'000'000'000'000'000),
               "/compute/tokens_per_batch: is 1000000000000000000");
  expect_error(with("tokens_per_batch", 1e30), "/compute/tokens_per_batch: is 1e+30");
  expect_error(with("max_memory_gib", 1e300),
               "/compute/max_memory_gib: is 1e+300 (expected number, more than 0, at most");
  expect_error(with("threads", 100'000), "/compute/threads: is 100000 (expected integer, at least 1, at most 1024)");
  expect_error(with("stages", 1'000'000'000), "/compute/stages: is 1000000000");
  for (const Json& count : {Json(1'000'000'000), Json(INT64_MAX), Json(UINT64_MAX), Json(1e300), Json(-1)})
    expect_error(small({{"sheaf", {{"beta", {{"from", 1}, {"to", 2}, {"count", count}}}}}}), "/sheaf/beta/count: is ");
  JobOverrides overrides;
  overrides.max_memory_gib = 1e300;
  EXPECT_NE(error_of(small(), overrides).find("/compute/max_memory_gib"), std::string::npos);
  Json json = small();
  json["models"][0]["step"] = UINT64_MAX;
  expect_error(json, "/models/0/step: is 18446744073709551615");
  for (const Json& id : {Json(UINT64_MAX), Json(1e300), Json(0.5)}) {
    Json set = {{"name", "s"}, {"prompts", {{{"input_ids", {id}}}}}};
    expect_error(small({{"prompt_sets", {set}}}), "input_ids");
  }
}

TEST_F(JobFile, names_that_are_no_file_names) {
  for (const char* name : {"", ".", "..", "a/b", ".hidden", "-o", "summary", "a\nb"}) {
    Json json = small();
    json["models"][0]["name"] = name;
    expect_error(json, "/models");
  }
  Json json = small();
  json["models"][0]["name"] = "A";
  json["models"][1]["name"] = "a";
  EXPECT_EQ(read(json).models.size(), 2u);
}

TEST_F(JobFile, long_keys_are_cut_in_messages) {
  EXPECT_LT(error_of(small({{std::string(1'000'000, 'k'), 1}})).size(), 1000u);
}

TEST_F(JobFile, huge_file_is_not_read) {
  write_bytes(folder_.path() / "huge.json", "{}");
  fs::resize_file(folder_.path() / "huge.json", std::uintmax_t{1} << 40);
  try {
    read_job(folder_.path() / "huge.json", {});
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("at most 268435456 are read"), std::string::npos) << error.what();
  }
}

TEST_F(JobFile, zero_work_is_an_error) {
  Json json = small({{"analyses", {"attention"}}});
  json["models"][0]["prompt_sets"] = Json::array();
  expect_error(json, "model 'a' is zero work");
  json["analyses"].push_back("weights");
  EXPECT_NO_THROW(read(json));
}

TEST_F(JobFile, many_errors_are_counted_and_not_all_shown) {
  const std::string error = error_of(small({{"prompt_sets", {{{"name", "s"}, {"prompts", Json(150, 3)}}}}}));
  EXPECT_NE(error.find("150 errors:"), std::string::npos) << error;
  EXPECT_NE(error.find("and 50 more"), std::string::npos) << error;
}

std::set<std::string> kept_quantities(const KeepChoice& keep) {
  std::set<std::string> names;
  for (const Analysis* analysis : catalogue())
    if (analysis->info().group.empty())
      for (const Quantity& quantity : analysis->info().quantities)
        if (is_kept(quantity, keep)) names.insert(quantity.name);
  return names;
}

/// Editors and `check` know the quantities from the job's schema.
TEST(JobSchema, lists_the_quantities_that_keep_may_name) {
  const auto all = kept_quantities({KeepChoice::Which::all, {}});
  const auto listed = job_schema().at("definitions").at("quantity").at("enum").get<std::vector<std::string>>();
  EXPECT_EQ(std::set<std::string>(listed.begin(), listed.end()), all);
  EXPECT_EQ(listed.size(), all.size());
}

TEST(Keep, what_is_stored) {
  using Which = KeepChoice::Which;
  EXPECT_TRUE(kept_quantities({Which::listed, {}}).empty());
  EXPECT_EQ(kept_quantities({Which::listed, {"heat_capacity", "gain"}}),
            (std::set<std::string>{"heat_capacity", "gain"}));
  const auto all = kept_quantities({Which::all, {}}), most = kept_quantities({Which::most, {}});
  EXPECT_FALSE(all.contains("free_energy"));  // it is made from log_partition
  std::set<std::string> only_all, of_sheaf;
  std::set_difference(all.begin(), all.end(), most.begin(), most.end(), std::inserter(only_all, only_all.end()));
  for (const auto& name : only_all)
    if (find_analysis("sheaf")->find_quantity(name) != nullptr) of_sheaf.insert(name);
  EXPECT_EQ(of_sheaf, (std::set<std::string>{"log_partition_nonzero", "internal_energy", "heat_capacity",
                                             "thermal_entropy", "graph_log_partition_nonzero", "graph_internal_energy",
                                             "graph_heat_capacity", "graph_thermal_entropy"}));
  EXPECT_TRUE(std::includes(all.begin(), all.end(), most.begin(), most.end()));
  for (const auto& name : {"attention", "residual"})
    for (const Quantity& quantity : find_analysis(name)->info().quantities)
      EXPECT_TRUE(most.contains(quantity.name)) << quantity.name;
}

}  // namespace
}  // namespace spectrace
