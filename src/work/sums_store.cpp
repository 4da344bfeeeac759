#include "spectrace/work/sums_store.hpp"

#include <utility>

namespace spectrace {

bool SumsStore::add(std::size_t model, const SumsShape& shape, std::int64_t most_bytes,
                    const std::function<void(BatchSums&)>& add) {
  std::unique_lock lock(mutex_);
  auto place = own_.find(model);
  if (place == own_.end()) {
    std::int64_t bytes = sums_bytes(shape);
    for (const auto& [other, taken] : bytes_) bytes += taken;
    if (bytes > most_bytes) return false;
    bytes_[model] = sums_bytes(shape);
    place = own_.emplace(model, BatchSums(shape)).first;
  }
  // The other thread, which must never wait long, asks for other models alone meanwhile.
  lock.unlock();
  add(place->second);
  return true;
}

ReducedSums SumsStore::wait_for(std::size_t model) {
  std::unique_lock lock(mutex_);
  delivered_.wait(lock, [&] { return of_all_.contains(model); });
  return std::move(of_all_.extract(model).mapped());
}

std::optional<BatchSums> SumsStore::take(std::size_t model) {
  const std::lock_guard lock(mutex_);
  bytes_.erase(model);
  auto taken = own_.extract(model);
  if (taken.empty()) return std::nullopt;
  return std::move(taken.mapped());
}

void SumsStore::deliver(std::size_t model, ReducedSums sums) {
  {
    const std::lock_guard lock(mutex_);
    of_all_.insert_or_assign(model, std::move(sums));
  }
  delivered_.notify_all();
}

}  // namespace spectrace
