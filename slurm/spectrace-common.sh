# shellcheck shell=bash disable=SC2154
# Sourced by the batch scripts of this folder: finds the program, starts the ranks, passes signals on, queues again.
# Variables that it reads, all optional:
#   SPECTRACE                   the program; else `spectrace` of PATH, else the checkout's build/release/spectrace
#   SPECTRACE_LAUNCHER          srun (default) or mpirun
#   SPECTRACE_LAUNCHER_OPTIONS  more words for it, e.g. --mpi=pmix_v4
#   SPECTRACE_REQUEUE           yes or no: ask to be queued again after exit 75 (default: what the script says)
#   SPECTRACE_MAX_RESTARTS      no more than so many times (50)
#   SPECTRACE_SBATCH_OPTIONS    what sbatch was called with, for sites without scontrol on the compute nodes

say() { echo "spectrace-slurm: $*" >&2; }
die() { say "$@"; exit 2; }

[ -n "${SLURM_JOB_ID:-}" ] || die "this is no Slurm job (SLURM_JOB_ID is not set). Submit it: sbatch SCRIPT JOB.json"

# Of an array, this element alone: a requeue of SLURM_ARRAY_JOB_ID would be one of the whole array.
job_id="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}"
job_id="${job_id:-$SLURM_JOB_ID}"

find_program() {
  local candidate
  if [ -n "${SPECTRACE:-}" ]; then
    command -v "$SPECTRACE" > /dev/null && return
    die "SPECTRACE is '$SPECTRACE', which is no program on $(hostname). Name one that every node sees."
  fi
  for candidate in spectrace "$slurm_folder/../build/release/spectrace" "$slurm_folder/../../../bin/spectrace"; do
    if command -v "$candidate" > /dev/null; then SPECTRACE=$(command -v "$candidate"); return; fi
  done
  die "no spectrace in PATH and none beside $slurm_folder. Build it with tools/setup, or say where it is: export SPECTRACE=/path/to/spectrace"
}

launch_command() {
  local cpus="${SLURM_CPUS_PER_TASK:-1}"
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}"
  case "${SPECTRACE_LAUNCHER:-srun}" in
    # --kill-on-bad-exit: a dead rank ends the others; without it they wait until the time limit.
    # --cpus-per-task: a step does not inherit it from the job.
    srun) command=(srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="$cpus") ;;
    # mpirun binds by slots, which are tasks here and not cores: unbound, each rank has the cores of its node.
    # Slurm's TERM reaches mpirun and its daemons too, which would kill the ranks after a second: blocked there (the ranks
    # start with nothing blocked), the ranks have until KillWait. Old coreutils cannot.
    mpirun)
      command=(mpirun --bind-to none -x OMP_NUM_THREADS)
      if env --block-signal=TERM true 2> /dev/null; then
        command=(env --block-signal=TERM mpirun --mca orte_launch_agent "env --block-signal=TERM orted" --bind-to none -x OMP_NUM_THREADS)
      fi ;;
    *) die "SPECTRACE_LAUNCHER is '$SPECTRACE_LAUNCHER' (expected srun or mpirun)" ;;
  esac
  command -v "${SPECTRACE_LAUNCHER:-srun}" > /dev/null || die "no ${SPECTRACE_LAUNCHER:-srun} on $(hostname). Load its module, or set SPECTRACE_LAUNCHER to srun or mpirun."
  local words
  read -ra words <<< "${SPECTRACE_LAUNCHER_OPTIONS:-}"
  command+=("${words[@]+"${words[@]}"}" "$SPECTRACE" run "$@")
}

# job_field JOB output|models: what a job file says; comments are allowed in it.
job_field() {
  python3 - "$@" 2> /dev/null <<'PYTHON'
import json, re, sys
text = open(sys.argv[1], encoding="utf-8").read()
keep = lambda m: m[0] if m[0].startswith('"') else " "
job = json.loads(re.sub(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', keep, text, flags=re.S))
print(*([m["name"] for m in job["models"]] if sys.argv[2] == "models" else [job.get("output", job["name"])]), sep="\n")
PYTHON
}

# The results folder of `run "$@"`; nothing is printed where it cannot be told.
output_folder() {
  local output='' job='' folder
  while [ $# -gt 0 ]; do
    case "$1" in
      -o|--output) output=${2:-}; shift ;;
      --output=*) output=${1#--output=} ;;
      -o?*) output=${1#-o} ;;
      --model|--reduce|--device|--dtype|--max-memory|--max-hours|--threads|--stages|--deadline|--io|--log-level) shift ;;
      -*) ;;
      *) job=${job:-$1} ;;
    esac
    shift $(($# > 0 ? 1 : 0))
  done
  if [ -n "$output" ]; then echo "$output"; return; fi
  [ -f "$job" ] || return 0
  folder=$(job_field "$job" output) || return 0
  case "$folder" in
    /*) echo "$folder" ;;
    *) echo "$(dirname "$job")/$folder" ;;
  esac
}

# progress_field state|fraction: of progress.json, without jq.
progress_field() {
  sed -n 's/.*"'"$1"'"[[:space:]]*:[[:space:]]*"\{0,1\}\([A-Za-z0-9.+-]*\).*/\1/p' "$output/progress.json" 2> /dev/null | head -n 1
}

# Which progress.json is there: another one after each write, whatever the clocks of the file server say.
progress_id() { stat -c '%i %Y %y' "$output/progress.json" 2> /dev/null; }

received='' child='' interrupted=no
on_signal() {
  interrupted=yes
  received="$received $1"
  say "$(date '+%Y-%m-%d %H:%M:%S') SIG$1: the ranks are asked to stop"
  # Always USR1: both launchers pass it to every rank and live on. Of TERM, mpirun kills the ranks after a second.
  if [ -n "$child" ]; then kill -USR1 "$child" 2> /dev/null; fi
}

# CONT is never trapped: Slurm sends it with each other signal, and bash then loses the other one's trap now and then.
run_ranks() {
  trap 'on_signal USR1' USR1
  trap 'on_signal TERM' TERM
  trap 'on_signal INT' INT
  "${command[@]}" &
  child=$!
  while :; do
    interrupted=no
    wait "$child"
    code=$?
    # A signal ends `wait` and not the child.
    if [ "$interrupted" = no ]; then break; fi
  done
}

# Why no further start is asked for; nothing where one is.
reason_against_requeue() {
  if [ "${SPECTRACE_REQUEUE:-$requeue}" != yes ]; then echo "this script does not requeue"; return; fi
  case "$received" in
    *TERM*)
      # scancel, a preemption, a requeue from outside: Slurm has decided already. At the time limit it is for us to ask.
      case "$(scontrol show job -o "$job_id" 2> /dev/null)" in
        *Reason=TimeLimit*) ;;
        *) echo "it was cancelled or preempted"; return ;;
      esac ;;
    *INT*) echo "it was interrupted"; return ;;
  esac
  if [ "$restarts" -ge "$max_restarts" ]; then echo "it was restarted $restarts times (SPECTRACE_MAX_RESTARTS)"; return; fi
  if [ -n "$before" ] && [ "$before" = "$fraction" ]; then
    echo "nothing was finished since the start before (fraction $fraction). Give it more time, or a larger --signal=B:USR1@SECONDS"
  fi
}

