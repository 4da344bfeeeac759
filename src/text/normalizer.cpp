#include "spectrace/text/normalizer.hpp"

#include <algorithm>
#include <vector>

#include "spectrace/text/byte_level.hpp"
#include "spectrace/text/limits.hpp"
#include "spectrace/text/regex.hpp"
#include "spectrace/text/unicode.hpp"
#include "spectrace/text/utf8.hpp"
#include "unsupported.hpp"

namespace spectrace::text {
namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalizationForm form) : form_(form) {}
  void apply(NormalizedText& text) const override {
    std::string result = normalize(text.text, form_);
    std::size_t origin_bytes = 0;
    if (text.origin_bytes > 0) {
      const std::string first = normalize(std::string_view(text.text).substr(0, text.origin_bytes), form_);
      // If what follows composed with it, the first character that came out stands for both.
      origin_bytes = result.starts_with(first) ? first.size() : decode_at(result, 0).size_bytes;
    }
    text.replace(std::move(result), origin_bytes);
  }

 private:
  NormalizationForm form_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(NormalizedText& text) const override {
    if (text.text.empty()) return;
    text.expect_room(prefix_.size() + text.text.size());
    text.text.insert(0, prefix_);
    if (text.origin_bytes > 0) text.origin_bytes += prefix_.size();
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(NormalizedText& text) const override {
    if (text.text.empty()) return;
    const std::vector<Span> spans = pattern_.find_spans(text.text, text.effort);
    std::size_t size = 0, origin_bytes = 0;
    for (const Span& span : spans) size += span.is_match ? content_.size() : span.end - span.begin;
    text.expect_room(size);
    std::string result;
    result.reserve(size);
    for (const Span& span : spans) {
      if (span.is_match) {
        result += content_;
        if (span.end <= text.origin_bytes) origin_bytes += content_.size();
      } else {
        result.append(text.text, span.begin, span.end - span.begin);
        if (span.begin < text.origin_bytes) origin_bytes += std::min(span.end, text.origin_bytes) - span.begin;
      }
    }
    text.replace(std::move(result), origin_bytes);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result;
    result.reserve(text.text.size());
    std::size_t origin_bytes = 0;
    for (std::size_t i = 0; i < text.text.size();) {
      const auto [c, size] = decode_at(text.text, i);
      append_lowercase(result, c);
      i += size;
      if (i <= text.origin_bytes) origin_bytes = result.size();
    }
    text.replace(std::move(result), origin_bytes);
  }
};

enum class StripSides { none, left, right, both };

class Strip : public Normalizer {
 public:
  explicit Strip(StripSides sides) : sides_(sides) {}
  void apply(NormalizedText& text) const override {
    std::size_t begin = 0, end = text.text.size();
    if (sides_ == StripSides::left || sides_ == StripSides::both) {
      while (begin < end) {
        const auto [c, size] = decode_at(text.text, begin);
        if (!is_white_space(c)) break;
        begin += size;
      }
    }
    if (sides_ == StripSides::right || sides_ == StripSides::both) {
      while (begin < end) {
        const auto [c, size] = decode_before(text.text, end);
        if (!is_white_space(c)) break;
        end -= size;
      }
    }
    text.replace(text.text.substr(begin, end - begin), std::min(end, std::max(begin, text.origin_bytes)) - begin);
  }

 private:
  StripSides sides_;
};

class StripAccents : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result;
    result.reserve(text.text.size());
    std::size_t origin_bytes = 0;
    for (std::size_t i = 0; i < text.text.size();) {
      const auto [c, size] = decode_at(text.text, i);
      if (!is_combining_mark(c)) result.append(text.text, i, size);
      i += size;
      if (i <= text.origin_bytes) origin_bytes = result.size();
    }
    text.replace(std::move(result), origin_bytes);
  }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string result, origin;
    append_byte_level(result, text.text);
    append_byte_level(origin, std::string_view(text.text).substr(0, text.origin_bytes));
    text.replace(std::move(result), origin.size());
  }
  bool is_byte_level() const override { return true; }
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<const Normalizer>> parts) : parts_(std::move(parts)) {}
  void apply(NormalizedText& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }
  bool is_byte_level() const override {
    return std::any_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->is_byte_level(); });
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

StripSides read_sides(const JsonNode& node) {
  const bool left = node.at("strip_left").as_bool(), right = node.at("strip_right").as_bool();
  if (left) return right ? StripSides::both : StripSides::left;
  return right ? StripSides::right : StripSides::none;
}

/// `num_steps` counts those read so far.
std::unique_ptr<const Normalizer> read_normalizer_step(const JsonNode& node, std::size_t& num_steps) {
  if (++num_steps > kMaxSteps) throw too_many_steps(node, "normalizers");
  const std::string& type = node.at("type").as_string();
  if (type == "Sequence") {
    node.expect_only_keys({"type", "normalizers"});
    std::vector<std::unique_ptr<const Normalizer>> parts;
    node.at("normalizers").for_each([&](const JsonNode& part) {
      parts.push_back(read_normalizer_step(part, num_steps));
    });
    return std::make_unique<NormalizerSequence>(std::move(parts));
  }
  if (type == "Prepend") {
    node.expect_only_keys({"type", "prepend"});
    return std::make_unique<Prepend>(node.at("prepend").as_string());
  }
  if (type == "Replace") {
    node.expect_only_keys({"type", "pattern", "content"});
    return std::make_unique<Replace>(Pattern::read(node.at("pattern")), node.at("content").as_string());
  }
  if (type == "Strip") {
    node.expect_only_keys({"type", "strip_left", "strip_right"});
    return std::make_unique<Strip>(read_sides(node));
  }
  std::unique_ptr<const Normalizer> plain;
  if (type == "NFC") plain = std::make_unique<UnicodeForm>(NormalizationForm::nfc);
  if (type == "NFD") plain = std::make_unique<UnicodeForm>(NormalizationForm::nfd);
  if (type == "NFKC") plain = std::make_unique<UnicodeForm>(NormalizationForm::nfkc);
  if (type == "NFKD") plain = std::make_unique<UnicodeForm>(NormalizationForm::nfkd);
  if (type == "Lowercase") plain = std::make_unique<Lowercase>();
  if (type == "StripAccents") plain = std::make_unique<StripAccents>();
  if (type == "ByteLevel") plain = std::make_unique<ByteLevelNormalizer>();
  if (plain) {
    node.expect_only_keys({"type"});
    return plain;
  }
  throw unsupported_part(node, "normalizer", type,
                         {"NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Lowercase", "Strip", "StripAccents",
                          "ByteLevel", "Sequence"});
}

}  // namespace

void NormalizedText::replace(std::string new_text, std::size_t new_origin_bytes) {
  expect_room(new_text.size());
  text = std::move(new_text);
  origin_bytes = new_origin_bytes;
}

void NormalizedText::expect_room(std::size_t size) const {
  if (size > max_bytes) throw grows_too_long();
}

std::unique_ptr<const Normalizer> read_normalizer(const JsonNode& node) {
  std::size_t num_steps = 0;
  return read_normalizer_step(node, num_steps);
}

}  // namespace spectrace::text
