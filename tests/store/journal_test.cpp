#include "spectrace/store/journal.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <thread>

#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/log.hpp"
#include "support/file_size_limit.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// A record that tells which it is.
Record record_of(int number) {
  Record record;
  record.arrays["values"] = {{2}, {number + 0.5, -number * 1.0}};
  record.texts["name"] = {"unit " + std::to_string(number)};
  return record;
}

int number_of(const Record& record) { return static_cast<int>(record.arrays.at("values").values[0] - 0.5); }

std::filesystem::path only_file(const std::filesystem::path& folder) {
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  return std::filesystem::directory_iterator(folder)->path();
}

/// No warnings on the screen from the many damaged files that tests make.
class journal : public testing::Test {
 protected:
  void SetUp() override { set_log(LogLevel::error, 0); }
  void TearDown() override { set_log(LogLevel::info, 0); }
};

TEST_F(journal, records_are_found_again_by_key) {
  const TempFolder folder;
  JournalEntry second;
  {
    JournalWriter writer(folder.path() / "journal", 3);
    writer.append("a", record_of(1));
    second = writer.append("b", record_of(2));
    writer.append("", record_of(3));
  }
  const auto index = read_journal_index(folder.path() / "journal");
  ASSERT_EQ(index.size(), 3u);
  EXPECT_EQ(number_of(read_journal_record(index.at("a"))), 1);
  EXPECT_EQ(number_of(read_journal_record(index.at(""))), 3);
  EXPECT_EQ(index.at("b").offset, second.offset);
  EXPECT_EQ(encode_record(read_journal_record(second)), encode_record(record_of(2)));
}

TEST_F(journal, absent_folder_holds_none_and_foreign_files_are_ignored) {
  const TempFolder folder;
  EXPECT_TRUE(read_journal_index(folder.path() / "absent").empty());
  write_bytes(folder.path() / "notes.txt", "not a journal");
  EXPECT_TRUE(read_journal_index(folder.path()).empty());
}

TEST_F(journal, every_start_and_rank_has_its_own_file) {
  const TempFolder folder;
  for (int start = 0; start < 3; ++start)
    for (int rank = 0; rank < 3; ++rank)
      JournalWriter(folder.path(), rank).append(std::to_string(start) + std::to_string(rank), record_of(start));
  std::set<std::string> names;
  for (const auto& place : std::filesystem::directory_iterator(folder.path())) names.insert(place.path().filename());
  ASSERT_EQ(names.size(), 9u);
  EXPECT_TRUE(names.begin()->starts_with("rank-00000-")) << *names.begin();
  EXPECT_TRUE(names.rbegin()->starts_with("rank-00002-")) << *names.rbegin();
  EXPECT_EQ(read_journal_index(folder.path()).size(), 9u);
}

TEST_F(journal, first_of_several_records_with_one_key_counts) {
  const TempFolder folder;
  JournalWriter first(folder.path(), 0);
  JournalWriter second(folder.path(), 0);  // a later start: its file's name comes later
  first.append("other", record_of(0));
  second.append("key", record_of(3));
  first.append("key", record_of(1));
  first.append("key", record_of(2));
  EXPECT_EQ(number_of(read_journal_record(read_journal_index(folder.path()).at("key"))), 1);
}

TEST_F(journal, a_failure_counts_only_until_the_unit_is_done) {
  const TempFolder folder;
  Record failure;
  failure.error = "a value is not finite";
  JournalWriter writer(folder.path(), 0);
  writer.append("a", failure);
  writer.append("b", record_of(1));
  writer.append("a", record_of(2));
  writer.append("b", failure);
  writer.append("c", failure);
  const auto index = read_journal_index(folder.path());
  EXPECT_FALSE(index.at("a").failed);
  EXPECT_EQ(number_of(read_journal_record(index.at("a"))), 2);
  EXPECT_EQ(number_of(read_journal_record(index.at("b"))), 1);
  EXPECT_TRUE(index.at("c").failed);
  EXPECT_EQ(read_journal_record(index.at("c")).error, failure.error);
}

