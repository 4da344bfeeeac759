#include "fuzz/target.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/store/journal.hpp"

// A journal file, with whatever records are whole; and the bytes behind the checksums, as if these were right.
std::string spectrace::fuzz::take(std::string_view bytes) {
  set_log(LogLevel::off, 0);
  return take_file(bytes, "rank-00000.journal", [&](const std::filesystem::path& path) {
    std::uint64_t taken = 0;
    for (const auto& [key, entry] : read_journal_index(path.parent_path())) {
      const Record record = read_journal_record(entry);
      taken += entry.size_bytes;
    }
    for (auto place = bytes.find("SPCREC"); place != std::string_view::npos; place = bytes.find("SPCREC", place + 1)) {
      try {
        decode_record(std::as_bytes(std::span(bytes.substr(place))));
      } catch (const std::runtime_error&) {
        continue;  // what decode_record says of bytes that are no record
      }
    }
    if (taken != bytes.size()) throw InputError(ErrorKind::io, "not all of it is whole");
  });
}
