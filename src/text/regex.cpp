#include "spectrace/text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <optional>

#include "spectrace/core/error.hpp"
#include "spectrace/text/oniguruma.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

// Effort for one match. Every pattern in use is far below: they hardly backtrack. The stack is address space that only
// a match that needs it touches.
constexpr std::uint32_t match_limit = 20'000'000;
constexpr std::size_t jit_stack_start_bytes = 32 * 1024;
constexpr std::size_t jit_stack_limit_bytes = 256 * 1024 * 1024;

struct Pcre2Delete {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <typename T>
using Pcre2Pointer = std::unique_ptr<T, Pcre2Delete>;

/// What matching writes to: one for each thread, for all patterns.
struct MatchState {
  Pcre2Pointer<pcre2_jit_stack> stack{pcre2_jit_stack_create(jit_stack_start_bytes, jit_stack_limit_bytes, nullptr)};
  Pcre2Pointer<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Pcre2Pointer<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};

  MatchState() {
    if (!context || !data) throw std::bad_alloc();
    pcre2_set_match_limit(context.get(), match_limit);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  Pcre2Pointer<pcre2_code> pcre2;
};

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  const std::string translated = translate_oniguruma(pattern);
  const Pcre2Pointer<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  Pcre2Pointer<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &error_offset,
                                              context.get()));
  if (!code) throw UnsupportedPattern("what PCRE2 refuses: " + pcre2_message(error));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT, matching interprets
  code_ = std::make_unique<const Code>(Code{std::move(code)});
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::vector<Span> Regex::find_spans(std::string_view text) const {
  thread_local MatchState state;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data.get());
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());

  std::vector<Span> spans;
  std::size_t covered = 0;  // end of the last span
  std::optional<std::size_t> last_match_end;
  for (std::size_t start = 0; start <= text.size();) {
    const int status = pcre2_match(code_->pcre2.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                                   state.data.get(), state.context.get());
    if (status == PCRE2_ERROR_NOMATCH) break;
    if (status < 0)
      throw InputError(
          ErrorKind::prompt, "the tokenizer's pattern '" + pattern_ + "' gives up on this text",
          "at byte " + std::to_string(start) + " of " + std::to_string(text.size()) + ": " + pcre2_message(status),
          "Give the prompt as input_ids instead.");
    const std::size_t begin = bounds[0], end = bounds[1];
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
    throw regex.error("the regular expression '" + regex.as_string() + "' is not supported",
                      std::string("it holds ") + unsupported.what(), input_ids_suggestion);
  }
  return pattern;
}

std::vector<Span> Pattern::find_spans(std::string_view text) const {
  return regex_ ? regex_->find_spans(text) : find_literal(text, literal_);
}

}  // namespace spectrace::text