// Who reads each record anyway need not read all of them twice.
TEST_F(journal, headers_alone_tell_where_records_lie) {
  const TempFolder folder;
  JournalEntry second;
  {
    JournalWriter writer(folder.path(), 0);
    writer.append("a", record_of(1));
    second = writer.append("b", record_of(2));
    writer.append("c", record_of(3));
  }
  const auto whole = read_journal_index(folder.path());
  const auto by_headers = read_journal_index(folder.path(), {}, JournalCheck::headers);
  ASSERT_EQ(by_headers.size(), 3u);
  for (const auto& [key, entry] : whole) {
    EXPECT_EQ(by_headers.at(key).offset, entry.offset);
    EXPECT_EQ(by_headers.at(key).size_bytes, entry.size_bytes);
  }
  // What is damaged shows when it is read.
  const auto path = only_file(folder.path());
  std::string bytes = read_text_file(path);
  bytes[second.offset + second.size_bytes - 1] ^= 1;
  write_bytes(path, bytes);
  EXPECT_EQ(read_journal_index(folder.path()).size(), 1u);
  const auto damaged = read_journal_index(folder.path(), {}, JournalCheck::headers);
  ASSERT_EQ(damaged.size(), 3u);
  EXPECT_THROW(read_journal_record(damaged.at("b")), InputError);
  EXPECT_EQ(number_of(read_journal_record(damaged.at("c"))), 3);
  // A record that is cut short is none.
  write_bytes(path, bytes.substr(0, bytes.size() - 1));
  EXPECT_EQ(read_journal_index(folder.path(), {}, JournalCheck::headers).size(), 2u);
}

TEST_F(journal, a_writer_without_records_leaves_no_trace) {
  const TempFolder folder;
  {
    JournalWriter writer(folder.path() / "journal", 0);
    writer.flush();
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "journal"));
}

// A kill leaves any part of the last record.
TEST_F(journal, a_cut_at_any_byte_costs_the_last_record_only) {
  const TempFolder folder;
  JournalEntry last;
  {
    JournalWriter writer(folder.path(), 0);
    for (int i = 0; i < 3; ++i) last = writer.append("unit " + std::to_string(i), record_of(i));
  }
  const auto path = only_file(folder.path());
  const std::string whole = read_text_file(path);
  ASSERT_EQ(whole.size(), last.offset + last.size_bytes);
  for (std::size_t size = last.offset; size < whole.size(); ++size) {
    write_bytes(path, whole.substr(0, size));
    const auto index = read_journal_index(folder.path());
    ASSERT_EQ(index.size(), 2u) << "cut at " << size;
    for (int i = 0; i < 2; ++i)
      EXPECT_EQ(number_of(read_journal_record(index.at("unit " + std::to_string(i)))), i) << "cut at " << size;
    EXPECT_THROW(read_journal_record(last), InputError);
  }
}

TEST_F(journal, a_flipped_bit_in_any_byte_is_detected) {
  const TempFolder folder;
  JournalEntry first, second;
  {
    JournalWriter writer(folder.path(), 0);
    first = writer.append("first", record_of(1));
    second = writer.append("second", record_of(2));
    writer.append("third", record_of(3));
  }
  const auto path = only_file(folder.path());
  const std::string whole = read_text_file(path);
  for (std::size_t place = second.offset; place < second.offset + second.size_bytes; ++place) {
    std::string changed = whole;
    changed[place] = static_cast<char>(changed[place] ^ (1 << place % 8));
    write_bytes(path, changed);
    // Nothing behind the damage is trusted: its length may be what was damaged.
    const auto index = read_journal_index(folder.path());
    ASSERT_EQ(index.size(), 1u) << "byte " << place;
    ASSERT_EQ(number_of(read_journal_record(index.at("first"))), 1);
    ASSERT_THROW(read_journal_record(second), InputError) << "byte " << place;
  }
}

TEST_F(journal, damage_in_one_file_leaves_the_others) {
  const TempFolder folder;
  JournalWriter(folder.path(), 0).append("lost", record_of(0));
  write_bytes(only_file(folder.path()), "rubbish that is longer than a record's header is");
  JournalWriter(folder.path(), 1).append("kept", record_of(1));
  set_log(LogLevel::warning, 0);
  testing::internal::CaptureStderr();
  const auto index = read_journal_index(folder.path());
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(index.size(), 1u);
  EXPECT_TRUE(index.contains("kept"));
  EXPECT_NE(log.find("rank-00000"), std::string::npos) << log;
  EXPECT_NE(log.find("no record begins here"), std::string::npos) << log;
}

