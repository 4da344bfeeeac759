#include "spectrace/text/random_tokens.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

std::vector<std::int64_t> ids_to(std::int64_t count) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(RepeatedRandomTokens, are_those_of_the_generator_that_the_header_names) {
  // splitmix64 from state 1234567, as its authors' C program prints: 6457827717110365317, 3203168211198807973,
  // 9817491932198370423, 4593380528125082431, 16408922859458223821.
  const auto prompts = repeated_random_tokens({1, 5, 1234567}, ids_to(1'000'000));
  EXPECT_EQ(prompts.front(),
            (std::vector<std::int64_t>{365317, 807973, 370423, 82431, 223821, 365317, 807973, 370423, 82431, 223821}));
}

TEST(RepeatedRandomTokens, are_of_the_ids_and_all_different) {
  const std::vector<std::int64_t> ids = {7, 3, 100};
  const auto prompts = repeated_random_tokens({27, 3, 5}, ids);  // all there are
  std::set<std::vector<std::int64_t>> different;
  for (const auto& prompt : prompts) {
    ASSERT_EQ(6u, prompt.size());
    EXPECT_TRUE(std::equal(prompt.begin(), prompt.begin() + 3, prompt.begin() + 3));
    for (const std::int64_t id : prompt) EXPECT_NE(ids.end(), std::find(ids.begin(), ids.end(), id));
    different.insert(prompt);
  }
  EXPECT_EQ(27u, different.size());
}

TEST(RepeatedRandomTokens, begin_alike_whatever_their_number) {
  const auto few = repeated_random_tokens({3, 8, 1}, ids_to(50)), many = repeated_random_tokens({30, 8, 1}, ids_to(50));
  EXPECT_TRUE(std::equal(few.begin(), few.end(), many.begin()));
  EXPECT_NE(few, repeated_random_tokens({3, 8, 2}, ids_to(50)));
}

TEST(RepeatedRandomTokens, that_are_too_many_for_the_ids_are_refused) {
  EXPECT_THROW(repeated_random_tokens({28, 3, 5}, {7, 3, 100}), InputError);
  EXPECT_THROW(repeated_random_tokens({2, 9, 5}, {7}), InputError);
  EXPECT_THROW(repeated_random_tokens({1, 9, 5}, {}), InputError);
  EXPECT_EQ((std::vector<std::vector<std::int64_t>>{{7, 7, 7, 7}}), repeated_random_tokens({1, 2, 5}, {7}));
}

}  // namespace
}  // namespace spectrace
