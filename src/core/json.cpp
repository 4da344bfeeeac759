#include "spectrace/core/json.hpp"

#include <algorithm>
#include <cmath>

#include "json_parser.hpp"
#include "spectrace/core/file.hpp"

namespace spectrace {
namespace {

bool find_place(const Json& root, const Json* wanted, std::string& place) {
  if (&root == wanted) return true;
  const std::size_t length = place.size();
  if (root.is_object()) {
    for (auto it = root.begin(); it != root.end(); ++it) {
      place += "/" + it.key();
      if (find_place(it.value(), wanted, place)) return true;
      place.resize(length);
    }
  } else if (root.is_array()) {
    for (std::size_t i = 0; i < root.size(); ++i) {
      place += "/" + std::to_string(i);
      if (find_place(root[i], wanted, place)) return true;
      place.resize(length);
    }
  }
  return false;
}

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= 80) return text;
  std::size_t end = 77;
  while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

}  // namespace

std::string text_of_bytes(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xC0 | byte >> 6);
      text += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  return text;
}

std::string bytes_of_text(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) {
      bytes += text[i];
    } else {
      if ((byte & 0xFC) != 0xC0 || i + 1 == text.size())
        throw InputError(ErrorKind::io, "'" + std::string(text) + "' does not stand for bytes",
                         "it holds characters above U+00FF");
      const auto next = static_cast<unsigned char>(text[++i]);
      bytes += static_cast<char>((byte & 0x03) << 6 | (next & 0x3F));
    }
  }
  return bytes;
}

JsonNode JsonNode::parse_file(const std::filesystem::path& path, ErrorKind kind, DuplicateKeys duplicates) {
  return parse_text(read_text_file(path, kMostJsonBytes, kind), path.string(), kind, duplicates);
}

JsonNode JsonNode::parse_text(std::string_view text, std::string document, ErrorKind kind, DuplicateKeys duplicates) {
  Json value = parse_json(text, document, kind, duplicates);
  auto parsed = std::make_shared<const Document>(Document{std::move(document), kind, std::move(value)});
  const Json* root = &parsed->root;
  return JsonNode(std::move(parsed), root);
}

JsonNode JsonNode::of(Json root, std::string document, ErrorKind kind) {
  const auto made = std::make_shared<const Document>(Document{std::move(document), kind, std::move(root)});
  return {made, &made->root};
}

Json JsonNode::release() && {
  SPECTRACE_ASSERT(document_.use_count() == 1 && value_ == &document_->root);
  return std::move(std::const_pointer_cast<Document>(document_)->root);
}

const std::string& JsonNode::document() const { return document_->name; }

std::string JsonNode::place() const {
  std::string place;
  find_place(document_->root, value_, place);
  return place;
}

InputError JsonNode::error(const std::string& problem, std::string why, std::string suggestion) const {
  const std::string at = place();
  return InputError(document_->kind, document_->name + ": " + (at.empty() ? "" : at + ": ") + problem, std::move(why),
                    std::move(suggestion));
}

void JsonNode::wrong_type(const char* expected) const {
  throw error("is " + shown(*value_) + ", expected " + expected);
}

bool JsonNode::as_bool() const {
  if (!value_->is_boolean()) wrong_type("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::as_int() const {
  if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX}) wrong_type("an integer");
  if (value_->is_number_integer()) return value_->get<std::int64_t>();
  if (value_->is_number_float()) {
    const double number = value_->get<double>();  // "512.0" is an integer to the hub's config readers too
    if (std::trunc(number) == number && std::abs(number) < 9e15) return static_cast<std::int64_t>(number);
  }
  wrong_type("an integer");
}

double JsonNode::as_double() const {
  if (!value_->is_number()) wrong_type("a number");
  return value_->get<double>();
}

const std::string& JsonNode::as_string() const {
  if (!value_->is_string()) wrong_type("a text");
  return value_->get_ref<const std::string&>();
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) wrong_type("an object");
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return JsonNode(document_, &*it);
}

JsonNode JsonNode::at(std::string_view key) const {
  auto node = find(key);
  if (!node) throw error("the key '" + std::string(key) + "' is missing");
  return *node;
}

bool JsonNode::get_bool(std::string_view key, bool otherwise) const {
  const auto node = find(key);
  return node ? node->as_bool() : otherwise;
}

std::int64_t JsonNode::get_int(std::string_view key, std::int64_t otherwise) const {
  const auto node = find(key);
  return node ? node->as_int() : otherwise;
}

double JsonNode::get_double(std::string_view key, double otherwise) const {
  const auto node = find(key);
  return node ? node->as_double() : otherwise;
}

std::string JsonNode::get_string(std::string_view key, std::string otherwise) const {
  const auto node = find(key);
  return node ? node->as_string() : otherwise;
}

JsonNode JsonNode::element(std::size_t index) const {
  if (!value_->is_array()) wrong_type("an array");
  if (index >= value_->size()) throw error("has no element " + std::to_string(index));
  return JsonNode(document_, &(*value_)[index]);
}

void JsonNode::for_each(const std::function<void(const JsonNode&)>& f) const {
  if (!value_->is_array()) wrong_type("an array");
  for (const auto& element : *value_) f(JsonNode(document_, &element));
}

void JsonNode::for_each_member(const std::function<void(const std::string&, const JsonNode&)>& f) const {
  if (!value_->is_object()) wrong_type("an object");
  for (auto it = value_->begin(); it != value_->end(); ++it) f(it.key(), JsonNode(document_, &it.value()));
}

std::vector<std::string> JsonNode::keys() const {
  std::vector<std::string> names;
  for_each_member([&](const std::string& key, const JsonNode&) { names.push_back(key); });
  return names;
}

void JsonNode::expect_only_keys(std::initializer_list<std::string_view> allowed) const {
  for (const auto& key : keys())
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end())
      throw error("unknown key '" + key + "'", "allowed here: " + quoted_list(allowed));
}

}  // namespace spectrace
