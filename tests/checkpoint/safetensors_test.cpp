#include "spectrace/checkpoint/safetensors.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "expect_input_error.hpp"
#include "support/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

class Safetensors : public testing::Test {
 protected:
  std::vector<TensorInfo> read(const std::string& bytes) {
    write_bytes(path_, bytes);
    return read_safetensors_header(FileReader(path_), 3);
  }

  /// A file with this header and 16 bytes of data is refused, with its name and these parts in the message.
  void expect_refused(const std::string& header, const std::string& part, const std::string& other_part = {}) {
    SCOPED_TRACE(header);
    expect_input_error(ErrorKind::model, {part, other_part, path_.string()},
                       [&] { read(safetensors_bytes(header, std::string(16, 'x'))); });
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "weights.safetensors";
};

TEST_F(Safetensors, places_and_types) {
  write_safetensors(path_, {{"half", at::zeros({2, 3}, at::kHalf)},
                            {"scalar", at::zeros({}, at::kDouble)},
                            {"none", at::zeros({0, 7}, at::kFloat)},
                            {"mask", at::zeros({5}, at::kBool)}});
  const FileReader file(path_);
  const auto tensors = read_safetensors_header(file, 3);
  ASSERT_EQ(tensors.size(), 4u);
  const std::uint64_t data_start = file.size_bytes() - (2 * 3 * 2 + 8 + 0 + 5);
  EXPECT_EQ(tensors[0].name, "half");
  EXPECT_EQ(tensors[0].type, StorageType::float16);
  EXPECT_EQ(tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(tensors[0].offset, data_start);
  EXPECT_EQ(tensors[0].file, 3);
  EXPECT_EQ(tensors[1].name, "scalar");
  EXPECT_EQ(tensors[1].size_bytes, 8u);
  EXPECT_EQ(tensors[2].name, "none");
  EXPECT_EQ(tensors[2].num_elements(), 0);
  EXPECT_EQ(tensors[3].type, StorageType::boolean);
  EXPECT_EQ(tensors[3].offset, data_start + 20);
}

TEST_F(Safetensors, entries_need_not_be_in_the_order_of_their_data) {
  const auto tensors = read(safetensors_bytes(
      R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      std::string(16, 'x')));
  EXPECT_EQ(tensors[0].name, "b");
  EXPECT_EQ(tensors[1].name, "a");
}

TEST_F(Safetensors, refuses_entries_that_contradict_themselves) {
  expect_refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}})", "tensor 'a'",
                 "16 bytes (shape [3] of F32 takes 12)");
  expect_refused(R"({"a":{"dtype":"Q4","shape":[4],"data_offsets":[0,16]}})", "tensor 'a'", "'Q4' is unknown");
  expect_refused(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", "tensor 'a'", "-4");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", "tensor 'a'", "4.0");
  expect_refused(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", "tensor 'a'", "'shape' is not a list");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "tensor 'a'", "[16, 0]");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}})", "tensor 'a'", "[begin, end]");
  expect_refused(R"({"a":{"dtype":"F32","shape":[4]}})", "tensor 'a'", "no 'data_offsets'");
  expect_refused(R"({"a":[1]})", "tensor 'a'", "not an object");
  expect_refused(R"({"a":{"dtype":"F4","shape":[31],"data_offsets":[0,16]}})", "tensor 'a'", "takes 15");
}

TEST_F(Safetensors, refuses_shapes_whose_product_overflows) {
  expect_refused(R"({"a":{"dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,16]}})", "tensor 'a'",
                 "impossible");
  expect_refused(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,3],"data_offsets":[0,0]}})", "tensor 'a'",
                 "impossible");
  expect_refused(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,16]}})", "tensor 'a'");
  expect_refused(R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,16]}})", "cannot be read as JSON");
}

TEST_F(Safetensors, refuses_more_dimensions_than_tensors_have) {
  std::string ones = "4";
  for (int i = 0; i < 64; ++i) ones += ",1";
  expect_refused(R"({"a":{"dtype":"F32","shape":[)" + ones + R"(],"data_offsets":[0,16]}})", "tensor 'a'",
                 "impossible");
}

