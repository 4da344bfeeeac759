// Layout and names as in PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3.
#include "spectrace/checkpoint/zip_archive.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <span>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

constexpr std::uint32_t local_header_signature = 0x04034b50, central_header_signature = 0x02014b50;
constexpr std::uint32_t end_signature = 0x06054b50, end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr std::uint64_t local_header_size = 30, central_header_size = 46;
constexpr std::uint64_t end_size = 22, end64_size = 56, locator64_size = 20;
constexpr std::uint64_t max_comment_size = 65535;
constexpr std::uint64_t max_directory_size = 64u << 20;  // a million records: no checkpoint has them
constexpr std::uint16_t zip64_extra = 0x0001;
constexpr std::uint32_t saturated32 = 0xffffffff;  // "see the zip64 field"

InputError zip_error(const FileReader& file, const std::string& problem, std::string why = {}) {
  return InputError(ErrorKind::model, "'" + file.path().string() + "': " + problem, std::move(why),
                    "Copy or download the file again.");
}

/// A little-endian number at `at`. @pre it lies inside
template <typename T>
T get(std::span<const std::byte> bytes, std::size_t at) {
  SPECTRACE_ASSERT(at + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

std::vector<std::byte> read_bytes(const FileReader& file, std::uint64_t offset, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  file.read_at(offset, bytes);
  return bytes;
}

struct Directory {
  std::uint64_t offset = 0, size = 0, num_records = 0;
  std::uint64_t limit = 0;  ///< the directory must end here or before
};

/// The zip64 end record, if its locator stands before the end record at `end_offset`.
std::optional<Directory> read_end64(const FileReader& file, std::uint64_t end_offset) {
  if (end_offset < locator64_size) return std::nullopt;
  const auto locator = read_bytes(file, end_offset - locator64_size, locator64_size);
  if (get<std::uint32_t>(locator, 0) != locator64_signature) return std::nullopt;
  const auto offset = get<std::uint64_t>(locator, 8);
  const std::uint64_t limit = end_offset - locator64_size;
  if (limit < end64_size || offset > limit - end64_size)
    throw zip_error(file, "its zip64 end record is outside the file", "at byte " + std::to_string(offset));
  const auto record = read_bytes(file, offset, end64_size);
  if (get<std::uint32_t>(record, 0) != end64_signature)
    throw zip_error(file, "has no zip64 end record where its locator says", "at byte " + std::to_string(offset));
  if (get<std::uint32_t>(record, 16) != 0 || get<std::uint32_t>(record, 20) != 0)
    throw zip_error(file, "is one part of a zip archive of several");
  return Directory{.offset = get<std::uint64_t>(record, 48),
                   .size = get<std::uint64_t>(record, 40),
                   .num_records = get<std::uint64_t>(record, 32),
                   .limit = offset};
}

Directory find_directory(const FileReader& file) {
  const std::uint64_t tail_size = std::min(file.size_bytes(), end_size + max_comment_size);
  const auto tail = read_bytes(file, file.size_bytes() - tail_size, tail_size);
  for (std::uint64_t back = end_size; back <= tail_size; ++back) {
    const std::uint64_t at = tail_size - back;
    if (get<std::uint32_t>(tail, at) != end_signature || get<std::uint16_t>(tail, at + 20) != back - end_size) continue;
    const std::uint64_t end_offset = file.size_bytes() - back;
    auto directory = read_end64(file, end_offset);
    if (!directory)
      directory = Directory{.offset = get<std::uint32_t>(tail, at + 16),
                            .size = get<std::uint32_t>(tail, at + 12),
                            .num_records = get<std::uint16_t>(tail, at + 10),
                            .limit = end_offset};
    if (directory->size > directory->limit || directory->offset > directory->limit - directory->size)
      throw zip_error(file, "its zip directory is outside the file",
                      "bytes " + std::to_string(directory->offset) + " + " + std::to_string(directory->size) +
                          ", but the directory must end by byte " + std::to_string(directory->limit));
    if (directory->size > max_directory_size || directory->num_records > directory->size / central_header_size)
      throw zip_error(
          file, "its zip directory is damaged",
          std::to_string(directory->num_records) + " records in " + std::to_string(directory->size) + " bytes");
    return *directory;
  }
  throw zip_error(
      file, "is cut short",
      "the zip directory that ends the file is missing; found " + std::to_string(file.size_bytes()) + " bytes");
}

/// What a central header says of its record.
struct Entry {
  ZipRecord record;  // offset is not known before the local header is read
  std::uint64_t header_offset = 0, packed_size = 0;
  std::uint16_t flags = 0, method = 0;
};

/// Replaces saturated sizes and offset by the 64-bit ones of the zip64 extra field, where only those stand, in order.
void apply_zip64(const FileReader& file, std::span<const std::byte> extra, Entry& entry) {
  std::uint64_t* const fields[] = {&entry.record.size_bytes, &entry.packed_size, &entry.header_offset};
  std::size_t at = 0;
  while (at + 4 <= extra.size()) {
    const auto id = get<std::uint16_t>(extra, at);
    const std::size_t size = get<std::uint16_t>(extra, at + 2);
    at += 4;
    if (size > extra.size() - at) break;
    if (id == zip64_extra) {
      std::size_t used = 0;
      for (auto* field : fields) {
        if (*field != saturated32) continue;
        if (used + 8 > size) throw zip_error(file, "record '" + entry.record.name + "': its zip64 field is too short");
        *field = get<std::uint64_t>(extra, at + used);
        used += 8;
      }
      return;
    }
    at += size;
  }
}

std::vector<Entry> parse_directory(const FileReader& file, const Directory& directory) {
  const auto bytes = read_bytes(file, directory.offset, directory.size);
  const std::span<const std::byte> view(bytes);
  std::vector<Entry> entries;
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < directory.num_records; ++i) {
    const std::string where = "record " + std::to_string(i) + " of its zip directory";
    if (bytes.size() - at < central_header_size || get<std::uint32_t>(view, at) != central_header_signature)
      throw zip_error(file, where + " is damaged");
    const std::size_t name_size = get<std::uint16_t>(view, at + 28), extra_size = get<std::uint16_t>(view, at + 30);
    const std::size_t size = central_header_size + name_size + extra_size + get<std::uint16_t>(view, at + 32);
    if (size > bytes.size() - at) throw zip_error(file, where + " is damaged", "it runs past the directory's end");
    Entry entry;
    entry.record.name.assign(reinterpret_cast<const char*>(bytes.data()) + at + central_header_size, name_size);
    entry.flags = get<std::uint16_t>(view, at + 8);
    entry.method = get<std::uint16_t>(view, at + 10);
    entry.packed_size = get<std::uint32_t>(view, at + 20);
    entry.record.size_bytes = get<std::uint32_t>(view, at + 24);
    entry.header_offset = get<std::uint32_t>(view, at + 42);
    apply_zip64(file, view.subspan(at + central_header_size + name_size, extra_size), entry);
    entries.push_back(std::move(entry));
    at += size;
  }
  return entries;
}

void check_stored(const FileReader& file, const Entry& entry) {
  const std::string record = "record '" + entry.record.name + "'";
  if (entry.flags & 1) throw zip_error(file, record + " is encrypted");
  if (entry.method == 8)
    throw InputError(ErrorKind::model, "'" + file.path().string() + "': " + record + " is deflated",
                     "torch.save stores its records as they are: another program has packed this file",
                     "Load it in Python with torch.load(..., weights_only=True) and save it again.");
  if (entry.method != 0) throw zip_error(file, record + " is compressed", "zip method " + std::to_string(entry.method));
  if (entry.packed_size != entry.record.size_bytes)
    throw zip_error(file, record + " is stored, but its two sizes differ",
                    std::to_string(entry.packed_size) + " and " + std::to_string(entry.record.size_bytes));
}

/// Sets the record's offset: only the local header knows how long the padding before the data is.
void locate_data(const FileReader& file, const Directory& directory, Entry& entry) {
  const std::string record = "record '" + entry.record.name + "'";
  if (entry.header_offset > directory.offset || directory.offset - entry.header_offset < local_header_size)
    throw zip_error(file, record + " starts outside the archive's data",
                    "at byte " + std::to_string(entry.header_offset));
  const auto header = read_bytes(file, entry.header_offset, local_header_size);
  if (get<std::uint32_t>(header, 0) != local_header_signature)
    throw zip_error(file, record + " has no header where the directory says",
                    "at byte " + std::to_string(entry.header_offset));
  const std::uint64_t name_size = get<std::uint16_t>(header, 26), extra_size = get<std::uint16_t>(header, 28);
  entry.record.offset = entry.header_offset + local_header_size + name_size + extra_size;
  if (entry.record.offset > directory.offset || entry.record.size_bytes > directory.offset - entry.record.offset)
    throw zip_error(file, record + " runs past the end of the archive's data",
                    std::to_string(entry.record.size_bytes) + " bytes from byte " +
                        std::to_string(entry.record.offset) + ", but the data ends at byte " +
                        std::to_string(directory.offset));
  std::string name(name_size, '\0');
  file.read_at(entry.header_offset + local_header_size, std::as_writable_bytes(std::span(name)));
  if (name != entry.record.name || get<std::uint16_t>(header, 8) != entry.method)
    throw zip_error(file, record + ": its header and the zip directory differ");
}

}  // namespace

std::vector<ZipRecord> read_zip_directory(const FileReader& file) {
  const Directory directory = find_directory(file);
  auto entries = parse_directory(file, directory);
  std::set<std::string_view> names;
  for (auto& entry : entries) {
    if (!names.insert(entry.record.name).second)
      throw zip_error(file, "record '" + entry.record.name + "' is twice in its zip directory");
    check_stored(file, entry);
    locate_data(file, directory, entry);
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.header_offset < b.header_offset; });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const auto& before = entries[i - 1].record;
    if (before.offset + before.size_bytes > entries[i].header_offset)
      throw zip_error(file, "records '" + before.name + "' and '" + entries[i].record.name + "' overlap");
  }
  std::vector<ZipRecord> records;
  for (auto& entry : entries) records.push_back(std::move(entry.record));
  return records;
}

}  // namespace spectrace
