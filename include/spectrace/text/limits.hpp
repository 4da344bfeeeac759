#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "spectrace/core/error.hpp"

namespace spectrace::text {

// What foreign files may ask for (docs/manual.md, "Limits"). Tokenizers are read and run inside a rank, beside MPI and
// the threads that compute, where no child process can be forked safely: these bounds, checked before the work, are
// what keeps its memory and time.

inline constexpr std::size_t kMaxTokenizerFileBytes = std::size_t{128} << 20;
inline constexpr std::size_t kMaxPromptFileBytes = std::size_t{1} << 30;
/// Normalizers of a tokenizer, sequences inside sequences counted; pre-tokenizers as well.
inline constexpr std::size_t kMaxSteps = 256;
inline constexpr std::size_t kMaxPatternBytes = 16 * 1024;
/// Of a token that is looked for at every place of a text (Unigram, added tokens), and of all of them together.
inline constexpr std::size_t kMaxSearchedTokenBytes = 1024, kMaxSearchedBytes = std::size_t{32} << 20;
/// Of what BPE puts before or after each character to look it up.
inline constexpr std::size_t kMaxAffixBytes = 64;
inline constexpr std::int64_t kMaxTokenId = INT32_MAX;
/// Of one post-processor: token ids that it adds, times that it puts the prompt.
inline constexpr std::size_t kMaxAddedIds = 4096, kMaxPromptCopies = 16;

/// How many bytes a text may grow to on its way to tokens. Unicode's worst form is 11 times as long, GPT-2's bytes
/// twice.
std::size_t growth_limit(std::size_t text_bytes);

/// The error (prompt) of a text that would grow longer.
InputError grows_too_long();

/// A foreign text as messages show it: its beginning, without control characters.
std::string shown(std::string_view text);

}  // namespace spectrace::text
