# Sourced by tools/setup, tools/test and tools/demo: the checkout's root, and steps that say one line each.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
mkdir -p build .cache

# Nothing outside the checkout is written, not by the tools that are called either.
export MPLCONFIGDIR="$root/.cache/matplotlib" HF_HOME="$root/.cache/huggingface"
export XDG_CACHE_HOME="$root/.cache" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

now_us() { echo "${EPOCHREALTIME/[.,]/}"; }

# run_step NAME COMMAND...: the command's output goes to the end of $steps_log; on a failure its tail is shown and 1 is returned.
# The command runs in a subshell with `set -e`, so a function stops at its first failing line (but not where run_step stands
# in a condition: bash ignores -e in all that is called from there).
run_step() {
  local name=$1 start code=0 first_line options=$-
  shift
  start=$(now_us)
  printf '%-44s' "$name"
  printf '\n== %s: %s\n' "$name" "$*" >> "$steps_log"
  first_line=$(wc -l < "$steps_log")
  set +e
  ( set -e; "$@" ) >> "$steps_log" 2>&1
  code=$?
  if [[ $options == *e* ]]; then set -e; fi
  local spent=$(( $(now_us) - start ))
  if [ "$code" = 0 ]; then
    printf '%7d.%d s\n' $((spent / 1000000)) $((spent / 100000 % 10))
    return 0
  fi
  printf ' FAILED (exit %s) after %d s. The end of %s:\n' "$code" $((spent / 1000000)) "${steps_log#"$root"/}"
  tail -n "+$((first_line + 1))" "$steps_log" | tail -n 30 | sed 's/^/    /'
  return 1
}

# hash_of TEXT_OR_FILE...: of the files' contents where they are files, else of the text itself.
hash_of() {
  local thing
  for thing in "$@"; do
    if [ -f "$thing" ]; then cat "$thing"; else printf '%s\n' "$thing"; fi
  done | sha256sum | cut -d' ' -f1
}

# As many compilers as there are cores, and as memory allows: a file that includes libtorch takes about 1.2 GB.
build_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1200000)}' /proc/meminfo)
  [ "$memory" -ge 1 ] || memory=1
  echo $((cores < memory ? cores : memory))
}

# mpirun as the tests and the demo call it: more ranks than cores, in containers, as root where the caller is root.
set_mpi_environment() {
  export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
}
