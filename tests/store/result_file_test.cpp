#include "spectrace/store/result_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <malloc.h>
#include <sys/stat.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "sample_tree.hpp"
#include "spectrace/core/error.hpp"
#include "spectrace/core/file.hpp"
#include "support/file_size_limit.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

using test::sample_tree;

template <typename T>
bool same_bits(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, std::vector<double>>)
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
  else
    return a == b;
}

template <typename Variant>
bool same_values(const Variant& a, const Variant& b) {
  return a.index() == b.index() &&
         std::visit([&](const auto& values) { return same_bits(values, std::get<std::decay_t<decltype(values)>>(b)); },
                    a);
}

/// Everything but content_sha256, which the writer adds.
void expect_same_tree(ResultTree a, ResultTree b) {
  const auto is_digest = [](const auto& attribute) { return attribute.first == "content_sha256"; };
  std::erase_if(a.attributes, is_digest);
  std::erase_if(b.attributes, is_digest);
  EXPECT_EQ(a.attributes, b.attributes);
  ASSERT_EQ(a.groups.size(), b.groups.size());
  for (std::size_t g = 0; g < a.groups.size(); ++g) {
    const Group &x = a.groups[g], &y = b.groups[g];
    EXPECT_EQ(x.path, y.path);
    EXPECT_EQ(x.attributes, y.attributes) << x.path;
    ASSERT_EQ(x.dimensions.size(), y.dimensions.size()) << x.path;
    for (std::size_t i = 0; i < x.dimensions.size(); ++i) {
      EXPECT_EQ(x.dimensions[i].name, y.dimensions[i].name);
      EXPECT_EQ(x.dimensions[i].units, y.dimensions[i].units);
      EXPECT_EQ(x.dimensions[i].long_name, y.dimensions[i].long_name);
      EXPECT_TRUE(same_values(x.dimensions[i].values, y.dimensions[i].values)) << x.path << "/" << x.dimensions[i].name;
    }
    ASSERT_EQ(x.datasets.size(), y.datasets.size()) << x.path;
    for (std::size_t i = 0; i < x.datasets.size(); ++i) {
      EXPECT_EQ(x.datasets[i].name, y.datasets[i].name);
      EXPECT_EQ(x.datasets[i].dims, y.datasets[i].dims);
      EXPECT_EQ(x.datasets[i].units, y.datasets[i].units);
      EXPECT_EQ(x.datasets[i].long_name, y.datasets[i].long_name);
      EXPECT_TRUE(same_values(x.datasets[i].values, y.datasets[i].values)) << x.path << "/" << x.datasets[i].name;
    }
  }
}

/// Seals aside.
std::size_t num_entries(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) count += entry.path().filename() != ".seals";
  return count;
}

/// The error's text; empty if there was none.
template <typename Action>
std::string io_error_of(const Action& action) {
  try {
    action();
    return {};
  } catch (const InputError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io) << error.what();
    return error.what();
  }
}

TEST(result_file, reads_back_what_was_written) {
  const TempFolder folder;
  for (const auto& tree : {sample_tree(), test::failed_tree(), ResultTree{}}) {
    write_result_file(folder.path() / "a.h5", tree);
    const ResultTree read = read_result_file(folder.path() / "a.h5");
    expect_same_tree(tree, read);
    const auto* digest = read.find_attribute("content_sha256");
    ASSERT_NE(digest, nullptr);
    EXPECT_EQ(std::get<std::string>(*digest), digest_tree(tree));
    EXPECT_EQ(digest_tree(read), digest_tree(tree));
    EXPECT_EQ(num_entries(folder.path()), 1u) << "something was left behind";
  }
}

// Other times, names, folders and memory contents; and once more through reading.
TEST(result_file, same_tree_same_bytes) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "elsewhere");
  mallopt(M_PERTURB, 0x55);
  write_result_file(folder.path() / "first.h5", sample_tree());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5's times count seconds
  mallopt(M_PERTURB, 0xaa);
  write_result_file(folder.path() / "elsewhere" / "second.h5", sample_tree());
  mallopt(M_PERTURB, 0);
  write_result_file(folder.path() / "third.h5", read_result_file(folder.path() / "first.h5"));
  const std::string first = read_text_file(folder.path() / "first.h5");
  EXPECT_TRUE(first == read_text_file(folder.path() / "elsewhere" / "second.h5"));
  EXPECT_TRUE(first == read_text_file(folder.path() / "third.h5"));
}

