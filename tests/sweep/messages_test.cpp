#include "spectrace/sweep/messages.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "spectrace/core/floats.hpp"
#include "spectrace/core/json.hpp"

namespace spectrace {
namespace {

// Not UTF-8, a NUL and a line end: what a folder's name or a library's error may hold.
const std::string kAnyBytes("caf\xE9 \xFF\0 \n\"\\ \xC3\xA9", 15);

template <typename Kind>
Kind through(const to_root::Message& message) {
  return std::get<Kind>(decode_to_root(encode(message), 3));
}

template <typename Kind>
Kind through(const from_root::Message& message) {
  return std::get<Kind>(decode_from_root(encode(message), 0));
}

template <typename Kind>
Kind report_through(Report report) {
  return std::get<Kind>(through<to_root::Reported>(to_root::Reported{std::move(report), 0.1}).report);
}

void expect_same(const std::vector<OpenUnit>& a, const std::vector<OpenUnit>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].unit, b[i].unit);
    EXPECT_EQ(a[i].flops, b[i].flops);
    EXPECT_EQ(a[i].seconds, b[i].seconds);
    EXPECT_EQ(a[i].is_undivided, b[i].is_undivided);
  }
}

std::vector<OpenUnit> some_units() {
  return {{.unit = 0, .flops = 1e15 / 3, .seconds = 0.1, .is_undivided = false},
          {.unit = 123456789012, .flops = 0, .seconds = 1e-300, .is_undivided = true}};
}

