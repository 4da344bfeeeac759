# Sourced by tools/setup, tools/test and tools/demo: the checkout's root, and steps that say one line each.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
mkdir -p build .cache

# Nothing outside the checkout is written, not by the tools that are called either.
export MPLCONFIGDIR="$root/.cache/matplotlib" HF_HOME="$root/.cache/huggingface"
export XDG_CACHE_HOME="$root/.cache" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

# cmake and ninja of tools/setup --no-system, where the machine has none.
use_build_tools() {
  if [ -d "$root/.venv/build-tools" ]; then PATH="$root/.venv/build-tools:$PATH"; fi
}
use_build_tools

now_us() { echo "${EPOCHREALTIME/[.,]/}"; }

# show_progress NAME FIRST_LINE MARK: until it is killed, says how far the step is. On a terminal the line of the step is
# written anew each second; elsewhere a line comes every 30 s, and MARK is made as soon as there is one.
# What a build has done is taken from ninja's own "[123/150]" in the log after FIRST_LINE.
show_progress() {
  local name=$1 first_line=$2 mark=$3 wait=30 start=$SECONDS done_of never
  if [ -t 1 ]; then wait=1; fi
  # Nothing ever comes out of this pipe. A `sleep` would outlive the watcher and keep the caller's output open.
  exec {never}<> <(:)
  while ! read -rt "$wait" -u "$never" && kill -0 "$$" 2> /dev/null; do
    done_of=$(tail -n "+$((first_line + 1))" "$steps_log" | grep -aoE '^\[[0-9]+/[0-9]+\]' | tail -n 1) || true
    if [ -t 1 ]; then
      printf '\r%-44s %5d s %s' "$name" $((SECONDS - start)) "$done_of"
    else
      if [ ! -e "$mark" ]; then echo; : > "$mark"; fi
      printf '  %s %s after %d s\n' "$name" "${done_of:-goes on}" $((SECONDS - start))
    fi
  done
}

# run_step NAME COMMAND...: the command's output goes to the end of $steps_log; on a failure its tail is shown and 1 is returned.
# The command runs in a subshell with `set -e`, so a function stops at its first failing line (but not where run_step stands
# in a condition: bash ignores -e in all that is called from there).
run_step() {
  local name=$1 start code=0 first_line options=$- watcher mark="$root/build/.progress-$$"
  shift
  start=$(now_us)
  printf '%-44s' "$name"
  printf '\n== %s: %s\n' "$name" "$*" >> "$steps_log"
  first_line=$(wc -l < "$steps_log")
  rm -f "$mark"
  # The watcher stands in the background, not the command: ^C goes to the command. 9 is the lock of tools/setup.
  show_progress "$name" "$first_line" "$mark" 2> /dev/null 9>&- &
  watcher=$!
  set +e
  ( set -e; "$@" ) >> "$steps_log" 2>&1
  code=$?
  kill "$watcher" 2> /dev/null
  wait "$watcher" 2> /dev/null
  if [[ $options == *e* ]]; then set -e; fi
  local spent=$(( $(now_us) - start ))
  if [ -t 1 ]; then
    printf '\r\033[K%-44s' "$name"
  elif [ -e "$mark" ]; then
    printf '%-44s' "$name"
    rm -f "$mark"
  fi
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

# As many compilers as there are cores, and as memory allows: a module that includes libtorch takes up to 1.5 GB.
build_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
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
