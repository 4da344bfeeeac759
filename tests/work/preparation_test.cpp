#include "spectrace/work/preparation.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "spectrace/core/file.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

// Ranks compute the token ids that stand in it: one that a bit fell out of must not come through.
TEST(preparation, no_flipped_bit_and_no_cut_comes_through) {
  const TempFolder folder;
  RunContext context;
  context.job.output = folder.path();
  context.job.analyses = AnalysisChoice::of({"weights", "attention", "residual"});
  ModelEntry entry;
  entry.name = "m";
  Preparation preparation;
  preparation.folder = "/models/m";
  preparation.lack =
      everything(AnalysisChoice::of({"weights", "residual"}), {PreparedSet{"a", {{"p", {11, 12, 13}, ""}}}});
  preparation.identity = {{"slicing", "correct"}};
  preparation.num_starts = 3;
  preparation.write(context, entry);
  const auto path = journal_folder(context.job, entry) / "preparation.jsonl";
  const std::string whole = read_text_file(path);
  const Lack read = Preparation::read(context, entry).lack;
  EXPECT_EQ(read.of_weights.names(), std::vector<std::string>{"weights"});
  ASSERT_EQ(read.sets.size(), 1u);
  EXPECT_EQ(read.sets[0].analyses.names(), std::vector<std::string>{"residual"});
  EXPECT_EQ(read.sets[0].prompts[0].token_ids, (std::vector<std::int64_t>{11, 12, 13}));
  const auto expect_refused = [&](const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
    try {
      Preparation::read(context, entry);
      ADD_FAILURE() << "taken: " << text;
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      EXPECT_NE(std::string(error.what()).find("preparation.jsonl"), std::string::npos);
    }
  };
  for (std::size_t place = 0; place < whole.size(); ++place) {
    std::string changed = whole;
    changed[place] = static_cast<char>(changed[place] ^ (1 << place % 7));
    expect_refused(changed);
    expect_refused(whole.substr(0, place));
  }
}

}  // namespace
}  // namespace spectrace