/// The text of the InternalError that `f` throws.
template <typename F>
std::string bug_of(F&& f) {
  try {
    f();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in '" << text << "'";
}

std::string bytes_of(const Json& json) {
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

TEST(messages, what_ranks_say_to_root_comes_through) {
  const auto ready = through<to_root::Ready>(to_root::Ready{.host = kAnyBytes, .pid = 4194304});
  EXPECT_EQ(ready.host, kAnyBytes);
  EXPECT_EQ(ready.pid, 4194304);
  EXPECT_EQ(through<to_root::Alive>(to_root::Alive{.flops_done = 1e15 / 3}).flops_done, 1e15 / 3);
  EXPECT_EQ(through<to_root::StopAsked>(to_root::StopAsked{.reason = kAnyBytes}).reason, kAnyBytes);
  through<to_root::Left>(to_root::Left{});
}

TEST(messages, what_root_says_comes_through) {
  const Assignment assignment{.step = Step::collect,
                              .model = 7,
                              .units = {0, 3, 123456789012},
                              .first_rank = 2,
                              .num_ranks = 4,
                              .is_last = true};
  const auto work = through<from_root::Do>(from_root::Do{{.assignment = assignment,
                                                          .journal_files = {"rank-0001", kAnyBytes},
                                                          .tensors = {{kAnyBytes, "digest"}},
                                                          .sums_come = true}});
  EXPECT_EQ(work.order.assignment.step, Step::collect);
  EXPECT_EQ(work.order.assignment.model, 7u);
  EXPECT_EQ(work.order.assignment.units, assignment.units);
  EXPECT_EQ(work.order.assignment.first_rank, 2);
  EXPECT_EQ(work.order.assignment.num_ranks, 4);
  EXPECT_TRUE(work.order.assignment.is_last);
  EXPECT_EQ(work.order.journal_files, (std::vector<std::string>{"rank-0001", kAnyBytes}));
  EXPECT_EQ(work.order.tensors, (std::vector<std::pair<std::string, std::string>>{{kAnyBytes, "digest"}}));
  EXPECT_TRUE(work.order.sums_come);
  const SumsShape shape{.num_slots = {1, 123456789012}, .num_units = 98765432101};
  const auto reduce = through<from_root::Reduce>(from_root::Reduce{.model = 5, .receiver = 4095, .shape = shape});
  EXPECT_EQ(reduce.model, 5u);
  EXPECT_EQ(reduce.receiver, 4095);
  EXPECT_EQ(reduce.shape, shape);
  through<from_root::Alive>(from_root::Alive{});
  through<from_root::Stop>(from_root::Stop{});
  EXPECT_EQ(through<from_root::Leave>(from_root::Leave{.exit_code = 75}).exit_code, 75);
}

TEST(messages, what_was_opened_comes_through) {
  const auto opened = report_through<ModelOpened>(
      ModelOpened{.units = some_units(),
                  .stages = 8,
                  .sums = {.num_slots = {7}, .num_units = 2},
                  .num_journalled = 11,
                  .journalled_flops = 2e15 / 3,
                  .expected = {.busy_s = 0.7, .peak_bytes = 1e10 / 3, .is_calibrated = false}});
  expect_same(opened.units, some_units());
  EXPECT_EQ(opened.stages, 8);
  EXPECT_EQ(opened.sums, (SumsShape{.num_slots = {7}, .num_units = 2}));
  EXPECT_EQ(opened.num_journalled, 11u);
  EXPECT_EQ(opened.journalled_flops, 2e15 / 3);
  EXPECT_EQ(opened.expected.busy_s, 0.7);
  EXPECT_EQ(opened.expected.peak_bytes, 1e10 / 3);
  EXPECT_FALSE(opened.expected.is_calibrated);
}

TEST(messages, what_was_worked_and_what_is_missing_come_through) {
  const auto worked =
      report_through<UnitsWorked>(UnitsWorked{.journal_file = kAnyBytes, .tensors = {{"t", kAnyBytes}}});
  EXPECT_EQ(worked.journal_file, kAnyBytes);
  EXPECT_EQ(worked.tensors, (std::vector<std::pair<std::string, std::string>>{{"t", kAnyBytes}}));
  expect_same(report_through<RecordsMissing>(RecordsMissing{.units = some_units()}).units, some_units());
  EXPECT_EQ(through<to_root::Reported>(to_root::Reported{UnitsWorked{}, 0.1}).flops_done, 0.1);
}

TEST(messages, a_models_end_comes_through_with_numbers_that_are_none) {
  SummaryRow row;
  row.model = kAnyBytes;
  row.error = "why not";
  row.num_layers = 12;
  SummaryRow empty;
  for (std::size_t c = 0; c < summary_columns().size(); ++c) empty.of_analyses.push_back(static_cast<double>(c));
  row.of_analyses = empty.of_analyses;
  ASSERT_GE(row.of_analyses.size(), 4u);
  row.of_analyses[0] = kNaN;
  row.of_analyses[1] = -std::numeric_limits<double>::infinity();
  row.of_analyses[2] = -0.0;
  row.of_analyses[3] = 1.0 / 3;
  const auto finished = report_through<ModelFinished>(ModelFinished{
      .outcome = {.status = ModelStatus::mismatch, .error = kAnyBytes}, .rows = {row, empty}, .was_there = true});
  EXPECT_EQ(finished.outcome.status, ModelStatus::mismatch);
  EXPECT_EQ(finished.outcome.error, kAnyBytes);
  EXPECT_TRUE(finished.was_there);
  ASSERT_EQ(finished.rows.size(), 2u);
  EXPECT_EQ(finished.rows[0].model, kAnyBytes);
  EXPECT_EQ(finished.rows[0].error, "why not");
  EXPECT_EQ(finished.rows[0].num_layers, 12);
  ASSERT_EQ(finished.rows[0].of_analyses.size(), row.of_analyses.size());
  EXPECT_TRUE(std::isnan(finished.rows[0].of_analyses[0]));
  EXPECT_EQ(finished.rows[0].of_analyses[1], row.of_analyses[1]);
  EXPECT_TRUE(std::signbit(finished.rows[0].of_analyses[2]));
  EXPECT_EQ(finished.rows[0].of_analyses[3], 1.0 / 3);
  EXPECT_EQ(finished.rows[1].of_analyses, empty.of_analyses);
}

TEST(messages, errors_come_through_with_kind_and_parts) {
  const InputError error(ErrorKind::model, "problem " + kAnyBytes, "why " + kAnyBytes, "suggestion");
  const auto failed = through<to_root::Failed>(to_root::Failed{.error = error, .flops_done = 0.1});
  EXPECT_EQ(failed.flops_done, 0.1);
  for (const InputError& other : {failed.error, decode_error(encode(error), 2)}) {
    EXPECT_EQ(other.kind(), ErrorKind::model);
    EXPECT_EQ(other.problem(), error.problem());
    EXPECT_EQ(other.why(), error.why());
    EXPECT_EQ(other.suggestion(), "suggestion");
    EXPECT_STREQ(other.what(), error.what());
  }
}

TEST(messages, an_unknown_word_is_a_bug_that_names_word_and_rank) {
  expect_parts(bug_of([] { decode_to_root(bytes_of({{"say", "hello \xFF"}}), 5); }), {"rank 5", "'hello \\xff'"});
  expect_parts(bug_of([] {
                 decode_from_root(bytes_of({{"say", "ready"}, {"host", "a"}, {"pid", 1}}), 0);
               }),
               {"rank 0", "'ready'"});
  expect_parts(bug_of([] {
                 decode_to_root(bytes_of({{"say", "report"}, {"flops", 0}, {"report", {{"of", "x"}}}}), 1);
               }),
               {"rank 1", "'report'", "'x'"});
}

TEST(messages, what_lacks_something_is_a_bug_that_names_it) {
  expect_parts(bug_of([] { decode_to_root(bytes_of({{"say", "ready"}, {"host", "a"}}), 4); }), {"rank 4", "pid"});
  expect_parts(bug_of([] {
                 decode_to_root(bytes_of({{"say", "alive"}, {"flops", "many"}}), 4);
               }),
               {"rank 4", "'alive'"});
  expect_parts(bug_of([] { decode_to_root(bytes_of({{"host", "a"}}), 4); }), {"rank 4", "say"});
  expect_parts(bug_of([] { decode_from_root(bytes_of({{"say", "leave"}}), 0); }), {"rank 0", "'leave'", "code"});
  expect_parts(bug_of([] {
                 decode_error(bytes_of({{"kind", 9}, {"problem", ""}, {"why", ""}, {"suggestion", ""}}), 6);
               }),
               {"rank 6", "9"});
  const Json units = {{"unit", {1, 2}}, {"flops", {1.0}}, {"seconds", {1.0, 2.0}}, {"is_undivided", {false, true}}};
  const Json report = {{"of", "missing"}, {"units", units}};
  expect_parts(bug_of([&] {
                 decode_to_root(bytes_of({{"say", "report"}, {"flops", 0}, {"report", report}}), 1);
               }),
               {"rank 1", "units"});
  // One text of a row is not there.
  const Json row = {Json::array({"m", "l", "e", "p", "s"}), Json::array()};
  const Json finished = {
      {"of", "finished"}, {"status", 0}, {"error", ""}, {"summary_rows", {row}}, {"was_there", false}};
  EXPECT_NE(bug_of([&] { decode_to_root(bytes_of({{"say", "report"}, {"flops", 0}, {"report", finished}}), 1); }), "");
}

// However a message is cut, and whatever byte of it is another one: a message, or a bug that names the rank.
TEST(messages, what_was_cut_is_a_bug_that_names_the_rank) {
  const std::vector<std::string> whole = {
      encode(to_root::Ready{.host = "a", .pid = 1}),
      encode(to_root::Reported{
          .report =
              ModelFinished{.outcome = {}, .rows = summarize(Job(), ModelEntry(), {}, nullptr), .was_there = false}}),
      encode(to_root::Reported{.report = ModelOpened{.units = some_units()}}),
      encode(to_root::Failed{.error = InputError(ErrorKind::io, "a", "b", "c")}), encode(to_root::Left{})};
  for (const std::string& bytes : whole)
    for (std::size_t place = 0; place < bytes.size(); ++place) {
      expect_parts(bug_of([&] { decode_to_root(bytes.substr(0, place), 9); }), {"rank 9"});
      std::string changed = bytes;
      changed[place] = static_cast<char>(changed[place] ^ (1 << place % 8));
      try {
        decode_to_root(changed, 9);
      } catch (const InternalError& error) {
        expect_parts(error.what(), {"rank 9"});
      }
    }
}

}  // namespace
}  // namespace spectrace