TEST(result_file, bytes_do_not_know_in_which_portions_rows_came) {
  // Chunks of 64 rows, of 1 and of all; what is small lies in one piece.
  const std::vector<std::int64_t> numbers(300);
  Group group;
  group.path = "/prompts/a";
  group.dimensions = {{"prompt", numbers, "1", "Prompt"},
                      {"wide", std::vector<std::int64_t>(1024), "1", "Wide"},
                      {"wider", std::vector<std::int64_t>(40000), "1", "Wider"},
                      {"none", std::vector<std::int64_t>(), "1", "None"},
                      {"two", std::vector<std::int64_t>(2), "1", "Two"}};
  const std::vector<std::pair<std::string, std::size_t>> widths = {
      {"wide", 1024}, {"wider", 40000}, {"none", 0}, {"two", 2}};
  for (const auto& [name, width] : widths)
    group.datasets.push_back({"by_" + name, {"prompt", name}, "1", "Rows", std::vector<double>(), /*in_rows=*/true});
  group.datasets.push_back({"one", {"prompt"}, "1", "Rows", std::vector<double>(), /*in_rows=*/true});
  const auto write = [&](const std::filesystem::path& path, std::size_t portion) {
    ResultFileWriter writer(path);
    writer.add_group(group);
    for (std::size_t first = 0; first < numbers.size(); first += portion)
      for (const auto& dataset : group.datasets) {
        const std::size_t rows = std::min(portion, numbers.size() - first);
        const auto width = dataset.dims.size() == 1 ? 1 : group.find_dimension(dataset.dims[1])->size();
        std::vector<double> values(rows * width);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>((first * width + i) % 1009);
        writer.write_rows(group.path, dataset.name, values);
      }
    writer.commit({{"Conventions", std::string("spectrace-2")}});
    return read_text_file(path);
  };
  const TempFolder folder;
  const std::string bytes = write(folder.path() / "all.h5", numbers.size());
  for (const std::size_t portion : {1, 7, 64, 100})
    EXPECT_TRUE(write(folder.path() / "portions.h5", portion) == bytes) << portion;

  // And read for a copy, side by side.
  ResultFileWriter copy(folder.path() / "copy.h5");
  copy.add_group(group);
  std::vector<const Dataset*> datasets;
  for (const auto& dataset : group.datasets) datasets.push_back(&dataset);
  read_rows(folder.path() / "all.h5", group, datasets, [&](const Dataset& dataset, std::span<const double> rows) {
    copy.write_rows(group.path, dataset.name, rows);
  });
  copy.commit({{"Conventions", std::string("spectrace-2")}});
  EXPECT_TRUE(read_text_file(folder.path() / "copy.h5") == bytes);
}

TEST(result_file, old_file_is_replaced) {
  const TempFolder folder;
  write_result_file(folder.path() / "a.h5", sample_tree());
  write_result_file(folder.path() / "a.h5", test::failed_tree());
  expect_same_tree(test::failed_tree(), read_result_file(folder.path() / "a.h5"));
}

TEST(result_file, root_may_hold_datasets) {
  const TempFolder folder;
  ResultTree tree;
  tree.attributes = {{"Conventions", std::string("spectrace-2")}};
  tree.groups = {{"/",
                  {},
                  {{"row", std::vector<std::int64_t>{0, 1}, "1", "Row"}},
                  {{"model", {"row"}, "1", "Model", std::vector<std::string>{"a", "b"}},
                   {"mean_trace", {"row"}, "1", "Mean trace", std::vector<double>{1.5, 2.5}}}}};
  write_result_file(folder.path() / "summary.h5", tree);
  expect_same_tree(tree, read_result_file(folder.path() / "summary.h5"));
}

// The 64 KiB limit of HDF5's attributes does not hold for texts of variable length; a job's JSON may be long.
TEST(result_file, long_texts_survive) {
  const TempFolder folder;
  ResultTree tree = sample_tree();
  std::string text;
  while (text.size() < 3'000'000) text += std::to_string(text.size()) + ",";
  tree.attributes.emplace_back("long", text);
  tree.groups[0].attributes.emplace_back("long", text);
  std::get<std::vector<std::string>>(tree.groups[3].datasets[0].values)[1] = text;
  write_result_file(folder.path() / "a.h5", tree);
  expect_same_tree(tree, read_result_file(folder.path() / "a.h5"));
}

