#include "spectrace/checkpoint/zip_archive.hpp"

#include <gtest/gtest.h>

#include "archive_builder.hpp"
#include "expect_input_error.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

class ZipArchive : public testing::Test {
 protected:
  ZipArchive() { builder_.records = {{.name = "x/one", .content = "first"}, {.name = "x/two", .content = "second"}}; }

  std::vector<ZipRecord> read() {
    write_bytes(path_, builder_.build());
    return read_zip_directory(FileReader(path_));
  }

  void expect_refused(const std::string& part, const std::string& other_part = {}) {
    expect_input_error(ErrorKind::model, {part, other_part, path_.string()}, [&] { read(); });
  }

  void expect_both_records() {
    builder_.records[1].padding = std::string(57, 'Z');
    const auto records = read();
    ASSERT_EQ(records.size(), 2u);
    const FileReader file(path_);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(records[i].name, builder_.records[i].name);
      std::string content(records[i].size_bytes, '\0');
      file.read_at(records[i].offset, std::as_writable_bytes(std::span(content)));
      EXPECT_EQ(content, builder_.records[i].content);
    }
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "pytorch_model.bin";
  ArchiveBuilder builder_;
};

TEST_F(ZipArchive, records_behind_their_padding) { expect_both_records(); }

TEST_F(ZipArchive, zip64_records) {
  builder_.zip64 = true;
  expect_both_records();
}

TEST_F(ZipArchive, comment_with_an_end_signature_inside) {
  builder_.comment = "a comment PK\5\6 that lies";
  expect_both_records();
}

TEST_F(ZipArchive, refuses_compressed_and_encrypted_records) {
  builder_.records[1].method = 8;
  expect_refused("'x/two' is deflated", "save it again");
  builder_.records[1].method = 12;
  expect_refused("'x/two' is compressed", "12");
  builder_.records[1].method = 0;
  builder_.records[1].flags = 1;
  expect_refused("'x/two' is encrypted");
}

TEST_F(ZipArchive, refuses_records_outside_the_data) {
  builder_.records[1].size_lie = 1;
  expect_refused("'x/two' runs past the end");
  builder_.records[1].size_lie = 0;
  builder_.records[1].offset_lie = 1'000'000;
  expect_refused("'x/two' starts outside");
  builder_.records[1].offset_lie = 1;
  expect_refused("'x/two' has no header");
}

TEST_F(ZipArchive, refuses_sizes_that_overflow) {
  builder_.zip64 = true;
  builder_.records[1].size_lie = -7;  // 2^64 - 1
  expect_refused("'x/two' runs past the end");
  builder_.records[1].size_lie = 0;
  builder_.records[1].offset_lie = -1'000'000;
  expect_refused("'x/two' starts outside");
}

TEST_F(ZipArchive, refuses_overlap) {
  builder_.records[0].size_lie = 1;
  expect_refused("'x/one' and 'x/two' overlap");
}

TEST_F(ZipArchive, refuses_the_same_record_twice) {
  builder_.records[1].name = "x/one";
  expect_refused("'x/one' is twice");
}

TEST_F(ZipArchive, refuses_headers_that_differ) {
  builder_.records[0].local_name = "x/uno";
  expect_refused("'x/one'", "differ");
  builder_.records[0].local_name.clear();
  builder_.records[0].packed_lie = -1;
  expect_refused("'x/one' is stored, but its two sizes differ", "4 and 5");
}

TEST_F(ZipArchive, refuses_a_directory_outside_the_file) {
  for (const bool zip64 : {false, true}) {
    builder_.zip64 = zip64;
    builder_.directory_offset_lie = 1;
    expect_refused("directory is outside the file");
    builder_.directory_offset_lie = 0;
    builder_.directory_size_lie = 1'000'000;
    expect_refused("directory is outside the file");
    builder_.directory_size_lie = -1;
    expect_refused("record 1 of its zip directory is damaged");
    builder_.directory_size_lie = 0;
    builder_.count_lie = 1;
    expect_refused("zip directory");
    builder_.count_lie = zip64 ? 1'000'000'000'000 : 60000;
    expect_refused("zip directory is damaged");
    builder_.count_lie = 0;
  }
}

TEST_F(ZipArchive, many_records_and_long_names) {
  builder_.records.clear();
  for (int i = 0; i < 20'000; ++i)
    builder_.records.push_back({.name = std::string(300, 'n') + std::to_string(i), .content = "x"});
  builder_.zip64 = true;
  EXPECT_EQ(read().size(), 20'000u);
}

TEST_F(ZipArchive, refuses_every_truncation) {
  const std::string whole = builder_.build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(path_, whole.substr(0, size));
    expect_input_error(ErrorKind::model, {path_.string(), "cut short"}, [&] { read_zip_directory(FileReader(path_)); });
  }
}

}  // namespace
}  // namespace spectrace
