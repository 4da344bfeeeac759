#include "spectrace/core/file.hpp"

#include <gtest/gtest.h>

#include <iterator>

#include "spectrace/core/error.hpp"
#include "support/file_size_limit.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

auto num_entries(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

TEST(WriteFileAtomically, replaces) {
  const TempFolder folder;
  const auto path = folder.path() / "result";
  write_file_atomically(path, "old");
  write_file_atomically(path, std::string(100'000, 'x'));
  EXPECT_EQ(read_text_file(path), std::string(100'000, 'x'));
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, full_disk_keeps_the_old_file_and_leaves_no_other) {
  const TempFolder folder;
  const auto path = folder.path() / "result";
  write_file_atomically(path, "old");
  const test::FileSizeLimit limit(1000);
  EXPECT_THROW(write_file_atomically(path, std::string(100'000, 'x')), InputError);
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, name_taken_by_a_folder_leaves_nothing) {
  const TempFolder folder;
  const auto path = folder.path() / "result";
  std::filesystem::create_directory(path);
  EXPECT_THROW(write_file_atomically(path, "text"), InputError);
  EXPECT_EQ(num_entries(folder.path()), 1);
}

}  // namespace
}  // namespace spectrace
