#include "spectrace/core/file.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
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

void expect_refused(const std::filesystem::path& path, const std::string& part) {
  try {
    read_text_file(path);
    ADD_FAILURE() << path << " was read";
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("'" + shown_text(path.string()) + "'"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(FileReader, refuses_what_is_no_regular_file) {
  const TempFolder folder;
  const auto fifo = folder.path() / "fifo", socket = folder.path() / "socket", link = folder.path() / "link";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_refused(fifo, "is not a regular file (a FIFO)");
  std::filesystem::create_symlink(fifo, link);
  expect_refused(link, "is not a regular file (a FIFO)");
  expect_refused("/dev/null", "is not a regular file (a device)");
  expect_refused(folder.path(), "Is a directory");
  expect_refused(folder.path() / "absent", "No such file");

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket.string().size(), sizeof(address.sun_path));
  std::strcpy(address.sun_path, socket.c_str());
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  expect_refused(socket, "is not a regular file (a socket)");
  ::close(descriptor);
}

TEST(FileReader, refuses_what_cannot_be_looked_up) {
  const TempFolder folder;
  const auto circle = folder.path() / "circle";
  std::filesystem::create_symlink(circle, circle);
  expect_refused(circle, "Too many levels of symbolic links");
  expect_refused(folder.path() / std::string(300, 'n'), "File name too long");
  expect_refused(folder.path() / std::string("a\0b", 3), "Invalid argument");
}

TEST(FileReader, standard_input_from_a_pipe_is_refused) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "text", 4), 4);
  const int saved = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  expect_refused("/dev/stdin", "is not a regular file (a FIFO)");
  ::dup2(saved, STDIN_FILENO);
  for (const int descriptor : {saved, ends[0], ends[1]}) ::close(descriptor);
}

TEST(FileReader, follows_links_and_says_what_changed) {
  const TempFolder folder;
  const auto path = folder.path() / "file", link = folder.path() / "link";
  write_bytes(path, "0123456789");
  std::filesystem::create_symlink(path, link);
  const FileReader file(link);
  EXPECT_EQ(file.size_bytes(), 10u);
  EXPECT_EQ(file.status(), FileReader(path).status());
  EXPECT_EQ(file.find_change(), std::nullopt);
  write_bytes(path, "0123456789ab");
  EXPECT_EQ(file.find_change(), "it had 10 bytes, now 12");
}

TEST(FileReader, sees_a_link_that_was_set_to_another_file) {
  const TempFolder folder;
  const auto link = folder.path() / "link";
  write_bytes(folder.path() / "a", "text");
  write_bytes(folder.path() / "b", "text");
  std::filesystem::create_symlink(folder.path() / "a", link);
  const FileReader file(link);
  std::filesystem::remove(link);
  std::filesystem::create_symlink(folder.path() / "b", link);
  EXPECT_EQ(file.find_change(), "another file now has its name");
}

TEST(ReadTextFile, large_files_are_refused_before_they_are_read) {
  const TempFolder folder;
  const auto path = folder.path() / "holes";
  write_bytes(path, "");
  std::filesystem::resize_file(path, kMostTextBytes + 1);
  expect_refused(path, "is too large");
  write_bytes(path, "1234");
  EXPECT_EQ(read_text_file(path, 4), "1234");
  EXPECT_THROW(read_text_file(path, 3), InputError);
}

TEST(IsAbsent, is_true_only_where_nothing_is) {
  const TempFolder folder;
  const auto file = folder.path() / "file", circle = folder.path() / "circle", dangling = folder.path() / "dangling";
  write_bytes(file, "text");
  std::filesystem::create_symlink(circle, circle);
  std::filesystem::create_symlink(folder.path() / "nothing", dangling);
  EXPECT_FALSE(is_absent(file));
  EXPECT_FALSE(is_absent(circle));
  EXPECT_FALSE(is_absent(folder.path() / std::string(300, 'n')));
  EXPECT_TRUE(is_absent(dangling));
  EXPECT_TRUE(is_absent(folder.path() / "nothing"));
  EXPECT_TRUE(is_absent(file / "below"));
}

}  // namespace
}  // namespace spectrace