TEST(result_file, bytes_that_are_no_text_are_replaced) {
  const TempFolder folder;
  ResultTree tree = test::failed_tree();
  std::get<std::string>(tree.attributes[2].second) = std::string("nul \0 latin-1 \xfc end", 19);
  write_result_file(folder.path() / "a.h5", tree);
  const ResultTree read = read_result_file(folder.path() / "a.h5");
  EXPECT_EQ(std::get<std::string>(*read.find_attribute("error")), "nul \xEF\xBF\xBD latin-1 \xEF\xBF\xBD end");
  EXPECT_EQ(digest_tree(read), digest_tree(tree));
}

TEST(result_file, large_numbers_are_chunked_checksummed_and_compressed) {
  const TempFolder folder;
  write_result_file(folder.path() / "a.h5", sample_tree());
  const hid_t file = H5Fopen((folder.path() / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t dataset = H5Dopen2(file, "/unembedding/row_norm", H5P_DEFAULT);
  const hid_t list = H5Dget_create_plist(dataset);
  hsize_t chunk = 0;
  EXPECT_EQ(H5Pget_chunk(list, 1, &chunk), 1);
  EXPECT_EQ(chunk, 45'000u);  // 90000 numbers do not fit 512 KiB: two equal parts
  ASSERT_EQ(H5Pget_nfilters(list), 3);
  const H5Z_filter_t expected[] = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
  for (unsigned i = 0; i < 3; ++i) {
    unsigned flags = 0, level = 0, config = 0;
    std::size_t num_values = 1;
    EXPECT_EQ(H5Pget_filter2(list, i, &flags, &num_values, &level, 0, nullptr, &config), expected[i]);
    EXPECT_TRUE(expected[i] != H5Z_FILTER_DEFLATE || level == 4);
  }
  EXPECT_LT(H5Dget_storage_size(dataset), 90'000u * 8);
  H5Pclose(list);
  H5Dclose(dataset);
  H5Fclose(file);
}

// As on a full disk. The child also ends in the usual way: HDF5 must have nothing left to write.
TEST(result_file, full_disk_is_an_error_and_leaves_the_old_file) {
  const TempFolder folder;
  write_result_file(folder.path() / "a.h5", test::failed_tree());
  EXPECT_EXIT(
      {
        {
          const test::FileSizeLimit limit(100'000);
          const std::string text = io_error_of([&] { write_result_file(folder.path() / "a.h5", sample_tree()); });
          if (text.find("a.h5") == std::string::npos || text.find(std::strerror(EFBIG)) == std::string::npos) {
            std::fprintf(stderr, "unexpected: '%s'\n", text.c_str());
            std::_Exit(1);
          }
        }
        if (num_entries(folder.path()) != 1) std::_Exit(2);
        expect_same_tree(test::failed_tree(), read_result_file(folder.path() / "a.h5"));
        write_result_file(folder.path() / "b.h5", sample_tree());
        expect_same_tree(sample_tree(), read_result_file(folder.path() / "b.h5"));
        std::exit(testing::Test::HasFailure() ? 3 : 0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(result_file, unwritable_place_is_named) {
  const TempFolder folder;
  const std::string text = io_error_of([&] { write_result_file(folder.path() / "absent" / "a.h5", sample_tree()); });
  EXPECT_NE(text.find("absent/a.h5"), std::string::npos) << text;
  EXPECT_NE(text.find("No such file or directory"), std::string::npos) << text;
  EXPECT_EQ(num_entries(folder.path()), 0u);
}

TEST(result_file, what_is_no_results_file_is_refused) {
  const TempFolder folder;
  EXPECT_NE(io_error_of([&] { read_result_file(folder.path() / "absent.h5"); }).find("No such file"),
            std::string::npos);
  EXPECT_NE(io_error_of([&] { read_result_file(folder.path()); }), "");
  std::ofstream(folder.path() / "text.h5") << "not HDF5 at all, just some text";
  EXPECT_NE(io_error_of([&] { read_result_file(folder.path() / "text.h5"); }).find("text.h5"), std::string::npos);
  std::ofstream(folder.path() / "empty.h5").close();
  EXPECT_NE(io_error_of([&] { read_result_file(folder.path() / "empty.h5"); }), "");
  // HDF5, but not ours.
  H5Fclose(H5Fcreate((folder.path() / "other.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  EXPECT_NE(io_error_of([&] { read_result_file(folder.path() / "other.h5"); }).find("content_sha256"),
            std::string::npos);
}

TEST(result_file, every_cut_is_refused) {
  const TempFolder folder;
  write_result_file(folder.path() / "whole.h5", test::failed_tree());
  const std::string whole = read_text_file(folder.path() / "whole.h5");
  for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 50) {
    std::ofstream(folder.path() / "cut.h5", std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    EXPECT_NE(io_error_of([&] { read_result_file(folder.path() / "cut.h5"); }), "")
        << "cut at " << size << " of " << whole.size();
  }
}

TEST(result_file, changed_number_is_noticed) {
  const TempFolder folder;
  write_result_file(folder.path() / "a.h5", sample_tree());
  const hid_t file = H5Fopen((folder.path() / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "/unembedding/spectral_norm", H5P_DEFAULT);
  const double other = 13;
  EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &other), 0);
  H5Dclose(dataset);
  H5Fclose(file);
  testing::internal::CaptureStderr();
  const ResultTree read = read_result_file(folder.path() / "a.h5");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("content_sha256"), std::string::npos);
  EXPECT_EQ(std::get<std::vector<double>>(read.find("/unembedding")->find("spectral_norm")->values)[0], 13);
}

/// Adds 1 to a number of the file, and gives it the times that it had.
void change_a_number(const std::filesystem::path& path) {
  const auto before = std::filesystem::last_write_time(path);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "/unembedding/spectral_norm", H5P_DEFAULT);
  double value = 0;
  H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value);
  ++value;
  EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value), 0);
  H5Dclose(dataset);
  H5Fclose(file);
  std::filesystem::last_write_time(path, before);
}

// The change time tells, though size, inode and modification time are as they were.
TEST(result_file, what_was_touched_is_looked_at_though_nobody_asks) {
  const TempFolder folder;
  const auto path = folder.path() / "a.h5";
  write_result_file(path, sample_tree());
  expect_same_tree(sample_tree(), read_result_file(path, WrongDigest::unasked));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // beyond the clock of the file system
  change_a_number(path);
  for (const auto wrong : {WrongDigest::unasked, WrongDigest::refused})
    EXPECT_NE(io_error_of([&] { read_result_file(path, wrong); }).find("content_sha256"), std::string::npos);
}

TEST(result_file, a_whole_file_that_was_copied_is_sealed_by_who_builds_upon_it) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "copy");
  write_result_file(folder.path() / "a.h5", sample_tree());
  const auto copy = folder.path() / "copy" / "a.h5";
  std::filesystem::copy_file(folder.path() / "a.h5", copy);
  expect_same_tree(sample_tree(), read_result_file(copy, WrongDigest::warned));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "copy" / ".seals")) << "a reader writes nothing";
  expect_same_tree(sample_tree(), read_result_file(copy, WrongDigest::unasked));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "copy" / ".seals" / "a.h5.seal"));
}

