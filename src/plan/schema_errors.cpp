#include <algorithm>
#include <regex>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/text/limits.hpp"

namespace spectrace {
namespace {

/// Valijson's context ("<root>", "[compute]", "[dtype]") as the keys of a path.
std::vector<std::string> path_of(const std::vector<std::string>& context) {
  std::vector<std::string> path;
  for (const auto& part : context)
    if (part.size() >= 2 && part.front() == '[') path.push_back(part.substr(1, part.size() - 2));
  return path;
}

const Json* follow(const Json* document, const std::vector<std::string>& path) {
  for (const auto& key : path) {
    if (document->is_array()) {
      const std::size_t index = std::stoul(key);
      if (index >= document->size()) return nullptr;
      document = &(*document)[index];
    } else {
      const auto it = document->find(key);
      if (it == document->end()) return nullptr;
      document = &*it;
    }
  }
  return document;
}

const Json& resolve_reference(const Json& schema, const Json& root) {
  const auto it = schema.find("$ref");
  if (it == schema.end()) return schema;
  return root.at(Json::json_pointer(it->get<std::string>().substr(1)));
}

/// Of alternatives, the one that is meant for a value of this type.
const Json& choose_alternative(const Json& schema, const Json& value, const Json& root) {
  for (const char* key : {"oneOf", "anyOf"}) {
    const auto alternatives = schema.find(key);
    if (alternatives == schema.end()) continue;
    for (const auto& alternative : *alternatives) {
      const Json& candidate = resolve_reference(alternative, root);
      const auto type = candidate.find("type");
      if (type != candidate.end() && *type == (value.is_object() ? "object" : value.type_name())) return candidate;
    }
  }
  return schema;
}

/// The part of the schema that governs the value at the path; nullptr where alternatives leave it open.
const Json* schema_at(const Json& root, const Json& document, const std::vector<std::string>& path) {
  const Json* schema = &root;
  const Json* value = &document;
  for (const auto& key : path) {
    schema = &choose_alternative(resolve_reference(*schema, root), *value, root);
    value = follow(value, {key});
    if (value == nullptr) return nullptr;
    const auto properties = schema->find("properties");
    if (properties != schema->end() && properties->contains(key)) {
      schema = &properties->at(key);
    } else if (schema->contains("items")) {
      schema = &schema->at("items");
    } else if (schema->contains("additionalProperties") && schema->at("additionalProperties").is_object()) {
      schema = &schema->at("additionalProperties");
    } else {
      return nullptr;
    }
  }
  return &choose_alternative(resolve_reference(*schema, root), *value, root);
}

std::string as_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::vector<std::string> as_texts(const Json& values) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(as_text(value));
  return texts;
}

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

std::string allowed_by(const Json& schema, const Json& root) {
  std::vector<std::string> parts;
  for (const char* key : {"oneOf", "anyOf"}) {
    if (!schema.contains(key)) continue;
    std::vector<std::string> alternatives;
    for (const auto& alternative : schema.at(key))
      alternatives.push_back(allowed_by(resolve_reference(alternative, root), root));
    std::erase(alternatives, "");
    if (!alternatives.empty()) parts.push_back(join(alternatives, "; or "));
  }
  if (schema.contains("enum")) parts.push_back("allowed: " + quoted_list(as_texts(schema.at("enum"))));
  if (schema.contains("const")) parts.push_back("'" + as_text(schema.at("const")) + "'");
  if (schema.contains("type")) {
    const Json& type = schema.at("type");
    parts.push_back("expected " + (type.is_array() ? join(as_texts(type), " or ") : as_text(type)));
  }
  if (schema.contains("items") && schema.at("items").is_object()) {
    const Json& items = resolve_reference(schema.at("items"), root);
    if (items.contains("enum")) parts.push_back("of " + quoted_list(as_texts(items.at("enum"))));
  }
  if (schema.contains("minimum")) parts.push_back("at least " + schema.at("minimum").dump());
  if (schema.contains("exclusiveMinimum")) parts.push_back("more than " + schema.at("exclusiveMinimum").dump());
  if (schema.contains("maximum")) parts.push_back("at most " + schema.at("maximum").dump());
  if (schema.contains("minItems")) parts.push_back("at least " + schema.at("minItems").dump() + " entries");
  if (schema.contains("minLength")) parts.push_back("not empty");
  if (schema.contains("pattern")) parts.push_back("of the form " + as_text(schema.at("pattern")));
  if (schema.contains("uniqueItems")) parts.push_back("each once");
  if (parts.empty() && schema.contains("description")) parts.push_back(as_text(schema.at("description")));
  return join(parts, ", ");
}

std::size_t num_characters(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// The text's first characters, whole ones.
std::string first_bytes(const std::string& text, std::size_t num_bytes) {
  if (text.size() <= num_bytes) return text;
  while (num_bytes > 0 && (static_cast<unsigned char>(text[num_bytes]) & 0xC0) == 0x80) --num_bytes;
  return text.substr(0, num_bytes);
}

/// Longer texts than any limit of the schema, shortened: a regular expression goes as deep as its text is long.
constexpr std::size_t kMaxValidatedBytes = 1000;

Json shorten(const Json& value) {
  if (value.is_string()) return first_bytes(value.get_ref<const std::string&>(), kMaxValidatedBytes);
  if (!value.is_structured()) return value;
  Json copy = value.is_array() ? Json::array() : Json::object();
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (value.is_array())
      copy.push_back(shorten(*it));
    else
      copy[it.key()] = shorten(*it);
  }
  return copy;
}

/// A text of the right form that only is too long: what to say of it; else nothing.
std::string too_long(const Json& value, const Json& schema) {
  if (!value.is_string() || !schema.contains("maxLength")) return {};
  const auto& text = value.get_ref<const std::string&>();
  const std::size_t length = num_characters(text);
  if (length <= schema.at("maxLength").get<std::size_t>()) return {};
  if (schema.contains("pattern") &&
      !std::regex_search(first_bytes(text, kMaxValidatedBytes), std::regex(as_text(schema.at("pattern")))))
    return {};
  return "is " + std::to_string(length) + " characters long (at most " + schema.at("maxLength").dump() + ")";
}

/// Of alternatives that are each a key, like prompts and path, a value has exactly one.
std::string wrong_number_of_keys(const Json& value, const Json& schema) {
  if (!schema.contains("oneOf")) return {};
  std::vector<std::string> keys, present;
  for (const auto& alternative : schema.at("oneOf")) {
    if (!alternative.contains("required")) return {};
    keys.push_back(as_text(alternative.at("required").front()));
    if (value.contains(keys.back())) present.push_back(keys.back());
  }
  if (present.size() == 1) return {};
  const auto quote = [](std::vector<std::string> names) {
    for (auto& name : names) name = "'" + name + "'";
    return names;
  };
  if (present.empty()) return "has neither " + join(quote(keys), " nor ");
  return "has both " + join(quote(present), " and ") + " (it is one of them) Take one of the two out.";
}

struct Explanation {
  std::vector<std::string> lines;
  bool of_keys = false;  ///< unknown, missing, too many: worth saying beside what is wrong further inside
};

/// Which keys of an object are wrong.
std::vector<std::string> explain_keys(const std::string& place, const Json& value, const Json& schema) {
  std::vector<std::string> lines;
  const Json& properties = schema.at("properties");
  for (auto it = value.begin(); it != value.end(); ++it)
    if (!properties.contains(it.key())) {
      std::vector<std::string> names;
      for (auto known = properties.begin(); known != properties.end(); ++known) names.push_back(known.key());
      const std::string near = did_you_mean(it.key(), names);
      lines.push_back(place + ": unknown key '" + text::shown(it.key()) + "' (allowed here: " + quoted_list(names) +
                      ")" + (near.empty() ? "" : " " + near));
    }
  if (schema.contains("required"))
    for (const auto& key : schema.at("required"))
      if (!value.contains(as_text(key))) lines.push_back(place + ": the key '" + as_text(key) + "' is missing");
  if (const auto wrong = wrong_number_of_keys(value, schema); !wrong.empty()) lines.push_back(place + ": " + wrong);
  return lines;
}

/// What is wrong with the value at one place, in the words of a person rather than of a validator.
Explanation explain(const std::string& place, const Json* value, const Json* schema, const Json& root) {
  if (value == nullptr || schema == nullptr) return {};
  if (value->is_object() && schema->contains("properties"))
    if (auto lines = explain_keys(place, *value, *schema); !lines.empty()) return {std::move(lines), true};
  if (const auto length = too_long(*value, *schema); !length.empty()) return {{place + ": " + length}};
  std::string shown = value->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = first_bytes(shown, 57) + "...";
  const std::string allowed = allowed_by(*schema, root);
  std::string near;
  if (value->is_string() && schema->contains("enum"))
    near = did_you_mean(value->get_ref<const std::string&>(), as_texts(schema->at("enum")));
  return {{place + ": is " + shown + (allowed.empty() ? "" : " (" + allowed + ")") + (near.empty() ? "" : " " + near)}};
}

}  // namespace

std::vector<std::string> schema_errors(const JsonNode& job) {
  const Json& schema_json = job_schema();
  valijson::Schema schema;
  valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), schema);
  valijson::ValidationResults results;
  valijson::Validator validator;
  const Json document = shorten(job.json());
  if (validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(document), &results)) return {};

  // Valijson reports every enclosing value of a wrong one as well. The deepest places say it all.
  std::vector<std::vector<std::string>> places;
  valijson::ValidationResults::Error error;
  while (results.popError(error)) places.push_back(path_of(error.context));
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());

  std::vector<std::string> lines;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& path = places[i];
    const bool encloses_next = i + 1 < places.size() && places[i + 1].size() > path.size() &&
                               std::equal(path.begin(), path.end(), places[i + 1].begin());
    std::string place;
    for (const auto& key : path) place += "/" + text::shown(key);
    const Explanation found = explain(place.empty() ? "/" : place, follow(&job.json(), path),
                                      schema_at(schema_json, job.json(), path), schema_json);
    if (!encloses_next || found.of_keys) lines.insert(lines.end(), found.lines.begin(), found.lines.end());
  }
  if (lines.empty()) lines.push_back("/: does not follow the schema of job files");
  return lines;
}

}  // namespace spectrace
