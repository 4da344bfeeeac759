#pragma once

#include <cstdint>
#include <vector>

namespace spectrace {

/// What a job says of prompts of random tokens, each said twice.
struct RepeatedRandomTokens {
  std::int64_t prompts = 0;  ///< >= 1
  std::int64_t length = 0;   ///< tokens before they are said again, >= 1
  std::int64_t seed = 0;     ///< >= 0
};
/// Tokens of all prompts of such a set, at most.
inline constexpr std::int64_t kMostRandomTokens = 100'000'000;

/// The set's prompts, 2 * length ids each, all different, of these ids. The same on every machine and by any program
/// that does this: x := seed. A draw is splitmix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195) in uint64:
/// x := x + 0x9e3779b97f4a7c15, z := x, z := (z ^ z >> 30) * 0xbf58476d1ce4e5b9,
/// z := (z ^ z >> 27) * 0x94d049bb133111eb, z := z ^ z >> 31. Of k ids a draw z is number z mod k, but if
/// z >= 2^64 - (2^64 mod k), which is drawn anew. `length` draws in turn are a prompt; one that was there before is
/// drawn anew.
/// @throws InputError (prompt) if there are fewer different prompts.
/// @pre the ids are different ones.
std::vector<std::vector<std::int64_t>> repeated_random_tokens(const RepeatedRandomTokens& wanted,
                                                              const std::vector<std::int64_t>& ids);

}  // namespace spectrace
