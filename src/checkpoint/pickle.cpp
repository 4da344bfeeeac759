// Opcodes as in CPython's Lib/pickletools.py.
#include "spectrace/checkpoint/pickle.hpp"

#include <cstring>
#include <map>
#include <utility>

#include "spectrace/core/error.hpp"

namespace spectrace {
namespace {

/// Some 30 values describe a tensor: far more than any checkpoint needs, and what a hostile file costs at most. On the
/// stack, and of marks in it, there are no more either.
constexpr std::size_t max_num_values = 4'000'000;

std::string hex(std::uint8_t byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  return {'0', 'x', digits[byte >> 4], digits[byte & 15]};
}

class Machine {
 public:
  Machine(std::string_view bytes, const std::string& document,
          const std::function<bool(std::string_view)>& allow_global)
      : bytes_(bytes), document_(document), allow_global_(allow_global) {
    none_ = make(PickleKind::none);
    false_ = make(PickleKind::boolean);
    true_ = make(PickleKind::boolean, 1);
    empty_tuple_ = make(PickleKind::tuple);
  }

  Pickle run() {
    for (;;) {
      opcode_at_ = at_;
      const auto opcode = number<std::uint8_t>();
      if (opcode == '.') break;
      if (!run_constant(opcode) && !run_text(opcode) && !run_container(opcode) && !run_memo(opcode) &&
          !run_object(opcode))
        throw error("the pickle opcode " + hex(opcode) + " is not allowed", "torch.save does not write it for weights");
    }
    const int root = pop();
    if (!stack_.empty() || !marks_.empty()) throw error("the pickle ends with values left over");
    return Pickle{std::move(values_), root};
  }

