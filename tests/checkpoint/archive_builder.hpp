#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spectrace {

/// A zip archive built field by field, so that each can be wrong. Numbers are little-endian.
struct ArchiveBuilder {
  struct Record {
    std::string name, content;
    std::uint16_t method = 0, flags = 0;
    std::string padding = {};     ///< extra field of the local header
    std::string local_name = {};  ///< if another one than `name`
    std::int64_t size_lie = 0;    ///< added to both sizes in the directory
    std::int64_t packed_lie = 0;  ///< added to the packed size in the directory
    std::int64_t offset_lie = 0;  ///< added to the header's place in the directory
  };

  std::vector<Record> records;
  bool zip64 = false;
  std::int64_t directory_offset_lie = 0, directory_size_lie = 0, count_lie = 0;
  std::string comment = {};

  static std::string number(std::uint64_t value, int size) {
    std::string bytes;
    for (int i = 0; i < size; ++i) bytes += static_cast<char>(i < 8 ? value >> (8 * i) & 0xff : 0);
    return bytes;
  }

  std::string build() const {
    std::string data, directory;
    for (const auto& record : records) {
      const auto size = static_cast<std::uint64_t>(static_cast<std::int64_t>(record.content.size()) + record.size_lie);
      const auto packed = size + static_cast<std::uint64_t>(record.packed_lie);
      const auto offset = static_cast<std::uint64_t>(static_cast<std::int64_t>(data.size()) + record.offset_lie);
      const std::string& local_name = record.local_name.empty() ? record.name : record.local_name;
      const std::string head = number(20, 2) + number(record.flags, 2) + number(record.method, 2) + number(0, 8);
      data += number(0x04034b50, 4) + head + number(packed, 4) + number(size, 4) + number(local_name.size(), 2) +
              number(record.padding.size(), 2) + local_name + record.padding + record.content;
      const std::string wide = number(1, 2) + number(24, 2) + number(size, 8) + number(packed, 8) + number(offset, 8);
      const std::string extra = zip64 ? wide : "";
      directory += number(0x02014b50, 4) + number(20, 2) + head + field(packed) + field(size) +
                   number(record.name.size(), 2) + number(extra.size(), 2) + number(0, 10) + field(offset) +
                   record.name + extra;
    }
    const auto at = static_cast<std::uint64_t>(static_cast<std::int64_t>(data.size()) + directory_offset_lie);
    const auto size = static_cast<std::uint64_t>(static_cast<std::int64_t>(directory.size()) + directory_size_lie);
    const auto count = static_cast<std::uint64_t>(static_cast<std::int64_t>(records.size()) + count_lie);
    std::string end;
    if (zip64)
      end = number(0x06064b50, 4) + number(44, 8) + number(45, 2) + number(45, 2) + number(0, 8) + number(count, 8) +
            number(count, 8) + number(size, 8) + number(at, 8) + number(0x07064b50, 4) + number(0, 4) +
            number(data.size() + directory.size(), 8) + number(1, 4);
    end += number(0x06054b50, 4) + number(0, 4) + number(zip64 ? 0xffff : count, 2) +
           number(zip64 ? 0xffff : count, 2) + field(size) + field(at) + number(comment.size(), 2) + comment;
    return data + directory + end;
  }

 private:
  std::string field(std::uint64_t value) const { return number(zip64 ? 0xffffffff : value, 4); }
};

}  // namespace spectrace