queue_again() {
  if command -v scontrol > /dev/null; then
    scontrol requeue "$job_id"
    return
  fi
  if command -v sbatch > /dev/null; then
    local options
    read -ra options <<< "${SPECTRACE_SBATCH_OPTIONS:-}"
    # $0 is the copy of the script that runs; its #SBATCH lines count again. A new job: the count of restarts goes along.
    SPECTRACE_RESTARTS=$((restarts + 1)) SPECTRACE_FIRST_JOB=$first_job SPECTRACE_SLURM=$slurm_folder \
      sbatch --export=ALL --dependency="afterany:$job_id" --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_NTASKS" \
      ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} --partition="$SLURM_JOB_PARTITION" \
      --job-name="$SLURM_JOB_NAME" ${SLURM_ARRAY_TASK_ID:+--array="$SLURM_ARRAY_TASK_ID"} "${options[@]+"${options[@]}"}" "$0" "${script_arguments[@]}"
    return
  fi
  say "neither scontrol nor sbatch on $(hostname): submit the same command again, or ask your site for RequeueExit=75"
  return 1
}

# spectrace_run REQUEUE ARGUMENTS...: `spectrace run ARGUMENTS` on all ranks; ends the script with the program's exit code.
# script_arguments holds the script's own.
spectrace_run() {
  local requeue=$1 output history restarts max_restarts before fraction reason first_job code progress_before ran=yes
  shift
  find_program
  local command=()
  launch_command "$@"
  output=$(output_folder "$@")
  restarts=$((${SLURM_RESTART_COUNT:-0} + ${SPECTRACE_RESTARTS:-0}))
  max_restarts=${SPECTRACE_MAX_RESTARTS:-50}
  first_job=${SPECTRACE_FIRST_JOB:-$job_id}
  history="$output/logs/slurm-history.txt"
  progress_before=$(progress_id)
  say "job $job_id, start $((restarts + 1)), nodes ${SLURM_JOB_NODELIST:-?}: ${command[*]}"

  run_ranks
  if [ -n "$output" ] && [ "$(progress_id)" = "$progress_before" ]; then ran=no; fi
  # srun ends with 0 where the ranks could not be started at all.
  if [ "$code" = 0 ] && [ "$ran" = no ]; then code=3; fi
  fraction=$(progress_field fraction)
  # Asked to stop, launchers end with other codes too: srun with 143 where the first rank to leave makes it end the others,
  # mpirun with 1 where Slurm's TERM reached it as well, either with 138 where USR1 came before they were ready for it.
  if [ -n "$received" ] && [ "$code" != 0 ]; then
    if [ "$code" = 138 ] || { [ "$ran" = yes ] && [ "$(progress_field state)" = stopped ]; }; then
      code=75
    fi
  fi
  before=$(awk -v id="$first_job" '$3 == id { fraction = $6 } END { print fraction }' "$history" 2> /dev/null)
  if [ -n "$output" ] && [ -d "$output/logs" ]; then
    echo "$(date '+%Y-%m-%d %H:%M:%S') $first_job $((restarts + 1)) $code ${fraction:-}" >> "$history"
  fi

  if [ "$code" = 75 ]; then
    reason=$(reason_against_requeue)
    if [ -n "$reason" ]; then
      say "stopped, what is finished is safe; not queued again: $reason. Submit the same command again to go on."
    elif queue_again; then
      say "stopped, what is finished is safe; queued again"
    else
      say "stopped, what is finished is safe; queueing it again failed. Submit the same command again to go on."
    fi
  elif [ -n "$received" ] && [ "$code" != 0 ]; then
    say "ended with exit code $code after$received, before the ranks had stopped. What is finished is safe; submit the same command again to go on."
  elif [ "$ran" = no ]; then
    say "ended with exit code $code; the ranks have written no $output/progress.json. Were they started? Their errors stand above."
  elif [ "$code" -gt 3 ]; then
    say "ended with exit code $code: a rank was lost. What is finished is safe; submit the same command again to go on."
  fi
  exit "$code"
}
