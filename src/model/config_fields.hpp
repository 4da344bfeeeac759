#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// config.json as an adapter reads it. Remembers which fields were read, so that `expect_understood` can name those
/// that would change the mathematics and that nobody looked at. Several names mean one field (the first present
/// counts).
class ConfigFields {
 public:
  using Names = std::initializer_list<const char*>;

  ConfigFields(const JsonNode& config, std::string family) : config_(config), family_(std::move(family)) {}

  const std::string& family() const { return family_; }
  const JsonNode& json() const { return config_; }

  /// A count that must be there and be at least 1. @throws InputError naming the field.
  std::int64_t size(Names names);
  /// A count, at least 1, or `otherwise` where the field is absent.
  std::int64_t size_or(Names names, std::int64_t otherwise);
  bool flag(const char* name, bool otherwise);
  double number(const char* name, double otherwise);
  std::string text(Names names, const std::string& otherwise);
  std::optional<JsonNode> find(const char* name);
  /// There, and null: not the same as absent, where the family's default is not "none".
  bool is_null(const char* name);
  /// A positive number; nothing where the field is null; `otherwise` where it is absent.
  std::optional<double> optional_number(const char* name, std::optional<double> otherwise);

  /// The activation that the field names. @throws InputError listing those known.
  Activation activation(Names names, const std::string& otherwise);
  /// An epsilon: positive and below 1.
  double epsilon(const char* name, double otherwise);
  /// Heads and key/value heads that divide as they must. @throws InputError.
  void check_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const char* kv_field) const;
  /// head_dim where D / H must be whole. @throws InputError.
  std::int64_t divided_head_dim(std::int64_t hidden_size, std::int64_t num_heads) const;
  /// True for "sliding_attention", per layer, from the field layer_types. @throws InputError on another word or length.
  std::optional<std::vector<bool>> sliding_layers(std::int64_t num_layers);

  /// @throws InputError if the flag is set: a switch of the mathematics that this family's adapter does not have.
  void refuse_if_set(const char* name, const std::string& why);
  /// @throws InputError naming every field that was not read and is known to change the mathematics in some family.
  /// Fields that the family's own config class does not have are without effect there, and so are ignored.
  void expect_understood() const;

 private:
  const JsonNode config_;
  const std::string family_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace spectrace
