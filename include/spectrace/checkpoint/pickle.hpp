#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace spectrace {

/// A value that a pickle describes. Nothing is ever called: what Python would make by a call stays as the call itself.
struct PickleValue {
  enum class Kind {
    none,
    boolean,
    integer,     ///< `integer`
    opaque,      ///< a number that no checkpoint header needs: float, integer of more than 64 bits
    text,        ///< `text`
    bytes,       ///< `text`
    tuple,       ///< `items`
    list,        ///< `items`
    dict,        ///< `items`: key, value, key, value, ...; collections.OrderedDict too
    global,      ///< `text`: "module.name"
    call,        ///< `items`: what is called, its arguments (a tuple)
    persistent,  ///< `items`: the id that stands for something outside the pickle
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  std::string text;
  std::vector<int> items;  ///< places in Pickle::values; a value may be in several, even in itself
};
using PickleKind = PickleValue::Kind;

struct Pickle {
  std::vector<PickleValue> values;
  int root = 0;

  const PickleValue& at(int place) const { return values[static_cast<std::size_t>(place)]; }
};

/// Reads a pickle (protocols 2 to 5, the opcodes that Python writes for plain containers) without running anything.
/// A global is refused unless `allow_global("module.name")`. Containers may be shared and hold themselves: whoever
/// walks the values has to bound the depth.
/// @throws InputError (model): `document`, the byte, and the opcode or global by name.
Pickle read_pickle(std::string_view bytes, const std::string& document,
                   const std::function<bool(std::string_view)>& allow_global);

}  // namespace spectrace
