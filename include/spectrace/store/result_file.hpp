#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Makes a results file: under another name, flushed to disk, renamed at the end. Groups come in the order in which a
/// walk over the file shall find them; the same calls give the same bytes. Datasets that are `in_rows` come in parts:
/// what is held in memory does not grow with them.
/// Adds the attribute content_sha256 (over everything else that the file holds, see docs/file-format.md), and on groups
/// NeXus's NX_class, signal and axes, by which viewers such as h5web know what to plot: these are no part of the tree.
/// Bytes that are not UTF-8 are written as U+FFFD. Every function throws InputError (io) naming the file and the
/// system's reason; the old file, if any, is then still there. Beside a file that stands, ".seals/" notes what the
/// system says of it, so that it need not be looked through as long as nobody touches it.
class ResultFileWriter {
 public:
  explicit ResultFileWriter(const std::filesystem::path& path);
  /// Takes the unfinished file away.
  ~ResultFileWriter();
  ResultFileWriter(const ResultFileWriter&) = delete;
  ResultFileWriter& operator=(const ResultFileWriter&) = delete;

  void add_group(const Group& group);
  /// The next rows along the first dimension, whole ones. In which portions they come makes no difference to the file;
  /// what waits in memory are the rows that not all of the group's datasets have got. @pre the dataset is in_rows, and
  /// its group added.
  void write_rows(const std::string& group, const std::string& dataset, std::span<const double> values);
  /// Root's attributes, and the file stands. @pre all rows are written.
  void commit(const std::vector<std::pair<std::string, AttributeValue>>& attributes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// All at once.
void write_result_file(const std::filesystem::path& path, const ResultTree& tree);

/// What becomes of a file whose contents no longer match its content_sha256.
enum class WrongDigest {
  warned,   ///< logged
  refused,  ///< an error: nothing is built upon it
  unasked,  ///< the same, but not looked for in a file that nobody has touched since this program wrote or read it
};

/// Reads a file that write_result_file wrote back into the tree it was given (content_sha256 included as an attribute),
/// so that writing it again gives the same bytes. A file that was touched since this program wrote it is read by a
/// process of its own first (vetting.hpp); if it is whole, that is noted, except where a wrong digest is only `warned`
/// of. Contents of another format than kConventions are not held against their digest.
/// @throws InputError (io) if it cannot be read or is no results file, or was changed and that is refused.
/// Datasets of more than `most_values` numbers are left in the file, `in_rows`.
ResultTree read_result_file(const std::filesystem::path& path, WrongDigest wrong_digest = WrongDigest::warned,
                            std::size_t most_values = static_cast<std::size_t>(-1));

/// Reads datasets of a group from the file, in blocks of rows, of several side by side.
class RowsReader {
 public:
  RowsReader(std::filesystem::path path, const Group& group, const std::vector<const Dataset*>& datasets);
  ~RowsReader();
  RowsReader(const RowsReader&) = delete;
  RowsReader& operator=(const RowsReader&) = delete;

  /// Until at least the first `num_rows` rows of each were read (or all, if it has fewer): of the one with the fewest
  /// rows read so far next, so that they can be written side by side. @throws InputError (io).
  void read_until(std::size_t num_rows,
                  const std::function<void(const Dataset& dataset, std::span<const double> rows)>& take);

 private:
  struct UnderWay;
  std::filesystem::path path_;
  const Group& group_;
  std::vector<UnderWay> left_;
};

/// All rows.
void read_rows(const std::filesystem::path& path, const Group& group, const std::vector<const Dataset*>& datasets,
               const std::function<void(const Dataset& dataset, std::span<const double> rows)>& take);

/// SHA-256 over names, shapes, attributes and values of a tree; content_sha256 itself left out. @pre all values are
/// there.
std::string digest_tree(const ResultTree& tree);

}  // namespace spectrace
