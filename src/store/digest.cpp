#include "digest.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "result_layout.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/store/result_file.hpp"
#include "storable_text.hpp"

// What content_sha256 is taken over: every thing of the tree in the order of its name, each as a word for its kind
// followed by its parts. A text is its number of bytes and its UTF-8, a list its type's letter, its number of elements
// and the elements; numbers are 8 bytes, little-endian. So the digest depends neither on HDF5 nor on the order of
// writing:
//   "attribute" name value                                      root's, then each group's, by name
//   "group" path                                                by path
//   "dimension" name units long_name values                     of the group, by name
//   "dataset" name units long_name dims digest                  of the group, by name
// An attribute's value is a list of one element. The letters are "f" (float64), "i" (int64), "t" (text). A dataset's
// digest is the text of the SHA-256, in hexadecimal, of the list of its values: datasets can be written one beside the
// other, each in rows. tests/store/check_open.py does the same in Python.

namespace spectrace {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are hashed as they lie in memory");

class TreeHasher {
 public:
  void add_text(const std::string& text) {
    const std::string stored = storable_text(text);
    add_count(stored.size());
    sha_.update(std::string_view(stored));
  }
  void add(const std::vector<double>& values) { add_numbers("f", values); }
  void add(const std::vector<std::int64_t>& values) { add_numbers("i", values); }
  void add(const std::vector<std::string>& values) {
    sha_.update(std::string_view("t"));
    add_count(values.size());
    for (const auto& value : values) add_text(value);
  }
  template <typename... Lists>
  void add(const std::variant<Lists...>& values) {
    std::visit([this](const auto& list) { add(list); }, values);
  }
  void add(const AttributeValue& value) {
    std::visit([this](const auto& v) { add(std::vector{v}); }, value);
  }
  std::string hex_digest() { return sha_.hex_digest(); }
  /// A list of numbers whose elements come later.
  void start_numbers(std::uint64_t count) {
    sha_.update(std::string_view("f"));
    add_count(count);
  }
  void add_bytes(std::span<const std::byte> bytes) { sha_.update(bytes); }

 private:
  void add_count(std::uint64_t count) { sha_.update(std::as_bytes(std::span(&count, 1))); }
  template <typename T>
  void add_numbers(std::string_view letter, const std::vector<T>& values) {
    sha_.update(letter);
    add_count(values.size());
    sha_.update(std::as_bytes(std::span(values)));
  }
  Sha256 sha_;
};

/// Pointers to the items, by name.
template <typename Items, typename NameOf>
auto sorted(const Items& items, const NameOf& name_of) {
  std::vector<const typename Items::value_type*> pointers;
  for (const auto& item : items) pointers.push_back(&item);
  std::sort(pointers.begin(), pointers.end(), [&](auto a, auto b) { return name_of(*a) < name_of(*b); });
  return pointers;
}

void add_attributes(TreeHasher& hasher, const std::vector<std::pair<std::string, AttributeValue>>& attributes) {
  for (const auto* attribute : sorted(attributes, [](const auto& a) { return a.first; })) {
    if (attribute->first == "content_sha256") continue;
    hasher.add_text("attribute");
    hasher.add_text(attribute->first);
    hasher.add(attribute->second);
  }
}

}  // namespace

struct NumbersDigest::State {
  TreeHasher hasher;
};

NumbersDigest::NumbersDigest(std::uint64_t count) : state_(std::make_unique<State>()) {
  state_->hasher.start_numbers(count);
}
NumbersDigest::~NumbersDigest() = default;
NumbersDigest::NumbersDigest(NumbersDigest&&) noexcept = default;
NumbersDigest& NumbersDigest::operator=(NumbersDigest&&) noexcept = default;
void NumbersDigest::add(std::span<const double> values) { state_->hasher.add_bytes(std::as_bytes(values)); }
std::string NumbersDigest::hex_digest() { return state_->hasher.hex_digest(); }

std::string digest_values(const DatasetValues& values) {
  TreeHasher hasher;
  hasher.add(values);
  return hasher.hex_digest();
}

std::string digest_tree(const ResultTree& tree,
                        const std::function<std::string(const Group&, const Dataset&)>& digest_of) {
  const auto name_of = [](const auto& item) { return item.name; };
  TreeHasher hasher;
  add_attributes(hasher, tree.attributes);
  for (const Group* group : sorted(tree.groups, [](const Group& g) { return g.path; })) {
    hasher.add_text("group");
    hasher.add_text(group->path);
    add_attributes(hasher, group->attributes);
    for (const Dimension* dimension : sorted(group->dimensions, name_of)) {
      hasher.add_text("dimension");
      hasher.add_text(dimension->name);
      hasher.add_text(dimension->units);
      hasher.add_text(dimension->long_name);
      hasher.add(dimension->values);
    }
    for (const Dataset* dataset : sorted(group->datasets, name_of)) {
      hasher.add_text("dataset");
      hasher.add_text(dataset->name);
      hasher.add_text(dataset->units);
      hasher.add_text(dataset->long_name);
      hasher.add(dataset->dims);
      hasher.add_text(digest_of(*group, *dataset));
    }
  }
  return hasher.hex_digest();
}

std::string digest_tree(const ResultTree& tree) {
  return digest_tree(tree, [](const Group&, const Dataset& dataset) {
    if (dataset.in_rows) throw std::logic_error("the values of " + dataset.name + " are not in memory");
    return digest_values(dataset.values);
  });
}

}  // namespace spectrace
