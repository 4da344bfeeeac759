#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/core/json.hpp"
#include "spectrace/model/description.hpp"

namespace spectrace {

/// Positions of a context or a window, at most: what no model meets.
inline constexpr std::int64_t kMostPositions = std::int64_t{1} << 40;

class TensorStore;  // adapters only pass it on: without its header, and so libtorch's, they compile in a second

/// A number that values are multiplied by or divided by. @throws InputError naming its place unless it is positive and
/// in float32 neither 0 nor infinite.
double as_scale(const JsonNode& value);
/// The member of an object as one; `otherwise` where it is absent.
double as_scale_or(const JsonNode& object, const char* key, double otherwise);
/// Whether a field's value leaves the mathematics as it is: null, false, 0, 1 (a multiplier), empty, "absolute".
bool is_off(const JsonNode& value);
/// Whether a number could be one, for those that follow from several fields.
bool is_scale(double value);

/// config.json as an adapter reads it. Remembers which fields were read, so that `expect_understood` can name those
/// that would change the mathematics and that nobody looked at. Several names mean one field (the first present
/// counts). What memory and loops are sized by is held against the checkpoint's tensors when it is read, and has limits
/// that no model meets (docs/manual.md, "Limits").
class ConfigFields {
 public:
  using Names = std::initializer_list<const char*>;

  ConfigFields(const JsonNode& config, const TensorStore& store, std::string family);
  /// The config is that of the text part of a model of more than text. What the whole says of its head counts, if it
  /// says something; and a size that is absent has the default of the family's class, as the hub's files of such models
  /// count on. A config of a text model must have its sizes: with a default number of heads it would run, and wrongly.
  void set_part_of_whole(std::optional<bool> tied) {
    is_part_ = true;
    tied_of_whole_ = tied;
  }

  const std::string& family() const { return family_; }
  const JsonNode& json() const { return config_; }

  /// Layers: at most as many as the checkpoint has tensors. To be read first.
  /// `of_class`, here and below: what stands for an absent field of a text part; 0: nothing does.
  std::int64_t layers(Names names, std::int64_t of_class = 0);
  /// Heads, after the layers.
  std::int64_t heads(Names names, std::int64_t of_class = 0);
  /// The size of a head: the field, else `otherwise` unless that is 0, else what divided_head_dim says.
  std::int64_t head_dim(Names names, std::int64_t otherwise, std::int64_t hidden_size, std::int64_t num_heads);
  /// head_dim where D / H must be whole. @throws InputError.
  std::int64_t divided_head_dim(std::int64_t hidden_size, std::int64_t num_heads) const;
  /// The size of a dimension: must be there, be at least 1, and be no more than the largest dimension of the
  /// checkpoint's tensors. @throws InputError naming the field.
  std::int64_t size(Names names, std::int64_t of_class = 0);
  /// The same, or `otherwise` where the field is absent.
  std::int64_t size_or(Names names, std::int64_t otherwise);
  /// A number of positions, or of something else that no tensor has: at least 1.
  std::int64_t count(Names names);
  std::int64_t count_or(Names names, std::int64_t otherwise);
  /// Tokens of a sliding window; nothing where the field is null; `otherwise` where it is absent.
  std::optional<std::int64_t> window(const char* name, std::optional<std::int64_t> otherwise);
  bool flag(const char* name, bool otherwise);
  /// tie_word_embeddings: whether the head is the token table.
  bool tied(bool otherwise);
  double number(const char* name, double otherwise);
  /// A number that as_scale takes.
  double scale(const char* name, double otherwise);
  /// The same; nothing where the field is null; `otherwise` where it is absent.
  std::optional<double> optional_scale(const char* name, std::optional<double> otherwise);
  std::string text(Names names, const std::string& otherwise);
  std::optional<JsonNode> find(const char* name);
  /// There, and null: not the same as absent, where the family's default is not "none".
  bool is_null(const char* name);

  /// The activation that the field names. @throws InputError listing those known.
  Activation activation(Names names, const std::string& otherwise);
  /// An epsilon: a scale below 1.
  double epsilon(const char* name, double otherwise);
  /// Heads and key/value heads that divide as they must. @throws InputError.
  void check_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const char* kv_field) const;
  /// True for "sliding_attention", per layer, from the field layer_types. @throws InputError on another word or length.
  std::optional<std::vector<bool>> sliding_layers(std::int64_t num_layers);

  /// Says what is not followed, to whoever runs the model.
  void warn(std::string text) { warnings_.push_back(std::move(text)); }
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// What `tied` found; nothing as long as nobody asked.
  std::optional<bool> found_tied() const { return found_tied_; }

  /// @throws InputError if the flag is set: a switch of the mathematics that this family's adapter does not have.
  void refuse_if_set(const char* name, const std::string& why);
  /// @throws InputError naming every field that was not read and is known to change the mathematics in some family.
  /// Fields that the family's own config class does not have are without effect there, and so are ignored.
  void expect_understood() const;

 private:
  /// The first of the fields that is there. All count as read.
  std::optional<JsonNode> find_first(Names names);
  /// A field as a count from 1 to `most`. @throws InputError that names the field and says why no more: `limit`.
  std::optional<std::int64_t> find_count(Names names, std::int64_t most, const std::string& limit);
  std::int64_t required(Names names, const std::optional<std::int64_t>& found, std::int64_t of_class = 0) const;
  std::string dimension_limit() const;
  void check_head_dim(std::int64_t head_dim) const;

  const JsonNode config_;
  const std::string family_;
  std::int64_t num_tensors_ = 0, largest_dimension_ = 0;  ///< of the checkpoint
  std::int64_t num_layers_ = 0;                           ///< once read
  std::set<std::string, std::less<>> read_;
  bool is_part_ = false;
  std::optional<bool> tied_of_whole_;
  std::optional<bool> found_tied_;
  std::vector<std::string> warnings_;
};

}  // namespace spectrace
