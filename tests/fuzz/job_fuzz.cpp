#include "fuzz/target.hpp"
#include "spectrace/plan/job.hpp"

std::string spectrace::fuzz::take(std::string_view bytes) {
  return take_file(bytes, "job.json",
                   [](const std::filesystem::path& path) { parse_resolved_job(resolve_job(read_job(path))); });
}
