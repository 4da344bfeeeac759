#pragma once

#include <cstddef>
#include <optional>

#include "spectrace/results/output_folder.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Larger datasets of earlier results stay in their file.
inline constexpr std::size_t kMostValuesInMemory = 1 << 19;

/// Results that are there and may be built upon; nothing if there are none. The tree has all that building upon it
/// relies on: the attribute `identity`, a /checkpoint, and in what it has of the catalogue's datasets their types and
/// dimensions.
/// @throws InputError (model) if the file cannot be read, is damaged or is no such file, (usage) if it is of another
/// format.
std::optional<ResultTree> read_earlier_results(const Job& job, const ModelEntry& entry, WrongDigest wrong_digest);

/// Results can be put in the model's place, and its journal beside them. @throws InputError (model) if something that
/// is not ours lies there.
void expect_room_for_results(const Job& job, const ModelEntry& entry);

}  // namespace spectrace
