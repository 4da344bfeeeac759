#include "spectrace/store/diff.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "result_layout.hpp"

namespace spectrace {
namespace {

using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

/// How far apart two values are; nothing if they count as equal.
std::optional<double> distance(double a, double b, const DiffTolerance& tolerance) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return std::nullopt;
  // A tolerance relative to infinity would let anything pass.
  if (!std::isfinite(a) || !std::isfinite(b)) return std::numeric_limits<double>::infinity();
  const double apart = std::abs(a - b);
  return apart <= tolerance.atol + tolerance.rtol * std::abs(b) ? std::nullopt : std::optional(apart);
}

std::optional<double> distance(std::int64_t a, std::int64_t b, const DiffTolerance& tolerance) {
  if (a == b) return std::nullopt;
  const auto low = static_cast<std::uint64_t>(std::min(a, b)), high = static_cast<std::uint64_t>(std::max(a, b));
  const auto apart = static_cast<double>(high - low);
  return apart <= tolerance.atol + tolerance.rtol * std::abs(static_cast<double>(b)) ? std::nullopt
                                                                                     : std::optional(apart);
}

std::optional<double> distance(const std::string& a, const std::string& b, const DiffTolerance&) {
  return a == b ? std::nullopt : std::optional(1.0);  // the first that differs is as good as any
}

std::string as_text(double value) { return fmt::format("{}", value); }
std::string as_text(std::int64_t value) { return fmt::format("{}", value); }
std::string as_text(const std::string& value) {
  constexpr std::size_t most = 60;
  return "'" + (value.size() <= most ? value : value.substr(0, most) + "...") + "'";
}

/// Two texts that differ, each from shortly before the place where it begins (a job's text may be long).
std::string both(const std::string& a, const std::string& b) {
  const auto [in_a, in_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const auto place = static_cast<std::size_t>(in_a - a.begin());
  constexpr std::size_t context = 20;
  if (place <= context) return as_text(a) + " and " + as_text(b);
  return fmt::format("from byte {} on, {} and {}", place, as_text(a.substr(place - context)),
                     as_text(b.substr(place - context)));
}
template <typename T>
std::string both(const T& a, const T& b) {
  return as_text(a) + " and " + as_text(b);
}

/// "layer=2, matrix=W_V, index=5": an element of row-major values by its coordinates.
std::string coordinates_of(const Group& group, const std::vector<std::string>& dims, std::size_t element) {
  std::string place;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    const Dimension* dimension = group.find_dimension(dims[axis]);
    const std::size_t size = std::max<std::size_t>(dimension->size(), 1);
    const std::size_t index = element % size;
    element /= size;
    const auto coordinate =
        std::visit([&](const auto& values) { return fmt::format("{}", values[index]); }, dimension->values);
    place = dims[axis] + "=" + coordinate + (place.empty() ? "" : ", ") + place;
  }
  return place;
}

class TreeDiff {
 public:
  explicit TreeDiff(const DiffTolerance& tolerance) : tolerance_(tolerance) {}

  void compare_trees(const ResultTree& a, const ResultTree& b) {
    compare_attributes("/", a.attributes, b.attributes);
    match(
        a.groups, b.groups, [](const Group& group) { return group.path; },
        [&](const Group& in_a, const Group& in_b) { compare_groups(in_a, in_b); });
  }

  std::vector<std::string> lines;

 private:
  void say(const std::string& place, const std::string& what) { lines.push_back(place + ": " + what); }

  /// Calls compare for what both have under one name, says what only one has.
  template <typename Items, typename NameOf, typename Compare>
  void match(const Items& a, const Items& b, const NameOf& name_of, const Compare& compare) {
    const auto find = [&](const Items& items, const std::string& name) {
      return std::find_if(items.begin(), items.end(), [&](const auto& item) { return name_of(item) == name; });
    };
    for (const auto& item : a) {
      const auto other = find(b, name_of(item));
      if (other == b.end())
        say(name_of(item), "only in A");
      else
        compare(item, *other);
    }
    for (const auto& item : b)
      if (find(a, name_of(item)) == a.end()) say(name_of(item), "only in B");
  }

