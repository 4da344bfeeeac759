#include <algorithm>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "spectrace/plan/job.hpp"

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
    } else {
      return nullptr;
    }
  }
  return &choose_alternative(resolve_reference(*schema, root), *value, root);
}

std::string allowed_by(const Json& schema) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (schema.contains("enum")) {
    std::vector<std::string> names;
    for (const auto& value : schema.at("enum"))
      names.push_back(value.is_string() ? value.get<std::string>() : value.dump());
    add("allowed: " + quoted_list(names));
  }
  if (schema.contains("type"))
    add("expected " +
        (schema.at("type").is_string() ? schema.at("type").get<std::string>() : schema.at("type").dump()));
  if (schema.contains("minimum")) add("at least " + schema.at("minimum").dump());
  if (schema.contains("exclusiveMinimum")) add("more than " + schema.at("exclusiveMinimum").dump());
  if (schema.contains("maximum")) add("at most " + schema.at("maximum").dump());
  if (schema.contains("minItems")) add("at least " + schema.at("minItems").dump() + " entries");
  if (schema.contains("minLength")) add("not empty");
  if (schema.contains("pattern")) add("of the form " + schema.at("pattern").get<std::string>());
  if (schema.contains("uniqueItems")) add("each once");
  if (text.empty() && schema.contains("description")) add(schema.at("description").get<std::string>());
  return text;
}

/// What is wrong with the value at one place, in the words of a person rather than of a validator.
std::vector<std::string> explain(const std::string& place, const Json* value, const Json* schema) {
  std::vector<std::string> lines;
  if (value == nullptr || schema == nullptr) return lines;
  if (value->is_object() && schema->contains("properties")) {
    const Json& properties = schema->at("properties");
    for (auto it = value->begin(); it != value->end(); ++it)
      if (!properties.contains(it.key())) {
        std::vector<std::string> names;
        for (auto known = properties.begin(); known != properties.end(); ++known) names.push_back(known.key());
        lines.push_back(place + ": unknown key '" + it.key() + "' (allowed here: " + quoted_list(names) + ")");
      }
    if (schema->contains("required"))
      for (const auto& key : schema->at("required"))
        if (!value->contains(key.get<std::string>()))
          lines.push_back(place + ": the key '" + key.get<std::string>() + "' is missing");
    if (!lines.empty()) return lines;
  }
  std::string shown = value->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
  const std::string allowed = allowed_by(*schema);
  lines.push_back(place + ": is " + shown + (allowed.empty() ? "" : " (" + allowed + ")"));
  return lines;
}

}  // namespace

std::vector<std::string> schema_errors(const JsonNode& job) {
  const Json schema_json = Json::parse(job_schema());
  valijson::Schema schema;
  valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), schema);
  valijson::ValidationResults results;
  valijson::Validator validator;
  if (validator.validate(schema, valijson::adapters::NlohmannJsonAdapter(job.json()), &results)) return {};

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
    for (const auto& key : path) place += "/" + key;
    auto explained =
        explain(place.empty() ? "/" : place, follow(&job.json(), path), schema_at(schema_json, job.json(), path));
    // An enclosing value is worth a line of its own only for keys: unknown or missing.
    if (encloses_next)
      std::erase_if(explained, [](const std::string& line) {
        return line.find(": unknown key") == std::string::npos && line.find("is missing") == std::string::npos;
      });
    lines.insert(lines.end(), explained.begin(), explained.end());
  }
  if (lines.empty()) lines.push_back("/: does not follow the schema of job files");
  return lines;
}

}  // namespace spectrace
