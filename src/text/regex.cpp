#include "spectrace/text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <mutex>
#include <optional>

#include "spectrace/core/error.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/oniguruma.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

// A match is first looked for in a window of the text, where no pattern can do much: PCRE2's limit counts steps that
// may each walk to the end of what it sees. What the window or the limit do not suffice for (a word or a run of spaces
// that is longer) is looked for again in the whole text by code that tells of every step.
constexpr std::size_t window_bytes = 256;
constexpr std::uint32_t window_match_limit = 1000;
constexpr std::uint32_t max_lookbehind = 255;
// The stack is address space that only a match that needs it touches; the heap is for machines without JIT.
constexpr std::size_t jit_stack_start_bytes = 32 * 1024;
constexpr std::size_t jit_stack_limit_bytes = 256 * 1024 * 1024;
constexpr std::uint32_t heap_limit_kib = 256 * 1024;

struct Pcre2Delete {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <typename T>
using Pcre2Pointer = std::unique_ptr<T, Pcre2Delete>;

/// Told of every step of a match. Between two of them a pattern has at most walked from one place to the other.
struct StepCounter {
  PatternEffort* effort = nullptr;
  std::size_t place = 0;

  static int count(pcre2_callout_block* step, void* counter) {
    auto& [effort, place] = *static_cast<StepCounter*>(counter);
    const std::size_t walked =
        step->current_position > place ? step->current_position - place : place - step->current_position;
    place = step->current_position;
    return effort->take(walked + 1) ? 0 : PCRE2_ERROR_CALLOUT;
  }
};

/// What matching writes to: one for each thread, for all patterns.
struct MatchState {
  Pcre2Pointer<pcre2_jit_stack> stack{pcre2_jit_stack_create(jit_stack_start_bytes, jit_stack_limit_bytes, nullptr)};
  Pcre2Pointer<pcre2_match_context> in_window{pcre2_match_context_create(nullptr)};
  Pcre2Pointer<pcre2_match_context> counting{pcre2_match_context_create(nullptr)};
  Pcre2Pointer<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  StepCounter counter;

  MatchState() {
    if (!in_window || !counting || !data) throw std::bad_alloc();
    pcre2_set_match_limit(in_window.get(), window_match_limit);
    pcre2_set_match_limit(counting.get(), UINT32_MAX);
    pcre2_set_callout(counting.get(), StepCounter::count, &counter);
    for (pcre2_match_context* context : {in_window.get(), counting.get()}) {
      pcre2_set_heap_limit(context, heap_limit_kib);
      if (stack) pcre2_jit_stack_assign(context, nullptr, stack.get());
    }
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
};

/// Where the window of a search from `start` ends: behind a whole character.
std::size_t window_end(std::string_view text, std::size_t start) {
  if (text.size() - start <= window_bytes) return text.size();
  std::size_t end = start + window_bytes;
  while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

/// @throws UnsupportedPattern
Pcre2Pointer<pcre2_code> compile(const std::string& pattern, std::uint32_t options, std::uint32_t jit_options) {
  const Pcre2Pointer<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  Pcre2Pointer<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | options, &error, &error_offset,
                                              context.get()));
  if (!code) throw UnsupportedPattern("what PCRE2 refuses: " + pcre2_message(error));
  std::uint32_t lookbehind = 0;
  pcre2_pattern_info(code.get(), PCRE2_INFO_MAXLOOKBEHIND, &lookbehind);
  if (lookbehind > max_lookbehind)
    throw UnsupportedPattern("a look behind by more than " + std::to_string(max_lookbehind));
  pcre2_jit_compile(code.get(), jit_options);  // where there is no JIT, matching interprets
  return code;
}

}  // namespace

struct Regex::Code {
  explicit Code(std::string_view pattern)
      : translated(translate_oniguruma(pattern)),
        quick(compile(translated, 0, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD)) {}

  const pcre2_code* get_counting() {
    std::call_once(counting_made_, [&] { counting_ = compile(translated, PCRE2_AUTO_CALLOUT, PCRE2_JIT_COMPLETE); });
    return counting_.get();
  }

