#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spectrace/core/error.hpp"

namespace spectrace {

/// A JSON value to be built and printed. For reading what users give, JsonNode: it knows where it stands.
using Json = nlohmann::json;

/// Arrays and objects inside each other, at most, in a document that is read.
inline constexpr std::size_t kMaxJsonDepth = 64;
/// Bytes of a file that is read as JSON, and values in a document (keys apart), at most: a value takes up to 160 bytes
/// of memory. The largest tokenizer.json has 40 million bytes and two million values.
inline constexpr std::uint64_t kMostJsonBytes = std::uint64_t{256} << 20;
inline constexpr std::size_t kMostJsonValues = 5'000'000;

/// What an object that has a key twice is: wrong, or, as the hub's own readers take it, one whose last value counts.
enum class DuplicateKeys { refused, last_counts };

/// Bytes of any kind (a path) as text that JSON can hold, and back: each byte is the character of its number.
std::string text_of_bytes(std::string_view bytes);
/// @throws InputError (io) if a character has no byte.
std::string bytes_of_text(std::string_view text);

/// A value inside a parsed JSON document. Cheap to copy; keeps its document alive. Every accessor that finds something
/// else than it expects throws an InputError that names the document, the place ("/compute/dtype") and what is allowed.
class JsonNode {
 public:
  /// Parses a file. Comments are allowed. @throws InputError (io) if unreadable, (kind) if larger than kMostJsonBytes,
  /// or with the line if it is not JSON, nested deeper than kMaxJsonDepth, of more than kMostJsonValues, or has a key
  /// twice where that is refused.
  static JsonNode parse_file(const std::filesystem::path& path, ErrorKind kind,
                             DuplicateKeys duplicates = DuplicateKeys::last_counts);
  /// Parses text; `document` is what errors call it.
  static JsonNode parse_text(std::string_view text, std::string document, ErrorKind kind,
                             DuplicateKeys duplicates = DuplicateKeys::last_counts);

  /// A document that is there already.
  static JsonNode of(Json root, std::string document, ErrorKind kind);
  /// The document's root; leaves nothing in it. @pre nobody else has a node of the document.
  Json release() &&;

  const std::string& document() const;
  /// JSON pointer of this value, "" for the root. Searched for when asked: costs a walk over the document.
  std::string place() const;
  const Json& json() const { return *value_; }

  bool is_null() const { return value_->is_null(); }
  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }
  bool is_string() const { return value_->is_string(); }
  bool is_bool() const { return value_->is_boolean(); }
  bool is_number() const { return value_->is_number(); }
  bool is_integer() const { return value_->is_number_integer(); }

  bool as_bool() const;
  std::int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;

  /// Member of an object; a member that is null counts as absent.
  std::optional<JsonNode> find(std::string_view key) const;
  /// Member of an object. @throws InputError if absent or null.
  JsonNode at(std::string_view key) const;
  bool has(std::string_view key) const { return find(key).has_value(); }

  bool get_bool(std::string_view key, bool otherwise) const;
  std::int64_t get_int(std::string_view key, std::int64_t otherwise) const;
  double get_double(std::string_view key, double otherwise) const;
  std::string get_string(std::string_view key, std::string otherwise) const;

  std::size_t size() const { return value_->size(); }
  JsonNode element(std::size_t index) const;
  /// Calls f(node) for each element of an array, f(key, node) for each member of an object (in the order of the keys).
  void for_each(const std::function<void(const JsonNode&)>& f) const;
  void for_each_member(const std::function<void(const std::string&, const JsonNode&)>& f) const;
  std::vector<std::string> keys() const;

  /// @throws InputError naming the first key that is not among `allowed`, with what is allowed.
  void expect_only_keys(std::initializer_list<std::string_view> allowed) const;

  /// An error about this value: "document: /place: problem (why) suggestion".
  InputError error(const std::string& problem, std::string why = {}, std::string suggestion = {}) const;

 private:
  struct Document {
    std::string name;
    ErrorKind kind;
    Json root;
  };
  JsonNode(std::shared_ptr<const Document> document, const Json* value)
      : document_(std::move(document)), value_(value) {}
  [[noreturn]] void wrong_type(const char* expected) const;

  std::shared_ptr<const Document> document_;
  const Json* value_;
};

}  // namespace spectrace
