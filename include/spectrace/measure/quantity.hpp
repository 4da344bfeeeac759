#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace spectrace {

/// What lies along a dimension: numbers or names.
using Coordinate = std::variant<std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;
std::int64_t size_of(const Coordinate& coordinate);
/// 0, 1, …
Coordinate counted(std::int64_t size);

/// What a dimension of the results is.
struct DimensionInfo {
  std::string name;
  std::string meaning = {};
  std::string units = "1";
};

/// A dimension of one model's results.
struct DimensionValues {
  DimensionInfo info;
  Coordinate values;
};

/// How many values lie along each dimension, by its name.
using Extents = std::map<std::string, std::int64_t>;

/// Which prompts' values of a quantity a results file holds, beside its statistics, where the job says nothing of it.
enum class Keep {
  as_a_rule,   ///< unless the job keeps statistics alone
  if_asked,    ///< it makes files many times larger
  never_rows,  ///< it follows from another one: its statistics alone
  in_records,  ///< no file has it, nor statistics: numbers of the whole set are made of it
};

/// A value that follows from another quantity's, slot by slot.
struct Derivation {
  std::string from = {};  ///< the other one's name; empty: it is measured
  double (*value)(double of_other, double last_coordinate) = nullptr;
};

/// One dataset of the results: what it is, and how it is made. Everything else that has to know of a quantity reads it
/// here: file, statistics, job schema, memory, docs, `describe`, the Python tables.
struct Quantity {
  std::string name = {};
  std::vector<std::string> dims = {};  ///< in the file: layer first, or prompt first; empty: a scalar
  std::string optional_dim = {};       ///< one of them that only some models' results have: `expert`
  std::string units = "1";             ///< "1": a pure number
  std::string meaning = {};            ///< one line; the dataset's long_name
  std::string formula = {};            ///< in the notation of docs/quantities.md
  std::string function = {};           ///< what computes it, a name of a public header
  std::string source = {};             ///< the paper that defines it, if one does

  // Of prompts' quantities:
  bool has_statistics = true;
  Keep keep = Keep::as_a_rule;
  std::string option = {};  ///< of the analysis' section in the job: only computed where it is true
  Derivation derived = {};
  /// Why a slot that is not finite makes its prompt fail ("W_V is too large for …"); empty: it need not be finite.
  std::string must_be_finite = {};
};

/// Whether a file may hold single prompts' values of it.
inline bool can_be_kept(const Quantity& quantity) {
  return quantity.keep == Keep::as_a_rule || quantity.keep == Keep::if_asked;
}
/// The dimensions that it has where these are there: without the optional one, if that is not.
std::vector<std::string> dims_of(const Quantity& quantity, const Extents& extents);
/// Sizes along them, without the first one if it is `without`.
/// @pre `extents` has all others.
std::vector<std::int64_t> shape_of(const Quantity& quantity, const Extents& extents, const std::string& without = {});
/// Their product.
std::int64_t num_values(const Quantity& quantity, const Extents& extents, const std::string& without = {});

}  // namespace spectrace