  void compare_attributes(const std::string& path, const Attributes& a, const Attributes& b) {
    using Attribute = Attributes::value_type;
    const auto name_of = [&](const Attribute& attribute) { return path + "@" + attribute.first; };
    const auto without_digest = [](Attributes attributes) {
      std::erase_if(attributes, [](const Attribute& attribute) { return attribute.first == kDigestAttribute; });
      return attributes;
    };
    match(without_digest(a), without_digest(b), name_of, [&](const Attribute& in_a, const Attribute& in_b) {
      if (in_a.second.index() != in_b.second.index())
        return say(name_of(in_a), "text, integer or number: not the same");
      std::visit(
          [&](const auto& value) {
            const auto& other = std::get<std::decay_t<decltype(value)>>(in_b.second);
            if (distance(value, other, tolerance_)) say(name_of(in_a), both(value, other));
          },
          in_a.second);
    });
  }

  void compare_groups(const Group& a, const Group& b) {
    const std::string folder = a.path == "/" ? "/" : a.path + "/";
    const auto name_of = [&](const auto& item) { return folder + item.name; };
    compare_attributes(folder, a.attributes, b.attributes);
    match(a.dimensions, b.dimensions, name_of, [&](const Dimension& in_a, const Dimension& in_b) {
      compare_texts(name_of(in_a), in_a, in_b);
      // A dimension's place is its index: its own values are what is compared.
      const auto place = [&](std::size_t i) { return in_a.name + "[" + std::to_string(i) + "]"; };
      compare_values(name_of(in_a), in_a.values, in_b.values, place);
    });
    match(a.datasets, b.datasets, name_of, [&](const Dataset& in_a, const Dataset& in_b) {
      compare_texts(name_of(in_a), in_a, in_b);
      if (!have_same_shape(a, in_a, b, in_b)) return;
      compare_values(name_of(in_a), in_a.values, in_b.values,
                     [&](std::size_t i) { return coordinates_of(a, in_a.dims, i); });
    });
  }

  template <typename T>
  void compare_texts(const std::string& name, const T& a, const T& b) {
    if (a.units != b.units) say(name + "@units", both(a.units, b.units));
    if (a.long_name != b.long_name) say(name + "@long_name", both(a.long_name, b.long_name));
  }

  bool have_same_shape(const Group& group_a, const Dataset& a, const Group& group_b, const Dataset& b) {
    const auto shape_of = [](const Group& group, const Dataset& dataset) {
      std::vector<std::string> sizes;
      for (const auto& name : dataset.dims)
        sizes.push_back(name + "=" + std::to_string(group.find_dimension(name)->size()));
      return fmt::format("({})", fmt::join(sizes, ", "));
    };
    const auto shape_a = shape_of(group_a, a), shape_b = shape_of(group_b, b);
    if (shape_a == shape_b) return true;
    say((group_a.path == "/" ? "" : group_a.path) + "/" + a.name, "shape " + shape_a + " and " + shape_b);
    return false;
  }

  template <typename... Lists, typename PlaceOf>
  void compare_values(const std::string& name, const std::variant<Lists...>& a, const std::variant<Lists...>& b,
                      const PlaceOf& place) {
    if (a.index() != b.index()) return say(name, "texts, integers or numbers: not the same");
    std::visit(
        [&](const auto& values) { compare_lists(name, values, std::get<std::decay_t<decltype(values)>>(b), place); },
        a);
  }

  template <typename T, typename PlaceOf>
  void compare_lists(const std::string& name, const std::vector<T>& a, const std::vector<T>& b, const PlaceOf& place) {
    if (a.size() != b.size()) return say(name, fmt::format("{} and {} values", a.size(), b.size()));
    std::size_t num_different = 0, worst = 0;
    double largest = -1.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto apart = distance(a[i], b[i], tolerance_);
      if (!apart) continue;
      ++num_different;
      if (*apart > largest) {
        largest = *apart;
        worst = i;
      }
    }
    if (num_different == 0) return;
    const std::string where = place(worst);
    std::string line = fmt::format("{} of {} values differ, ", num_different, a.size());
    if constexpr (std::is_same_v<T, std::string>)
      line += "the first";
    else
      line += fmt::format("largest |a-b| = {:.3g}", largest);
    if (!where.empty()) line += " at " + where;
    say(name, line + ": " + both(a[worst], b[worst]));
  }

  const DiffTolerance& tolerance_;
};

}  // namespace

std::vector<std::string> diff_trees(const ResultTree& a, const ResultTree& b, const DiffTolerance& tolerance) {
  TreeDiff diff(tolerance);
  diff.compare_trees(a, b);
  return std::move(diff.lines);
}

}  // namespace spectrace
