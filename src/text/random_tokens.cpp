#include "spectrace/text/random_tokens.hpp"

#include <limits>
#include <set>
#include <string>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  /// Each of [0, count) with the same probability.
  std::uint64_t below(std::uint64_t count) {
    constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
    const std::uint64_t rest = (kLast % count + 1) % count;  // 2^64 mod count
    std::uint64_t z = next();
    while (z > kLast - rest) z = next();
    return z % count;
  }

 private:
  std::uint64_t state_;
};

/// Whether there are so many different sequences.
bool has_sequences(std::uint64_t num_ids, std::int64_t length, std::int64_t wanted) {
  if (num_ids < 2) return num_ids == 1 && wanted == 1;
  std::uint64_t count = 1;  // no more than kMostRandomTokens times the ids
  for (std::int64_t i = 0; i < length && std::cmp_less(count, wanted); ++i) count *= num_ids;
  return std::cmp_greater_equal(count, wanted);
}

}  // namespace

std::vector<std::vector<std::int64_t>> repeated_random_tokens(const RepeatedRandomTokens& wanted,
                                                              const std::vector<std::int64_t>& ids) {
  SPECTRACE_ASSERT(wanted.prompts > 0 && wanted.length > 0);
  if (!has_sequences(ids.size(), wanted.length, wanted.prompts))
    throw InputError(ErrorKind::prompt,
                     "there are no " + std::to_string(wanted.prompts) + " different prompts of " +
                         std::to_string(wanted.length) + " random tokens",
                     "the model has " + std::to_string(ids.size()) + " tokens that are not special",
                     "Take fewer prompts, or longer ones.");
  SplitMix64 random(static_cast<std::uint64_t>(wanted.seed));
  std::set<std::vector<std::int64_t>> drawn;
  std::vector<std::vector<std::int64_t>> prompts;
  while (std::cmp_less(prompts.size(), wanted.prompts)) {
    std::vector<std::int64_t> prompt;
    for (std::int64_t i = 0; i < wanted.length; ++i)
      prompt.push_back(ids[static_cast<std::size_t>(random.below(ids.size()))]);
    if (!drawn.insert(prompt).second) continue;
    prompt.reserve(2 * prompt.size());
    for (std::int64_t i = 0; i < wanted.length; ++i) prompt.push_back(prompt[static_cast<std::size_t>(i)]);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace spectrace
