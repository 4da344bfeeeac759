#include "spectrace/store/result_tree.hpp"

#include <algorithm>

namespace spectrace {
namespace {

template <typename Items, typename IsIt>
auto find_in(const Items& items, const IsIt& is_it) -> decltype(items.data()) {
  const auto found = std::find_if(items.begin(), items.end(), is_it);
  return found == items.end() ? nullptr : &*found;
}

}  // namespace

std::size_t Dimension::size() const {
  return std::visit([](const auto& v) { return v.size(); }, values);
}

const Dataset* Group::find(const std::string& wanted) const {
  return find_in(datasets, [&](const Dataset& dataset) { return dataset.name == wanted; });
}

const Dimension* Group::find_dimension(const std::string& wanted) const {
  return find_in(dimensions, [&](const Dimension& dimension) { return dimension.name == wanted; });
}

const Group* ResultTree::find(const std::string& path) const {
  return find_in(groups, [&](const Group& group) { return group.path == path; });
}

const AttributeValue* ResultTree::find_attribute(const std::string& name) const {
  const auto* found = find_in(attributes, [&](const auto& attribute) { return attribute.first == name; });
  return found == nullptr ? nullptr : &found->second;
}

}  // namespace spectrace
