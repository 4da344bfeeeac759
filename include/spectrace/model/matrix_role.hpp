#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace spectrace {

/// What a matrix of a block does. Names, and how heads lie in it, stand in `info`.
enum class MatrixRole { w_q, w_k, w_v, w_o, w_gate, w_up, w_down };
inline constexpr std::size_t kNumMatrixRoles = 7;

/// Whose slices a matrix is made of.
enum class HeadsOf { none, query, kv };
/// Along what they lie: W_Q, W_K and W_V have a head's rows together, W_O its columns.
enum class HeadAxis { rows, columns };

struct MatrixRoleInfo {
  const char* name;  ///< as in the results: "W_Q"
  HeadsOf heads;
  HeadAxis axis;
};

constexpr MatrixRoleInfo info(MatrixRole role) {
  constexpr std::array<MatrixRoleInfo, kNumMatrixRoles> roles = {{{"W_Q", HeadsOf::query, HeadAxis::rows},
                                                                  {"W_K", HeadsOf::kv, HeadAxis::rows},
                                                                  {"W_V", HeadsOf::kv, HeadAxis::rows},
                                                                  {"W_O", HeadsOf::query, HeadAxis::columns},
                                                                  {"W_gate", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_up", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_down", HeadsOf::none, HeadAxis::rows}}};
  return roles[static_cast<std::size_t>(role)];
}

/// Roles in the order in which results have them.
using MatrixRoles = std::vector<MatrixRole>;

inline constexpr std::array kAttentionRoles = {MatrixRole::w_q, MatrixRole::w_k, MatrixRole::w_v, MatrixRole::w_o};
inline MatrixRoles attention_roles() { return {kAttentionRoles.begin(), kAttentionRoles.end()}; }

inline bool has_role(const MatrixRoles& roles, MatrixRole role) {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}
/// Those that are not there yet.
inline void add_roles(MatrixRoles& roles, const MatrixRoles& more) {
  for (const MatrixRole role : more)
    if (!has_role(roles, role)) roles.push_back(role);
}

}  // namespace spectrace
