#include "spectrace/work/worker.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "spectrace/core/file.hpp"
#include "spectrace/results/output_folder.hpp"
#include "spectrace/store/journal.hpp"
#include "spectrace/store/result_file.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

std::string model_path(const std::string& name) {
  return (std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model" / name).string();
}

/// A rank that has a job of one small model for itself.
class OneWorker : public testing::Test {
 protected:
  OneWorker() {
    context_.job.output = folder_.path();
    context_.job.analyses = AnalysisChoice::of({"weights", "residual"});
    context_.job.compute.tokens_per_batch = 3;
    ModelEntry& entry = context_.job.models.emplace_back();
    entry.name = "m";
    entry.path = model_path("gpt2");
    PromptSetEntry& set = context_.job.prompt_sets.emplace_back();
    set.name = "s";
    for (const char* id : {"a", "b"}) {
      Prompt& prompt = set.prompts.emplace_back();
      prompt.id = id;
      prompt.input_ids = std::vector<std::int64_t>{3, 1, 4};
    }
    context_.memory_bytes = std::int64_t{1} << 30;
  }

  Report run(Step step, std::vector<std::size_t> units = {}, std::vector<std::string> journals = {}) {
    return worker_.run(
        {.assignment = {.step = step, .model = 0, .units = std::move(units)}, .journal_files = std::move(journals)});
  }
  UnitsWorked work();
  Report collect_with_sums(const UnitsWorked& worked);
  const ModelEntry& entry() const { return context_.job.models[0]; }

  const TempFolder folder_;
  RunContext context_;
  Worker worker_{context_};
};

TEST_F(OneWorker, opens_works_and_collects) {
  const auto opened = std::get<ModelOpened>(run(Step::open));
  std::vector<std::size_t> units;
  double flops = 0;
  for (const OpenUnit& unit : opened.units) {
    units.push_back(unit.unit);
    flops += unit.flops;
  }
  ASSERT_EQ(units.size(), 3u + 2u);  // layers, batches
  EXPECT_EQ(opened.num_journalled, 0u);

  const auto worked = std::get<UnitsWorked>(run(Step::work, units));
  EXPECT_TRUE(std::filesystem::exists(journal_folder(context_.job, entry()) / worked.journal_file));
  EXPECT_NEAR(context_.flops_done.load(), flops, 1e-9 * flops);
  EXPECT_GT(context_.bytes_read.load(), 0u);

  const auto finished = std::get<ModelFinished>(run(Step::collect, {}, {worked.journal_file}));
  EXPECT_EQ(finished.outcome.status, ModelStatus::ok);
  EXPECT_EQ(finished.outcome.error, "");
  EXPECT_FALSE(finished.was_there);
  EXPECT_EQ(finished.rows.size(), 1u);
  EXPECT_TRUE(std::filesystem::exists(result_path(context_.job, entry())));
  EXPECT_GT(context_.busy_s.load(), 0);
}

/// What is left to do, done.
UnitsWorked OneWorker::work() {
  std::vector<std::size_t> units;
  const auto opened = std::get<ModelOpened>(run(Step::open));
  for (const OpenUnit& unit : opened.units) units.push_back(unit.unit);
  return std::get<UnitsWorked>(run(Step::work, units));
}

/// As where the ranks' sums were added up, of which these are all.
Report OneWorker::collect_with_sums(const UnitsWorked& worked) {
  context_.sums.deliver(0, {.sums = context_.sums.take(0).value(), .backend = "nothing"});
  return worker_.run({.assignment = {.step = Step::collect, .model = 0, .units = {}},
                      .journal_files = {worked.journal_file},
                      .tensors = worked.tensors,
                      .sums_come = true});
}

/// Damages the last record of a file, or all of them.
void spoil(const std::filesystem::path& path, std::size_t from_end) {
  std::string bytes = read_text_file(path);
  bytes.at(bytes.size() - from_end) ^= 1;
  write_file_atomically(path, bytes);
}

TEST_F(OneWorker, keeps_the_sums_of_what_it_has_journalled_and_tells_what_they_were_made_of) {
  const auto opened = std::get<ModelOpened>(run(Step::open));
  EXPECT_EQ(opened.sums.num_units, 5u);
  EXPECT_FALSE(opened.sums.num_slots.empty());
  const UnitsWorked worked = work();
  EXPECT_FALSE(worked.tensors.empty());
  const BatchSums sums = context_.sums.take(0).value();
  EXPECT_EQ(sums.units, (std::vector<std::int64_t>{0, 0, 0, 1, 1}));
  EXPECT_EQ(sums.sums.front().finish(0).values.front(), 2);  // prompts
}

TEST_F(OneWorker, a_file_is_the_same_whether_the_sums_come_or_are_made_of_the_journal) {
  std::string bytes;
  for (const bool sums_come : {false, true}) {
    const UnitsWorked worked = work();
    const Report report =
        sums_come ? collect_with_sums(worked) : run(Step::collect, {}, std::vector<std::string>{worked.journal_file});
    EXPECT_EQ(std::get<ModelFinished>(report).outcome.status, ModelStatus::ok);
    const std::string now = read_text_file(result_path(context_.job, entry()));
    if (!sums_come)
      bytes = now;
    else
      EXPECT_EQ(now, bytes);
    std::filesystem::remove(result_path(context_.job, entry()));
    static_cast<void>(context_.sums.take(0));
  }
}

TEST_F(OneWorker, without_room_for_sums_they_are_made_of_the_journal) {
  context_.memory_bytes = std::int64_t{1} << 20;
  const UnitsWorked worked = work();
  EXPECT_TRUE(worked.tensors.empty());
  EXPECT_FALSE(context_.sums.take(0).has_value());
}

// With statistics alone, nothing is read of batches whose values are in the sums; else what is damaged is done again.
TEST_F(OneWorker, records_are_read_for_rows_alone) {
  for (const bool keeps_rows : {false, true}) {
    SCOPED_TRACE(keeps_rows);
    context_.job.keep = {keeps_rows ? KeepChoice::Which::most : KeepChoice::Which::listed, {}};
    UnitsWorked worked = work();
    const auto journal = journal_folder(context_.job, entry()) / worked.journal_file;
    const auto last_batch = read_journal_index(journal.parent_path());
    for (const auto& [key, place] : last_batch)
      if (key.starts_with("prompts/"))
        spoil(journal, std::filesystem::file_size(journal) - (place.offset + place.size_bytes) + 1);
    const Report report = collect_with_sums(worked);
    if (keeps_rows) {
      EXPECT_FALSE(std::get<RecordsMissing>(report).units.empty());
      EXPECT_FALSE(std::filesystem::exists(result_path(context_.job, entry())));
    } else {
      EXPECT_EQ(std::get<ModelFinished>(report).outcome.status, ModelStatus::ok);
      std::filesystem::remove(result_path(context_.job, entry()));
    }
  }
}

TEST_F(OneWorker, units_that_nobody_did_are_asked_for_again) {
  const auto opened = std::get<ModelOpened>(run(Step::open));
  std::vector<std::size_t> units;
  for (const OpenUnit& unit : opened.units) units.push_back(unit.unit);
  const std::size_t left = units.back();
  units.pop_back();
  const auto worked = std::get<UnitsWorked>(run(Step::work, units));
  const auto missing = std::get<RecordsMissing>(run(Step::collect, {}, {worked.journal_file}));
  ASSERT_EQ(missing.units.size(), 1u);
  EXPECT_EQ(missing.units[0].unit, left);
  EXPECT_FALSE(std::filesystem::exists(result_path(context_.job, entry())));
}

TEST_F(OneWorker, a_stop_leaves_what_is_not_begun_and_a_later_start_goes_on) {
  const auto opened = std::get<ModelOpened>(run(Step::open));
  std::vector<std::size_t> units;
  for (const OpenUnit& unit : opened.units) units.push_back(unit.unit);
  context_.stop = true;
  run(Step::work, units);
  EXPECT_LT(context_.flops_done.load(), 1);
  context_.stop = false;
  EXPECT_EQ(std::get<ModelOpened>(run(Step::open)).units.size(), units.size());
}

TEST_F(OneWorker, a_model_that_cannot_be_opened_is_its_own_failure) {
  context_.job.models[0].path = (folder_.path() / "absent").string();
  const auto finished = std::get<ModelFinished>(run(Step::open));
  EXPECT_EQ(finished.outcome.status, ModelStatus::failed);
  EXPECT_NE(finished.outcome.error.find("absent"), std::string::npos) << finished.outcome.error;
}

TEST_F(OneWorker, an_order_of_no_step_is_our_mistake) { EXPECT_THROW(run(static_cast<Step>(7)), InternalError); }

}  // namespace
}  // namespace spectrace