// Where no result lies: the contents are whole, other readers may stumble.
TEST(result_file, other_bytes_with_the_same_contents_are_warned_of) {
  const TempFolder folder;
  const auto path = folder.path() / "a.h5";
  write_result_file(path, sample_tree());
  std::ofstream(path, std::ios::binary | std::ios::app) << "behind the end";
  for (int i = 0; i < 2; ++i) {
    testing::internal::CaptureStderr();
    expect_same_tree(sample_tree(), read_result_file(path, WrongDigest::refused));
    EXPECT_NE(testing::internal::GetCapturedStderr().find("not byte for byte what was written"), std::string::npos);
  }
}

TEST(result_file, a_torn_or_foreign_seal_is_none) {
  const TempFolder folder;
  const auto path = folder.path() / "a.h5", seal = folder.path() / ".seals" / "a.h5.seal";
  write_result_file(path, sample_tree());
  const std::string text = read_text_file(seal);
  change_a_number(path);
  for (const std::string& other : {std::string(), text.substr(0, text.size() / 3), std::string(5000, 'x')}) {
    std::ofstream(seal, std::ios::trunc) << other;
    EXPECT_NE(io_error_of([&] { read_result_file(path, WrongDigest::unasked); }), "") << other;
  }
  std::filesystem::remove(seal);
  ASSERT_EQ(::mkfifo(seal.c_str(), 0600), 0);
  EXPECT_NE(io_error_of([&] { read_result_file(path, WrongDigest::unasked); }), "");
}

TEST(result_file, what_is_no_file_is_refused_at_once) {
  const TempFolder folder;
  const auto path = folder.path() / "fifo.h5";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_NE(io_error_of([&] { read_result_file(path); }).find("FIFO"), std::string::npos);
}