TEST_F(Safetensors, empty_tensors_by_the_hundred_thousand_take_linear_time) {
  // 30 000 once took 84 s, and four times that with each doubling: this would be stopped after hours.
  constexpr int kCount = 300'000;
  std::string header = "{";
  for (int i = 0; i < kCount; ++i)
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(read(safetensors_bytes(header + "}", "")).size(), std::size_t{kCount});
}

// As safetensors' save_model writes what is shared.
TEST_F(Safetensors, names_that_metadata_give_to_a_tensor) {
  const auto tensors = read(safetensors_bytes(
      R"({"__metadata__":{"format":"pt","embed.weight":"lm_head.weight","x":"absent","b":"lm_head.weight"},)"
      R"("lm_head.weight":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
      std::string(16, 'x')));
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[2].name, "embed.weight");
  EXPECT_EQ(tensors[2].offset, tensors[0].offset);
  EXPECT_EQ(tensors[2].shape, tensors[0].shape);
  EXPECT_EQ(tensors[1].name, "b");  // a tensor of its own
  EXPECT_EQ(tensors[1].size_bytes, 4u);
  for (const char* metadata : {"[]", "3", R"({"a":3})", R"({"a":{"b":"b"}})"})
    EXPECT_EQ(read(safetensors_bytes("{\"__metadata__\":" + std::string(metadata) +
                                         R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                     "xxxx"))
                  .size(),
              1u);
}

TEST_F(Safetensors, refuses_overlap_gap_and_duplicates) {
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})",
      "tensor 'b'", "overlap");
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
      "tensor 'b'", "belong to no tensor");
  expect_refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})", "tensor 'a'", "belong to no tensor");
  expect_refused(
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
      "the key 'a' is there twice");
}

TEST_F(Safetensors, says_expected_and_found_size_when_cut_short) {
  write_safetensors(path_, {{"first", at::zeros({4}, at::kFloat)}, {"second", at::zeros({8}, at::kFloat)}});
  const auto whole = std::filesystem::file_size(path_);
  std::filesystem::resize_file(path_, whole - 33);  // 1 byte short of the end of 'first'
  expect_input_error(ErrorKind::model,
                     {path_.string(), "cut short within tensor 'first'", "expected " + std::to_string(whole),
                      "found " + std::to_string(whole - 33)},
                     [&] { read_safetensors_header(FileReader(path_), 0); });
  std::filesystem::resize_file(path_, whole - 32);
  expect_input_error(ErrorKind::model, {"cut short within tensor 'second'"},
                     [&] { read_safetensors_header(FileReader(path_), 0); });
  std::filesystem::resize_file(path_, whole + 1);
  expect_input_error(ErrorKind::model,
                     {path_.string(), "bytes after the last tensor", "expected " + std::to_string(whole)},
                     [&] { read_safetensors_header(FileReader(path_), 0); });
}

TEST_F(Safetensors, refuses_what_is_no_safetensors_file) {
  expect_input_error(ErrorKind::model, {path_.string(), "this one has 3"}, [&] { read("abc"); });
  expect_input_error(ErrorKind::model, {path_.string(), "not a safetensors file"}, [&] { read(std::string(64, 'x')); });
  expect_input_error(ErrorKind::model, {path_.string(), "cut short within its header", "expected at least 1008"},
                     [&] { read(std::string("\xe8\x03\0\0\0\0\0\0{}", 10)); });
  expect_input_error(ErrorKind::model, {"does not start with '{'"}, [&] { read(safetensors_bytes("[]", "")); });
  expect_input_error(ErrorKind::model, {"not JSON"}, [&] { read(safetensors_bytes("{\"a\":", "")); });
  expect_input_error(ErrorKind::model, {"nested deeper than 64 levels"},
                     [&] { read(safetensors_bytes("{\"a\":" + std::string(100000, '['), "")); });
  expect_input_error(ErrorKind::model, {path_.string(), "Git LFS pointer", "git lfs pull"},
                     [&] { read("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"); });
}

}  // namespace
}  // namespace spectrace