 private:
  InputError error(const std::string& problem, std::string why = {}) const {
    return InputError(
        ErrorKind::model, document_ + ": byte " + std::to_string(opcode_at_) + ": " + problem, std::move(why),
        "Load the file in Python in a place that you trust, and save only its state_dict, as safetensors.");
  }

  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) throw error("the pickle is cut short");
    const auto part = bytes_.substr(at_, size);
    at_ += size;
    return part;
  }

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view line() {
    const auto end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) throw error("the pickle is cut short");
    const auto text = take(end - at_);
    ++at_;
    return text;
  }

  int make(PickleKind kind, std::int64_t integer = 0, std::string text = {}, std::vector<int> items = {}) {
    if (values_.size() >= max_num_values) throw error("the pickle holds too many values");
    count_items(items.size());
    values_.push_back(PickleValue{kind, integer, std::move(text), std::move(items)});
    return static_cast<int>(values_.size()) - 1;
  }

  /// An item of a container takes at least a byte of the pickle that names it. Without this bound a list that is
  /// remembered once and made a dict again and again would grow to any size.
  void expect_room_for_items(std::size_t count) const {
    if (count > bytes_.size() - num_items_) throw error("the pickle makes more of its values than it has bytes");
  }

  void count_items(std::size_t count) {
    expect_room_for_items(count);
    num_items_ += count;
  }

  PickleValue& value(int place) { return values_[static_cast<std::size_t>(place)]; }

  void push(int place) {
    if (stack_.size() >= max_num_values) throw error("the pickle holds too many values");
    stack_.push_back(place);
  }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  int top() const {
    if (stack_.size() <= floor()) throw error("the pickle takes a value where none is");
    return stack_.back();
  }

  int pop() {
    const int place = top();
    stack_.pop_back();
    return place;
  }

  std::vector<int> pop_to_mark() {
    if (marks_.empty()) throw error("the pickle takes a mark where none is");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<int> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }

  std::vector<int> pop_count(std::size_t count) {
    std::vector<int> items(count);
    while (count-- > 0) items[count] = pop();
    return items;
  }

  bool run_constant(std::uint8_t opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (const int protocol = number<std::uint8_t>(); protocol < 2 || protocol > 5)
          throw error("the pickle's protocol " + std::to_string(protocol) + " is unknown", "allowed: 2 to 5");
        return true;
      case 0x95: number<std::uint64_t>(); return true;  // FRAME: a hint for readers of streams
      case 'N': push(none_); return true;
      case 0x88: push(true_); return true;
      case 0x89: push(false_); return true;
      case 'J': push(make(PickleKind::integer, number<std::int32_t>())); return true;
      case 'K': push(make(PickleKind::integer, number<std::uint8_t>())); return true;
      case 'M': push(make(PickleKind::integer, number<std::uint16_t>())); return true;
      case 0x8a: push_long(number<std::uint8_t>()); return true;   // LONG1
      case 0x8b: push_long(number<std::uint32_t>()); return true;  // LONG4
      case 'G': number<std::uint64_t>(), push(make(PickleKind::opaque)); return true;
      default: return false;
    }
  }

  /// Little-endian two's complement.
  void push_long(std::uint64_t size) {
    const auto digits = take(size);
    if (size > 8) return push(make(PickleKind::opaque));
    std::uint64_t integer = size > 0 && (digits.back() & 0x80) ? ~std::uint64_t{0} : 0;
    std::memcpy(&integer, digits.data(), digits.size());
    push(make(PickleKind::integer, static_cast<std::int64_t>(integer)));
  }

  void push_text(PickleKind kind, std::uint64_t size) { push(make(kind, 0, std::string(take(size)))); }

  bool run_text(std::uint8_t opcode) {
    switch (opcode) {
      case 'X': push_text(PickleKind::text, number<std::uint32_t>()); return true;
      case 0x8c: push_text(PickleKind::text, number<std::uint8_t>()); return true;
      case 0x8d: push_text(PickleKind::text, number<std::uint64_t>()); return true;
      case 'U': push_text(PickleKind::text, number<std::uint8_t>()); return true;  // Python 2's str
      case 'T': push_text(PickleKind::text, number<std::uint32_t>()); return true;
      case 'C': push_text(PickleKind::bytes, number<std::uint8_t>()); return true;
      case 'B': push_text(PickleKind::bytes, number<std::uint32_t>()); return true;
      case 0x8e: push_text(PickleKind::bytes, number<std::uint64_t>()); return true;
      default: return false;
    }
  }

  /// The list or dict on top, to be added to.
  PickleValue& container(PickleKind kind) {
    auto& target = value(top());
    if (target.kind != kind)
      throw error(kind == PickleKind::dict ? "the pickle sets a key of what is not a dict"
                                           : "the pickle appends to what is not a list");
    return target;
  }

  void add(PickleKind kind, const std::vector<int>& items) {
    if (kind == PickleKind::dict && items.size() % 2 != 0) throw error("the pickle sets a key without a value");
    auto& target = container(kind);
    count_items(items.size());
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  void push_dict(std::vector<int> items) {
    if (items.size() % 2 != 0) throw error("the pickle sets a key without a value");
    push(make(PickleKind::dict, 0, {}, std::move(items)));
  }

  void push_mark() {
    if (marks_.size() >= max_num_values) throw error("the pickle holds too many marks");
    marks_.push_back(stack_.size());
  }

  bool run_container(std::uint8_t opcode) {
    switch (opcode) {
      case '(': push_mark(); return true;
      case ')': push(empty_tuple_); return true;
      case 't': push(make(PickleKind::tuple, 0, {}, pop_to_mark())); return true;
      case 0x85: push(make(PickleKind::tuple, 0, {}, pop_count(1))); return true;
      case 0x86: push(make(PickleKind::tuple, 0, {}, pop_count(2))); return true;
      case 0x87: push(make(PickleKind::tuple, 0, {}, pop_count(3))); return true;
      case ']': push(make(PickleKind::list)); return true;
      case 'l': push(make(PickleKind::list, 0, {}, pop_to_mark())); return true;
      case 'a': add(PickleKind::list, pop_count(1)); return true;
      case 'e': add(PickleKind::list, pop_to_mark()); return true;
      case '}': push(make(PickleKind::dict)); return true;
      case 'd': push_dict(pop_to_mark()); return true;
      case 's': add(PickleKind::dict, pop_count(2)); return true;
      case 'u': add(PickleKind::dict, pop_to_mark()); return true;
      default: return false;
    }
  }

  void remember(std::uint32_t key) { memo_[key] = top(); }

  void recall(std::uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end())
      throw error("the pickle recalls value " + std::to_string(key) + ", which it never stored");
    push(found->second);
  }

  bool run_memo(std::uint8_t opcode) {
    switch (opcode) {
      case 'q': remember(number<std::uint8_t>()); return true;
      case 'r': remember(number<std::uint32_t>()); return true;
      case 0x94: remember(static_cast<std::uint32_t>(memo_.size())); return true;  // MEMOIZE
      case 'h': recall(number<std::uint8_t>()); return true;
      case 'j': recall(number<std::uint32_t>()); return true;
      case '0': pop(); return true;
      case '1': pop_to_mark(); return true;
      case '2': push(top()); return true;
      default: return false;
    }
  }

  void push_global(std::string_view module, std::string_view name) {
    std::string full = std::string(module) + "." + std::string(name);
    if (!allow_global_(full))
      throw error("the pickle asks for the Python object '" + full + "'", "only plain state dicts of tensors are read");
    push(make(PickleKind::global, 0, std::move(full)));
  }

  void push_stack_global() {
    const int name = pop(), module = pop();
    if (value(name).kind != PickleKind::text || value(module).kind != PickleKind::text)
      throw error("the pickle names a Python object by what is not a text");
    push_global(value(module).text, value(name).text);
  }

  void push_call() {
    const int arguments = pop(), callable = pop();
    if (value(callable).kind != PickleKind::global || value(arguments).kind != PickleKind::tuple)
      throw error("the pickle calls what is not a known function");
    if (value(callable).text != "collections.OrderedDict")
      return push(make(PickleKind::call, 0, {}, {callable, arguments}));
    if (value(arguments).items.empty()) return push(make(PickleKind::dict));
    // Protocol 2 of old Pythons: OrderedDict([[key, value], ...])
    const std::vector<int>& pairs = value(value(arguments).items.front()).items;
    expect_room_for_items(2 * pairs.size());  // before they are gathered
    std::vector<int> items;
    for (const int pair : pairs) {
      if (value(pair).items.size() != 2) throw error("the pickle makes an OrderedDict of what is not a list of pairs");
      items.insert(items.end(), value(pair).items.begin(), value(pair).items.end());
    }
    push_dict(std::move(items));
  }

  bool run_object(std::uint8_t opcode) {
    switch (opcode) {
      case 'c': {
        const auto module = line();
        push_global(module, line());
        return true;
      }
      case 0x93: push_stack_global(); return true;
      case 'R':                             // REDUCE
      case 0x81: push_call(); return true;  // NEWOBJ
      case 'Q': push(make(PickleKind::persistent, 0, {}, {pop()})); return true;
      case 'b':  // BUILD sets attributes: an OrderedDict's are _metadata, which holds versions only
        pop();
        if (value(top()).kind != PickleKind::dict)
          throw error("the pickle sets attributes of what is not an OrderedDict");
        return true;
      default: return false;
    }
  }

  std::string_view bytes_;
  const std::string& document_;
  const std::function<bool(std::string_view)>& allow_global_;
  std::size_t at_ = 0, opcode_at_ = 0;
  std::size_t num_items_ = 0;  ///< in all containers
  std::vector<PickleValue> values_;
  std::vector<int> stack_;
  std::vector<std::size_t> marks_;     ///< heights of the stack
  std::map<std::uint32_t, int> memo_;  // a hash of foreign keys could be made to collide
  int none_ = 0, false_ = 0, true_ = 0, empty_tuple_ = 0;
};

}  // namespace

Pickle read_pickle(std::string_view bytes, const std::string& document,
                   const std::function<bool(std::string_view)>& allow_global) {
  return Machine(bytes, document, allow_global).run();
}

}  // namespace spectrace