  const std::string translated;
  const Pcre2Pointer<pcre2_code> quick;

 private:
  std::once_flag counting_made_;
  Pcre2Pointer<pcre2_code> counting_{};  // most patterns never need it
};

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes)
    throw UnsupportedPattern("more than " + std::to_string(kMaxPatternBytes) + " bytes");
  code_ = std::make_unique<Code>(pattern);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::optional<Regex::Bounds> Regex::find_from(std::string_view text, std::size_t start, PatternEffort& effort) const {
  thread_local MatchState state;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data.get());
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (;;) {
    const std::size_t end = window_end(text, start);
    const bool is_rest = end == text.size();
    // A partial match asks for what lies behind the window.
    const int status =
        pcre2_match(code_->quick.get(), subject, end, start, PCRE2_NO_UTF_CHECK | (is_rest ? 0 : PCRE2_PARTIAL_HARD),
                    state.data.get(), state.in_window.get());
    if (status >= 0 && (is_rest || bounds[1] < end)) return Bounds{bounds[0], bounds[1]};
    if (status != PCRE2_ERROR_NOMATCH) break;
    if (is_rest) return std::nullopt;
    start = end;
  }
  state.counter = {&effort, start};
  const pcre2_code* counting = nullptr;
  try {
    counting = code_->get_counting();
  } catch (const UnsupportedPattern& unsupported) {  // too large, once it tells of every step
    throw InputError(ErrorKind::prompt, "the tokenizer's pattern '" + shown(pattern_) + "' gives up on this text",
                     std::string("it holds ") + unsupported.what(), input_ids_suggestion);
  }
  const int status =
      pcre2_match(counting, subject, text.size(), start, PCRE2_NO_UTF_CHECK, state.data.get(), state.counting.get());
  if (status == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (status < 0)
    throw InputError(ErrorKind::prompt, "the tokenizer's pattern '" + shown(pattern_) + "' gives up on this text",
                     "at byte " + std::to_string(start) + " of " + std::to_string(text.size()) + ": " +
                         (status == PCRE2_ERROR_CALLOUT ? "it takes too many steps" : pcre2_message(status)),
                     input_ids_suggestion);
  return Bounds{bounds[0], bounds[1]};
}

std::vector<Span> Regex::find_spans(std::string_view text, PatternEffort& effort) const {
  std::vector<Span> spans;
  std::size_t covered = 0;  // end of the last span
  std::optional<std::size_t> last_match_end;
  for (std::size_t start = 0; start <= text.size();) {
    const auto match = find_from(text, start, effort);
    if (!match) break;
    const auto [begin, end] = *match;
    if (begin == end && last_match_end == end) {
      start += start < text.size() ? decode_at(text, start).size_bytes : 1;
      continue;
    }
    if (covered != begin) spans.push_back({covered, begin, false});
    spans.push_back({begin, end, true});
    covered = start = end;
    last_match_end = end;
  }
  if (covered != text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

Pattern Pattern::read(const JsonNode& node) {
  node.expect_only_keys({"String", "Regex"});
  Pattern pattern;
  if (const auto literal = node.find("String")) {
    pattern.literal_ = literal->as_string();
    if (pattern.literal_.empty()) throw node.error("the empty pattern is not supported", "", input_ids_suggestion);
    return pattern;
  }
  const JsonNode regex = node.at("Regex");
  try {
    pattern.regex_ = std::make_shared<const Regex>(regex.as_string());
  } catch (const UnsupportedPattern& unsupported) {
    throw regex.error("the regular expression '" + shown(regex.as_string()) + "' is not supported",
                      std::string("it holds ") + unsupported.what(), input_ids_suggestion);
  }
  return pattern;
}

std::vector<Span> Pattern::find_spans(std::string_view text, PatternEffort& effort) const {
  return regex_ ? regex_->find_spans(text, effort) : find_literal(text, literal_);
}

}  // namespace spectrace::text
