#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace spectrace {

/// What a matrix of a block does. Names, and how heads lie in it, stand in `info`. Latent attention has, in the place
/// of W_K and W_V (and of W_Q, in most models), matrices down to a latent vector and up from it (DeepSeek-AI 2024,
/// arXiv:2405.04434).
enum class MatrixRole { w_q, w_k, w_v, w_o, w_gate, w_up, w_down, w_dq, w_uq, w_dkv, w_kr, w_uk, w_uv };
inline constexpr std::size_t kNumMatrixRoles = 13;

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
                                                                  {"W_down", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_DQ", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_UQ", HeadsOf::query, HeadAxis::rows},
                                                                  {"W_DKV", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_KR", HeadsOf::none, HeadAxis::rows},
                                                                  {"W_UK", HeadsOf::query, HeadAxis::rows},
                                                                  {"W_UV", HeadsOf::query, HeadAxis::rows}}};
  return roles[static_cast<std::size_t>(role)];
}

/// Roles in the order in which results have them.
using MatrixRoles = std::vector<MatrixRole>;

inline constexpr std::array kAttentionRoles = {MatrixRole::w_q, MatrixRole::w_k, MatrixRole::w_v, MatrixRole::w_o};
inline MatrixRoles attention_roles() { return {kAttentionRoles.begin(), kAttentionRoles.end()}; }

/// Of any attention, in the order in which a token meets them.
inline MatrixRoles all_attention_roles() {
  return {MatrixRole::w_dq, MatrixRole::w_uq, MatrixRole::w_q,  MatrixRole::w_dkv, MatrixRole::w_kr,
          MatrixRole::w_uk, MatrixRole::w_k,  MatrixRole::w_uv, MatrixRole::w_v,   MatrixRole::w_o};
}
inline bool has_role(const MatrixRoles& roles, MatrixRole role) {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}
/// Those that are not there yet.
inline void add_roles(MatrixRoles& roles, const MatrixRoles& more) {
  for (const MatrixRole role : more)
    if (!has_role(roles, role)) roles.push_back(role);
}

}  // namespace spectrace
