#include "spectrace/results/digests.hpp"

#include "spectrace/checkpoint/tensor_digests.hpp"
#include "spectrace/core/hash.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {

void Digests::add(const std::vector<std::string>& names, const std::vector<std::string>& digests) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto [place, is_new] = digests_.try_emplace(names[i], digests[i]);
    if (!is_new && place->second != digests[i]) others_.insert(names[i]);
  }
}

void Digests::add(const ResultTree& earlier) {
  const Group* group = earlier.find(kCheckpointGroup);
  if (group == nullptr) return;
  add(std::get<std::vector<std::string>>(group->find_dimension(kTensor)->values),
      std::get<std::vector<std::string>>(group->find(kDigest)->values));
}

Group Digests::group() const {
  std::vector<std::string> names, values;
  for (const auto& [name, digest] : digests_) {
    names.push_back(name);
    values.push_back(digest);
  }
  Group group;
  group.path = kCheckpointGroup;
  group.dimensions.push_back(common_dimension(kTensor, std::move(names)));
  group.datasets.push_back(dataset_of(digest_quantity(), std::move(values)));
  return group;
}

std::string Digests::sha256() const {
  std::string all;
  for (const auto& [name, digest] : digests_) all += digest_lines(name, digest);
  return sha256_hex(all);
}

}  // namespace spectrace
