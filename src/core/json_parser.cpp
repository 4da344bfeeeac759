#include "json_parser.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

#include "spectrace/core/foreign_memory.hpp"

namespace spectrace {
namespace {

/// Reads characters and leaves behind how far the parser has come: its events do not say.
struct TrackedIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  const char** reached;

  reference operator*() const { return *at; }
  TrackedIterator& operator++() {
    *reached = ++at;
    return *this;
  }
  TrackedIterator operator++(int) {
    TrackedIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TrackedIterator& other) const { return at == other.at; }
  bool operator!=(const TrackedIterator& other) const { return at != other.at; }
};

/// nlohmann's text without its heads "[json.exception.parse_error.101] " and "parse error at line 1, column 2: ".
std::string plain_reason(std::string text) {
  if (const auto bracket = text.find("] "); text.starts_with("[") && bracket != std::string::npos)
    text.erase(0, bracket + 2);
  if (const auto colon = text.find(": "); text.starts_with("parse error") && colon != std::string::npos)
    text.erase(0, colon + 2);
  return text;
}

struct Position {
  std::size_t line, column;  // from 1
};

Position position_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line_start = before.rfind('\n') + 1;  // npos + 1 is the first byte
  return {1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')), offset - line_start + 1};
}

/// Builds the value from the parser's events. The library's own builder knows no depth, takes a key that comes twice
/// in silence, and its callback that could tell costs a walk over the parents at every event.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::string& document, ErrorKind kind, DuplicateKeys duplicates)
      : text_(text), document_(document), kind_(kind), duplicates_(duplicates), reached_(text.data()) {}

  Json build() {
    const TrackedIterator begin{text_.data(), &reached_}, end{text_.data() + text_.size(), &reached_};
    Json::sax_parse(begin, end, this, Json::input_format_t::json, /*strict=*/true, /*ignore_comments=*/true);
    return std::move(root_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override {
    take_memory(kTextBytes + text_bytes(value));
    return add(std::move(value));
  }
  bool binary(binary_t&) override { return false; }  // not in JSON text
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    take_memory(kMemberBytes + text_bytes(name));
    const auto [member, is_new] = open_.back().container->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!is_new && duplicates_ == DuplicateKeys::refused) fail_twice(name);
    open_.back().member = &member->second;
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    if (error.id == 406)  // a number that no double holds
      throw InputError(kind_, document_ + ": cannot be read as JSON", plain_reason(error.what()));
    const std::size_t offset = byte == 0 ? 0 : std::min(byte - 1, text_.size());
    const Position at = position_of(text_, offset);
    throw InputError(kind_,
                     document_ + ": is not JSON at line " + std::to_string(at.line) + ", column " +
                         std::to_string(at.column) + ", byte " + std::to_string(offset),
                     plain_reason(error.what()), "Correct that place in the file.");
  }

 private:
  struct Level {
    Json* container;
    std::string key;         // of an object: the member under way
    Json* member = nullptr;  // of an object: its value
  };

  /// What the value takes beside the text, with what the allocator adds: an element with its share of a list that grows
  /// by doubling and is moved then; a member with its node; a text or container that lies by itself.
  static constexpr std::int64_t kElementBytes = 48, kMemberBytes = 96, kTextBytes = 48, kContainerBytes = 64;

  /// Short texts lie in the object.
  static std::int64_t text_bytes(const std::string& text) {
    return text.size() < 16 ? 0 : static_cast<std::int64_t>(text.size()) + 32;
  }

  void take_memory(std::int64_t bytes) {
    num_bytes_ += bytes;
    if (num_bytes_ > most_bytes_)
      throw InputError(
          kind_,
          document_ + ": takes more than " + std::to_string(most_bytes_ >> 20) +
              " MiB of memory when it is read, at line " + std::to_string(position_of(text_, offset()).line),
          "a file may take a third of what a rank may use", "Raise --max-memory, if it is the right file.");
  }

  template <typename T>
  Json* put(T&& value) {
    if (++num_values_ > kMostJsonValues)
      throw InputError(kind_,
                       document_ + ": holds more than " + std::to_string(kMostJsonValues) + " values at line " +
                           std::to_string(position_of(text_, offset()).line),
                       "no file that is meant seriously has as many", "Is it the right file?");
    take_memory(kElementBytes);
    if (open_.empty()) {
      root_ = std::forward<T>(value);
      return &root_;
    }
    if (open_.back().container->is_array()) {
      auto& elements = open_.back().container->template get_ref<Json::array_t&>();
      return &elements.emplace_back(std::forward<T>(value));
    }
    *open_.back().member = std::forward<T>(value);
    return open_.back().member;
  }

  template <typename T>
  bool add(T&& value) {
    put(std::forward<T>(value));
    return true;
  }

  bool open(Json&& container) {
    take_memory(kContainerBytes);
    if (open_.size() == kMaxJsonDepth)
      throw InputError(kind_,
                       document_ + ": is nested deeper than " + std::to_string(kMaxJsonDepth) + " levels at line " +
                           std::to_string(position_of(text_, offset()).line),
                       "no file that is meant seriously goes as deep", "Is it the right file?");
    open_.push_back({put(std::move(container)), {}, nullptr});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t offset() const {
    return std::min(static_cast<std::size_t>(std::max<std::ptrdiff_t>(reached_ - text_.data(), 1) - 1), text_.size());
  }

  [[noreturn]] void fail_twice(const std::string& name) const {
    std::string place;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i)
      place += "/" + (open_[i].container->is_array() ? std::to_string(open_[i].container->size() - 1) : open_[i].key);
    throw InputError(kind_,
                     document_ + ": " + (place.empty() ? "" : place + ": ") + "the key '" + name + "' is there twice",
                     "again at line " + std::to_string(position_of(text_, offset()).line), "Keep one of the two.");
  }

  std::string_view text_;
  const std::string& document_;
  ErrorKind kind_;
  DuplicateKeys duplicates_;
  const char* reached_;
  std::size_t num_values_ = 0;
  std::int64_t num_bytes_ = 0;
  const std::int64_t most_bytes_ = foreign_document_bytes();
  Json root_;
  std::vector<Level> open_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& document, ErrorKind kind, DuplicateKeys duplicates) {
  return Builder(text, document, kind, duplicates).build();
}

}  // namespace spectrace
