#include "spectrace/text/delimited_file.hpp"

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

class DelimitedParser {
 public:
  DelimitedParser(std::string_view text, char delimiter, const std::string& document)
      : text_(text), delimiter_(delimiter), document_(document) {}

  std::vector<DelimitedRecord> run() {
    std::vector<DelimitedRecord> records;
    while (at_ < text_.size()) {
      if (take_line_end()) continue;
      DelimitedRecord record{line_, {}};
      do {
        record.fields.push_back(take_field());
      } while (take_delimiter());
      if (at_ < text_.size() && !take_line_end()) throw error("has text behind a closing quote");
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  bool take_delimiter() {
    if (at_ == text_.size() || text_[at_] != delimiter_) return false;
    ++at_;
    return true;
  }

  bool at_line_end() const { return at_ < text_.size() && (text_[at_] == '\n' || text_.substr(at_, 2) == "\r\n"); }

  bool take_line_end() {
    if (!at_line_end()) return false;
    at_ += text_[at_] == '\r' ? 2 : 1;
    ++line_;
    return true;
  }

  std::string take_field() {
    if (at_ < text_.size() && text_[at_] == '"') return take_quoted_field();
    std::string field;
    for (; at_ < text_.size() && text_[at_] != delimiter_ && !at_line_end(); ++at_) {
      if (text_[at_] == '"') throw error("has a quote inside a field that does not start with one");
      field += text_[at_];
    }
    return field;
  }

  std::string take_quoted_field() {
    const std::size_t first_line = line_;
    std::string field;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        if (text_.substr(at_, 2) != "\"\"") {
          ++at_;
          return field;
        }
        ++at_;
      }
      if (text_[at_] == '\n') ++line_;
      field += text_[at_];
    }
    line_ = first_line;
    throw error("has a quote that is never closed");
  }

  InputError error(const std::string& problem) const {
    return InputError(
        ErrorKind::usage, document_ + ": line " + std::to_string(line_) + " " + problem, "",
        "Put fields with quotes, delimiters or line breaks in double quotes, and double the quotes in them.");
  }

  std::string_view text_;
  char delimiter_;
  const std::string& document_;
  std::size_t at_ = 0, line_ = 1;
};

}  // namespace

std::vector<DelimitedRecord> parse_delimited(std::string_view text, char delimiter, const std::string& document) {
  return DelimitedParser(text, delimiter, document).run();
}

}  // namespace spectrace::text