TEST(result_file, a_cut_file_says_so_and_what_to_do) {
  const TempFolder folder;
  const auto path = folder.path() / "a.h5";
  write_result_file(path, sample_tree());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  const std::string text = io_error_of([&] { read_result_file(path); });
  EXPECT_NE(text.find("cut short"), std::string::npos) << text;
  EXPECT_NE(text.find("remove it"), std::string::npos) << text;
}

// HDF5 would follow them to files of any name.
TEST(result_file, what_leads_out_of_the_file_is_refused) {
  const TempFolder folder;
  const auto path = folder.path() / "a.h5";
  for (const int kind : {0, 1, 2}) {
    write_result_file(path, test::failed_tree());
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    if (kind == 0) H5Lcreate_external("/etc/hostname", "/", file, "out", H5P_DEFAULT, H5P_DEFAULT);
    if (kind == 1) H5Lcreate_soft("/", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    if (kind == 2) {
      const hsize_t size = 1;
      const hid_t space = H5Screate_simple(1, &size, nullptr), list = H5Pcreate(H5P_DATASET_CREATE);
      H5Pset_external(list, "/etc/hostname", 0, 8);
      const hid_t dataset = H5Dcreate2(file, "raw", H5T_IEEE_F64LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
      EXPECT_GE(dataset, 0);
      H5Dclose(dataset);
      H5Pclose(list);
      H5Sclose(space);
    }
    H5Fclose(file);
    const std::string text = io_error_of([&] { read_result_file(path); });
    EXPECT_NE(text.find(kind == 2 ? "in other files" : "leads elsewhere"), std::string::npos) << text;
  }
}

TEST(result_file, datasets_that_do_not_fit_their_dimensions_are_our_bug) {
  const TempFolder folder;
  ResultTree tree = sample_tree();
  std::get<std::vector<double>>(tree.groups[0].datasets[0].values).pop_back();
  EXPECT_THROW(write_result_file(folder.path() / "a.h5", tree), std::logic_error);
  tree = sample_tree();
  tree.groups[0].datasets[0].dims[1] = "absent";
  EXPECT_THROW(write_result_file(folder.path() / "a.h5", tree), std::logic_error);
  tree = sample_tree();
  tree.groups[0].attributes = {{"signal", std::string("x")}};
  EXPECT_THROW(write_result_file(folder.path() / "a.h5", tree), std::logic_error);
  EXPECT_EQ(num_entries(folder.path()), 0u);
}

TEST(result_file, names_that_hdf5_cannot_hold_are_refused) {
  const TempFolder folder;
  for (const std::string name : {"", ".", "..", "a//b"}) {
    ResultTree tree = sample_tree();
    tree.groups[0].path = "/prompts/" + name;
    EXPECT_THROW(write_result_file(folder.path() / "a.h5", tree), InputError) << "'" << name << "'";
  }
}

TEST(result_file, digest_sees_every_kind_of_change_and_no_order) {
  const std::string digest = digest_tree(sample_tree());
  EXPECT_EQ(digest.size(), 64u);
  const auto changed = [&](const auto& change) {
    ResultTree tree = sample_tree();
    change(tree);
    return digest_tree(tree);
  };
  EXPECT_NE(digest, changed([](ResultTree& t) { std::get<std::int64_t>(t.attributes[2].second) = 4; }));
  EXPECT_NE(digest, changed([](ResultTree& t) { t.groups[0].path = "/weight"; }));
  EXPECT_NE(digest, changed([](ResultTree& t) { t.groups[0].dimensions[0].units = "m"; }));
  EXPECT_NE(digest, changed([](ResultTree& t) { t.groups[0].datasets[0].long_name += "."; }));
  EXPECT_NE(digest, changed([](ResultTree& t) {
              std::swap(t.groups[0].datasets[0].dims[0], t.groups[0].datasets[0].dims[1]);
            }));
  EXPECT_NE(digest, changed([](ResultTree& t) {
              auto& values = std::get<std::vector<double>>(t.groups[0].datasets[0].values);
              std::swap(values[0], values[1]);
            }));
  EXPECT_EQ(digest, changed([](ResultTree& t) { std::swap(t.groups[0].datasets[0], t.groups[0].datasets[1]); }));
  EXPECT_EQ(digest, changed([](ResultTree& t) { t.attributes.emplace_back("content_sha256", std::string("x")); }));
}

}  // namespace
}  // namespace spectrace
