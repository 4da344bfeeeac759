#include "spectrace/core/foreign_memory.hpp"

#include <algorithm>
#include <atomic>

namespace spectrace {
namespace {

constexpr std::int64_t kLeastBytes = std::int64_t{64} << 20, kMostBytes = std::int64_t{1} << 30;
std::atomic<std::int64_t> document_bytes = kMostBytes;

}  // namespace

std::int64_t foreign_document_bytes() { return document_bytes.load(); }

void set_process_memory(std::int64_t bytes) { document_bytes = std::clamp(bytes / 3, kLeastBytes, kMostBytes); }

}  // namespace spectrace