TEST_F(journal, a_full_disk_is_an_error_and_later_records_are_still_found) {
  const TempFolder folder;
  JournalWriter writer(folder.path(), 0);
  writer.append("small", record_of(1));
  Record large;
  large.arrays["values"] = Array::filled_with_nan({100'000});
  {
    const test::FileSizeLimit limit(20'000);
    try {
      writer.append("large", large);
      FAIL() << "written";
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::io);
      EXPECT_NE(std::string(error.what()).find("rank-00000"), std::string::npos) << error.what();
    }
  }
  writer.append("later", record_of(2));
  const auto index = read_journal_index(folder.path());
  ASSERT_EQ(index.size(), 2u);
  EXPECT_EQ(number_of(read_journal_record(index.at("small"))), 1);
  EXPECT_EQ(number_of(read_journal_record(index.at("later"))), 2);
}

TEST_F(journal, threads_append_whole_records) {
  const TempFolder folder;
  {
    JournalWriter writer(folder.path(), 0);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&writer, t] {
        for (int i = 0; i < 10; ++i) writer.append(std::to_string(t * 10 + i), record_of(t * 10 + i));
      });
    for (auto& thread : threads) thread.join();
  }
  const auto index = read_journal_index(folder.path());
  ASSERT_EQ(index.size(), 40u);
  for (const auto& [key, entry] : index) EXPECT_EQ(std::to_string(number_of(read_journal_record(entry))), key);
}

TEST_F(journal, folder_that_cannot_be_made_is_named) {
  const TempFolder folder;
  write_bytes(folder.path() / "file", "");
  try {
    JournalWriter(folder.path() / "file", 0).append("a", record_of(1));
    FAIL() << "created";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("file"), std::string::npos);
  }
}

// A network file system may not list, for up to a minute, what another host has written.
TEST_F(journal, files_that_are_named_need_not_be_listed) {
  const TempFolder folder;
  const auto path = folder.path() / "journal";
  JournalWriter first(path, 0), second(path, 1);
  first.append("a", record_of(1));
  second.append("b", record_of(2));
  // Not listed: of another extension.
  const std::string unlisted = second.file_name() + ".unlisted";
  std::filesystem::rename(path / second.file_name(), path / unlisted);
  EXPECT_EQ(read_journal_index(path).size(), 1u);
  const auto index = read_journal_index(path, {unlisted, first.file_name()});
  ASSERT_EQ(index.size(), 2u);
  EXPECT_EQ(number_of(read_journal_record(index.at("a"))), 1);
  EXPECT_EQ(number_of(read_journal_record(index.at("b"))), 2);
  EXPECT_EQ(read_journal_index(path, {"absent"}).size(), 1u);
  remove_journal(path, {unlisted, first.file_name()});
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(journal, an_output_folder_that_is_gone_is_not_made_anew) {
  const TempFolder folder;
  JournalWriter(folder.path() / "journal" / "m", 0).append("a", record_of(1));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "journal" / "m"));
  EXPECT_THROW(JournalWriter(folder.path() / "gone" / "journal" / "m", 0).append("a", record_of(1)), InputError);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "gone"));
}

TEST_F(journal, removal_takes_the_files_and_the_folder) {
  const TempFolder folder;
  JournalWriter(folder.path() / "journal", 0).append("a", record_of(1));
  remove_journal(folder.path() / "journal");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "journal"));
  remove_journal(folder.path() / "journal");  // absent: nothing to do
  // What is not a journal is not ours to remove.
  JournalWriter(folder.path() / "journal", 0).append("a", record_of(1));
  write_bytes(folder.path() / "journal" / "notes.txt", "mine");
  remove_journal(folder.path() / "journal");
  EXPECT_EQ(only_file(folder.path() / "journal").filename(), "notes.txt");
}

}  // namespace
}  // namespace spectrace
