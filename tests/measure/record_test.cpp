#include "spectrace/measure/record.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace spectrace {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

Record sample_record() {
  Record record;
  record.error = "prompt 3 is empty";
  record.arrays["trace"] = {{2, 3}, {1, 2, 3, 4, 5, -0.0}};
  record.arrays["scalar"] = {{}, {0.1}};
  record.arrays["nothing"] = {{4, 0, 7}, {}};
  record.arrays["gain"] = Array::filled_with_nan({3});
  record.arrays["gain"].values[1] =
      std::bit_cast<double>(std::uint64_t{0xfff8'0000'dead'beef});  // a NaN with a payload
  record.arrays["gain"].values[2] = -std::numeric_limits<double>::infinity();
  record.texts["ids"] = {"a", "", std::string("nul\0inside", 10), "ünï"};
  record.texts["none"] = {};
  return record;
}

void expect_same_bits(const Record& a, const Record& b) {
  EXPECT_EQ(a.error, b.error);
  EXPECT_EQ(a.texts, b.texts);
  ASSERT_EQ(a.arrays.size(), b.arrays.size());
  for (const auto& [name, array] : a.arrays) {
    ASSERT_TRUE(b.arrays.contains(name)) << name;
    const Array& other = b.arrays.at(name);
    EXPECT_EQ(array.shape, other.shape) << name;
    ASSERT_EQ(array.values.size(), other.values.size()) << name;
    for (std::size_t i = 0; i < array.values.size(); ++i)
      EXPECT_EQ(std::bit_cast<std::uint64_t>(array.values[i]), std::bit_cast<std::uint64_t>(other.values[i]))
          << name << "[" << i << "]";
  }
}

void overwrite(std::string& bytes, std::size_t place, std::uint64_t value) {
  std::memcpy(bytes.data() + place, &value, sizeof value);
}

TEST(record, filled_with_nan_has_shape_and_only_nan) {
  const Array array = Array::filled_with_nan({2, 3, 4});
  EXPECT_EQ(array.shape, (std::vector<std::int64_t>{2, 3, 4}));
  ASSERT_EQ(array.values.size(), 24u);
  for (const double value : array.values) EXPECT_TRUE(std::isnan(value));
  EXPECT_EQ(Array::filled_with_nan({}).values.size(), 1u);
  EXPECT_TRUE(Array::filled_with_nan({5, 0}).values.empty());
  EXPECT_THROW(Array::filled_with_nan({5, -1}), std::runtime_error);
}

TEST(record, decodes_to_the_same_bits) {
  const Record record = sample_record();
  expect_same_bits(record, decode_record(bytes_of(encode_record(record))));
}

TEST(record, empty_record_survives) { expect_same_bits(Record{}, decode_record(bytes_of(encode_record(Record{})))); }

TEST(record, same_record_same_bytes_whatever_the_order_it_was_filled_in) {
  Record ab, ba;
  ab.arrays["a"] = {{1}, {1.0}};
  ab.arrays["b"] = {{1}, {2.0}};
  ba.arrays["b"] = {{1}, {2.0}};
  ba.arrays["a"] = {{1}, {1.0}};
  EXPECT_EQ(encode_record(ab), encode_record(ba));
  EXPECT_EQ(encode_record(sample_record()), encode_record(sample_record()));
}

TEST(record, array_whose_values_do_not_fit_its_shape_is_refused) {
  Record record;
  record.arrays["a"] = {{2, 2}, {1, 2, 3}};
  EXPECT_THROW(encode_record(record), std::logic_error);
}

TEST(record, every_cut_is_detected) {
  const std::string whole = encode_record(sample_record());
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(decode_record(bytes_of(whole.substr(0, size))), std::runtime_error) << "cut at " << size;
  EXPECT_THROW(decode_record(bytes_of(whole + '\0')), std::runtime_error);
}

TEST(record, every_changed_byte_gives_another_record_or_an_error) {
  const std::string whole = encode_record(sample_record());
  for (std::size_t place = 0; place < whole.size(); ++place) {
    std::string changed = whole;
    changed[place] = static_cast<char>(changed[place] ^ 0x41);
    try {
      EXPECT_NE(encode_record(decode_record(bytes_of(changed))), whole) << "byte " << place;
    } catch (const std::runtime_error&) {
    }  // as good: the change was seen
  }
}

// Lengths that would overflow or allocate the machine's memory must be refused before anything is allocated.
TEST(record, hostile_lengths_are_refused) {
  Record record;
  record.arrays["a"] = {{3}, {1, 2, 3}};
  const std::string whole = encode_record(record);
  const std::size_t error_length = 8, num_arrays = 16, name_length = 24, rank = 33, shape = 41;
  for (const std::size_t place : {error_length, num_arrays, name_length, rank, shape}) {
    for (const std::uint64_t value : {std::uint64_t{1} << 40, std::uint64_t{1} << 61, std::uint64_t{1} << 63,
                                      ~std::uint64_t{0}, (std::uint64_t{1} << 61) + 3}) {
      std::string changed = whole;
      overwrite(changed, place, value);
      EXPECT_THROW(decode_record(bytes_of(changed)), std::runtime_error) << "place " << place << " value " << value;
    }
  }
}

TEST(record, names_out_of_order_are_refused) {
  Record record;
  record.arrays["a"] = {{}, {1}};
  record.arrays["b"] = {{}, {2}};
  std::string bytes = encode_record(record);
  const auto a = bytes.find('a', 16), b = bytes.find('b', 16);
  std::swap(bytes.at(a), bytes.at(b));
  EXPECT_THROW(decode_record(bytes_of(bytes)), std::runtime_error);
  bytes.at(a) = bytes.at(b) = 'a';
  EXPECT_THROW(decode_record(bytes_of(bytes)), std::runtime_error);
}

TEST(record, unknown_version_is_named) {
  std::string bytes = encode_record(Record{});
  bytes[6] = 9;
  try {
    decode_record(bytes_of(bytes));
    FAIL() << "decoded";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("version 9"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace spectrace
