"""The batch scripts in a Slurm of three nodes: runs end, stop, are queued again and lose ranks and nodes; the bytes stay those of one rank."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import slurm_lab
from program import ENVIRONMENT, PROGRAM, ROOT, bytes_of
from slurm_lab import SlurmLab, wait_for
from sweeps import Reference, in_the_middle, make_demo_job, progress

SCRIPTS = ROOT / "slurm"
THREE_NODES = ("--nodes=3", "--ntasks=3", "--cpus-per-task=1")

pytestmark = pytest.mark.skipif(bool(slurm_lab.why_not()), reason=slurm_lab.why_not() or "-")


@pytest.fixture(scope="module")
def lab():
    lab = SlurmLab(ENVIRONMENT)
    lab.environment["SPECTRACE"] = str(PROGRAM)
    plugins = subprocess.run(["srun", "--mpi=list"], env=lab.environment, capture_output=True, text=True)
    if "pmix" not in plugins.stdout + plugins.stderr:
        lab.stop()
        pytest.skip("this Slurm has no PMIx (srun --mpi=list)")
    yield lab
    lab.stop()


@pytest.fixture(autouse=True)
def no_jobs_left(request):
    yield
    if "lab" in request.fixturenames:
        lab = request.getfixturevalue("lab")
        lab.call("scancel", "--user=root", check=False)
        wait_for(lambda: not lab.call("squeue", "-h", check=False).strip(), 30, "jobs do not end")


def output_of(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))


def ended(lab, job, folder, state="COMPLETED", **options):
    fields = lab.wait_over(job, **options)
    assert {one["JobState"] for one in fields} == {state}, f"{fields}\n{output_of(folder)}"
    return fields[0]


def start(lab, reference, folder, script="requeue.sbatch", options=THREE_NODES, environment=None, **more):
    """Submits; returns the job and its results folder when it is in the middle of its work."""
    path = reference.copy(folder)
    job = lab.submit(SCRIPTS / script, path.name, options=options, environment=environment, cwd=folder)
    results = folder / "job"
    wait_for(lambda: in_the_middle(results), 60, "the run does not get going", lambda: output_of(folder))
    return job, results


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_three_nodes(lab, short, tmp_path, launcher):
    path = short.copy(tmp_path)
    job = lab.submit(SCRIPTS / "cpu.sbatch", path.name, options=(*THREE_NODES, "--ntasks-per-node=1"), environment={"SPECTRACE_LAUNCHER": launcher}, cwd=tmp_path)
    ended(lab, job, tmp_path)
    assert "3 ranks" in output_of(tmp_path)
    assert bytes_of(tmp_path / "job") == short.bytes


def test_a_rank_for_each_gpu(lab, short, tmp_path):
    """Slurm counts two GPUs a node here; the program finds none and computes on the cores."""
    path = short.copy(tmp_path)
    job = lab.submit(SCRIPTS / "gpu.sbatch", path.name, options=("--nodes=2", "--gpus-per-node=2", "--ntasks-per-node=2", "--cpus-per-task=2"), cwd=tmp_path)
    ended(lab, job, tmp_path)
    assert "4 ranks" in output_of(tmp_path)
    assert bytes_of(tmp_path / "job") == short.bytes


def test_array_over_job_files(lab, short, tmp_path):
    names = [str(short.copy(tmp_path / name).relative_to(tmp_path)) for name in ("one", "two", "three")]
    (tmp_path / "list").write_text("\n".join(names) + "\n")
    job = lab.submit(SCRIPTS / "array.sbatch", "list", options=("--array=0-3", "--ntasks=2", "--cpus-per-task=1"), cwd=tmp_path)
    fields = {one["ArrayTaskId"]: one for one in lab.wait_over(job)}
    assert [fields[i]["JobState"] for i in "0123"] == ["COMPLETED"] * 3 + ["FAILED"], output_of(tmp_path)
    assert fields["3"]["ExitCode"] == "2:0" and "list has 3 lines, none for element 3" in output_of(tmp_path)
    for name in ("one", "two", "three"):
        assert bytes_of(tmp_path / name / "job") == short.bytes


def test_array_over_models(lab, short, tmp_path):
    """Each element one model in a folder of its own; brought together, the job finds them done and makes the summary."""
    if "--model" not in subprocess.run([PROGRAM, "run", "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this spectrace has no run --model")
    path = short.copy(tmp_path)
    job = lab.submit(SCRIPTS / "array-models.sbatch", path.name, "-o", "job", options=("--array=0-1", "--ntasks=2", "--cpus-per-task=1"), cwd=tmp_path)
    ended(lab, job, tmp_path)
    for name in ("m0", "m1"):
        assert (tmp_path / "job" / name / f"{name}.h5").read_bytes() == short.bytes[f"{name}.h5"]
        for file in (f"{name}.h5", f"{name}.run.json"):
            shutil.move(tmp_path / "job" / name / file, tmp_path / "job" / file)
    subprocess.run([PROGRAM, "run", path], check=True, env=ENVIRONMENT, capture_output=True)
    assert bytes_of(tmp_path / "job") == short.bytes


def test_array_element_is_requeued_alone(lab, longer, short, tmp_path):
    short.copy(tmp_path / "short")
    longer.copy(tmp_path / "longer")
    (tmp_path / "list").write_text("short/job.json\nlonger/job.json\n")
    job = lab.submit(SCRIPTS / "array.sbatch", "list", options=("--array=0-1", "--ntasks=2", "--cpus-per-task=1"), cwd=tmp_path)
    wait_for(lambda: in_the_middle(tmp_path / "longer" / "job"), 60, "the run does not get going", lambda: output_of(tmp_path))
    lab.call("scancel", "--batch", "--signal=USR1", f"{job}_1")
    ended(lab, f"{job}_1", tmp_path, restarts=1)
    assert {one["ArrayTaskId"]: one["Restarts"] for one in lab.wait_over(job)} == {"0": "0", "1": "1"}
    assert bytes_of(tmp_path / "longer" / "job") == longer.bytes
    assert bytes_of(tmp_path / "short" / "job") == short.bytes


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_time_limit_requeues_until_done(lab, longer, tmp_path, launcher):
    """USR1 to the batch shell is what --signal=B:USR1@N sends before the limit."""
    job, results = start(lab, longer, tmp_path, environment={"SPECTRACE_LAUNCHER": launcher})
    lab.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: lab.show(job)[0]["Restarts"] == "1", 30, "not requeued", lambda: output_of(tmp_path))
    assert progress(results)["state"] == "stopped"
    assert "stopped, what is finished is safe; queued again" in output_of(tmp_path)
    ended(lab, job, tmp_path)
    assert bytes_of(results) == longer.bytes
    history = [line.split()[2:5] for line in (results / "logs" / "slurm-history.txt").read_text().splitlines()]
    assert history == [[job, "1", "75"], [job, "2", "0"]]


def test_once_only_script_stops_without_requeue(lab, longer, tmp_path):
    job, results = start(lab, longer, tmp_path, "cpu.sbatch", (*THREE_NODES, "--ntasks-per-node=1"))
    lab.call("scancel", "--batch", "--signal=USR1", job)
    fields = ended(lab, job, tmp_path, "FAILED")
    assert fields["ExitCode"] == "75:0" and fields["Restarts"] == "0"
    again = lab.submit(SCRIPTS / "cpu.sbatch", "job.json", options=("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1"), cwd=tmp_path)
    ended(lab, again, tmp_path)
    assert bytes_of(results) == longer.bytes


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_scancel_stops_cleanly(lab, longer, tmp_path, launcher):
    job, results = start(lab, longer, tmp_path, environment={"SPECTRACE_LAUNCHER": launcher})
    lab.call("scancel", job)
    fields = ended(lab, job, tmp_path, "CANCELLED", timeout=30)
    assert fields["Restarts"] == "0" and fields["ExitCode"] == "75:0", output_of(tmp_path)
    assert progress(results)["state"] == "stopped"
    assert not lab.processes(PROGRAM.name)
    again = lab.submit(SCRIPTS / "requeue.sbatch", "job.json", options=THREE_NODES, cwd=tmp_path)
    ended(lab, again, tmp_path)
    assert bytes_of(results) == longer.bytes


def test_node_down(lab, longer, tmp_path):
    job, results = start(lab, longer, tmp_path)
    lab.call("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    wait_for(lambda: lab.show(job)[0]["Restarts"] == "1", 60, "not requeued", lambda: output_of(tmp_path))
    lab.call("scontrol", "update", "nodename=n2", "state=resume", check=False)  # it may be back by itself
    ended(lab, job, tmp_path)
    assert bytes_of(results) == longer.bytes


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_killed_rank_ends_the_job(lab, longer, tmp_path, launcher):
    job, results = start(lab, longer, tmp_path, environment={"SPECTRACE_LAUNCHER": launcher})
    rank = rank_process(lab, 1)
    killed = time.monotonic()
    os.kill(rank, signal.SIGKILL)
    fields = ended(lab, job, tmp_path, "FAILED", timeout=60)
    assert time.monotonic() - killed < 60
    assert fields["ExitCode"] != "0:0" and "a rank was lost" in output_of(tmp_path)
    again = lab.submit(SCRIPTS / "requeue.sbatch", "job.json", options=THREE_NODES, cwd=tmp_path)
    ended(lab, again, tmp_path)
    assert bytes_of(results) == longer.bytes


def rank_process(lab, rank):
    for pid in lab.processes(PROGRAM.name):
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
        with open(f"/proc/{pid}/comm") as file:
            if file.read().strip() == PROGRAM.name and f"PMIX_RANK={rank}".encode() in variables:
                return pid
    raise AssertionError(f"no rank {rank} among {lab.processes(PROGRAM.name)}")


STUB = """#!/usr/bin/env bash
# In the place of spectrace: stopped at each start, as far as `fractions` says.
[ "$1" = run ] || exit 0
start=$(( $(cat starts 2>/dev/null || echo 0) + 1 ))
echo $start > starts
mkdir -p job/logs
echo "{\\"state\\": \\"stopped\\", \\"fraction\\": $(sed -n ${start}p fractions)}" > job/progress.json
exit $(sed -n ${start}p codes)
"""


def stub(folder, fractions, codes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stub").write_text(STUB)
    (folder / "stub").chmod(0o755)
    (folder / "fractions").write_text("\n".join(map(str, fractions)) + "\n")
    (folder / "codes").write_text("\n".join(map(str, codes)) + "\n")
    (folder / "job.json").write_text('{"name": "job" /* a comment */, "models": []}')
    return {"SPECTRACE": str(folder / "stub")}


@pytest.mark.parametrize(
    "fractions, limit, starts, message",
    [
        ([0.25, 0.5, 0.5], 50, 3, "nothing was finished since the start before (fraction 0.5)"),
        ([0.25, 0.5, 0.75], 1, 2, "it was restarted 1 times (SPECTRACE_MAX_RESTARTS)"),
    ],
)
def test_requeue_ends(lab, tmp_path, fractions, limit, starts, message):
    environment = stub(tmp_path, fractions, [75] * 9) | {"SPECTRACE_MAX_RESTARTS": str(limit)}
    job = lab.submit(SCRIPTS / "requeue.sbatch", "job.json", options=("--ntasks=1", "--cpus-per-task=1"), environment=environment, cwd=tmp_path)
    fields = ended(lab, job, tmp_path, "FAILED", restarts=starts - 1)
    assert fields["ExitCode"] == "75:0"
    assert message in output_of(tmp_path)
    assert (tmp_path / "starts").read_text().strip() == str(starts)


def test_ranks_that_never_started_are_no_success(lab, tmp_path):
    """srun ends with 0 where a step is refused; only what the ranks write tells that they ran."""
    (tmp_path / "job.json").write_text('{"name": "job", "models": []}')
    job = lab.submit(SCRIPTS / "requeue.sbatch", "job.json", options=("--ntasks=1", "--cpus-per-task=1"), environment={"SPECTRACE": "/bin/true"}, cwd=tmp_path)
    assert ended(lab, job, tmp_path, "FAILED")["ExitCode"] == "3:0"
    assert "Were they started?" in output_of(tmp_path)


def path_without(folder, *names):
    """A PATH with every program of this machine but those."""
    folder.mkdir()
    for place in ("/usr/sbin", "/usr/bin"):
        for entry in os.scandir(place):
            link = folder / entry.name
            if entry.name not in names and not link.is_symlink():
                link.symlink_to(entry.path)
    return str(folder)


def test_without_scontrol_a_new_job_goes_on(lab, tmp_path):
    environment = stub(tmp_path, [0.25, 0.5, 1], [75, 75, 0])
    environment |= {"PATH": path_without(tmp_path / "bin", "scontrol"), "SPECTRACE_SLURM": str(SCRIPTS), "SPECTRACE_SBATCH_OPTIONS": "--time=5"}
    job = lab.submit(SCRIPTS / "requeue.sbatch", "job.json", options=("--ntasks=1", "--cpus-per-task=1", "--time=5"), environment=environment, cwd=tmp_path)
    wait_for(lambda: not lab.call("squeue", "-h").strip() and lab.show(job), 60, "does not end", lambda: output_of(tmp_path))
    history = [line.split()[2:5] for line in (tmp_path / "job" / "logs" / "slurm-history.txt").read_text().splitlines()]
    assert history == [[job, "1", "75"], [job, "2", "75"], [job, "3", "0"]], output_of(tmp_path)


def test_without_scontrol_and_sbatch_it_says_what_to_do(lab, tmp_path):
    environment = stub(tmp_path, [0.25], [75])
    environment |= {"PATH": path_without(tmp_path / "bin", "scontrol", "sbatch"), "SPECTRACE_SLURM": str(SCRIPTS)}
    # sbatch itself is found by the caller's PATH.
    done = subprocess.run(
        [shutil.which("sbatch"), "--parsable", "--ntasks=1", "--cpus-per-task=1", SCRIPTS / "requeue.sbatch", "job.json"],
        env=lab.environment | environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    fields = ended(lab, done.stdout.strip(), tmp_path, "FAILED")
    assert fields["ExitCode"] == "75:0"
    assert "neither scontrol nor sbatch" in output_of(tmp_path)


@pytest.mark.parametrize(
    "environment, arguments, message",
    [
        ({"SPECTRACE": "/nowhere/spectrace"}, ["job.json"], "SPECTRACE is '/nowhere/spectrace', which is no program on"),
        ({"SPECTRACE_LAUNCHER": "aprun"}, ["job.json"], "SPECTRACE_LAUNCHER is 'aprun' (expected srun or mpirun)"),
        ({}, [], "which job?"),
    ],
)
def test_wrong_use_is_named(lab, tmp_path, environment, arguments, message):
    job = lab.submit(SCRIPTS / "requeue.sbatch", *arguments, options=("--ntasks=1", "--cpus-per-task=1"), environment=environment, cwd=tmp_path)
    assert ended(lab, job, tmp_path, "FAILED")["ExitCode"] == "2:0"
    assert message in output_of(tmp_path)


def test_program_is_found_beside_the_scripts(lab, tmp_path):
    """SPECTRACE unset, nothing in PATH: the checkout's build, and a clear error where there is none."""
    checkout = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, checkout / "slurm")
    environment = {"SPECTRACE": "", "PATH": lab.environment["PATH"]}
    job = lab.submit(checkout / "slurm" / "cpu.sbatch", "job.json", options=("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1"), environment=environment, cwd=tmp_path)
    assert ended(lab, job, tmp_path, "FAILED")["ExitCode"] == "2:0"
    assert "no spectrace in PATH and none beside" in output_of(tmp_path)
    stub(checkout / "build" / "release", [1], [0])
    (checkout / "build" / "release" / "stub").rename(checkout / "build" / "release" / "spectrace")
    stub(tmp_path, [1], [0])
    job = lab.submit(checkout / "slurm" / "cpu.sbatch", "job.json", options=("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1"), environment=environment, cwd=tmp_path)
    ended(lab, job, tmp_path)


@pytest.mark.long
def test_real_time_limit(lab, tmp_path_factory, tmp_path):
    """Slurm's own signal before a limit of one minute, several times, until the job is done."""
    reference = Reference(tmp_path_factory.mktemp("minutes"), seconds=60)
    job, results = start(lab, reference, tmp_path, options=(*THREE_NODES, "--time=1", "--signal=B:USR1@30"))
    fields = ended(lab, job, tmp_path, timeout=600)
    assert int(fields["Restarts"]) >= 1, output_of(tmp_path)
    assert bytes_of(results) == reference.bytes


@pytest.mark.long
def test_demo_models_through_time_limits(lab, tmp_path_factory, tmp_path):
    reference = Reference(tmp_path_factory.mktemp("demo"), seconds=50, make=make_demo_job)
    job, results = start(lab, reference, tmp_path, options=(*THREE_NODES, "--time=1", "--signal=B:USR1@40"))
    fields = ended(lab, job, tmp_path, timeout=600)
    assert int(fields["Restarts"]) >= 1, output_of(tmp_path)
    assert bytes_of(results) == reference.bytes


@pytest.mark.long
def test_limit_without_warning(lab, tmp_path_factory, tmp_path):
    """No USR1 (URG does nothing): TERM at the limit itself, KillWait seconds to stop in; requeued all the same."""
    reference = Reference(tmp_path_factory.mktemp("minutes"), seconds=110)
    job, results = start(lab, reference, tmp_path, options=("--ntasks=1", "--cpus-per-task=1", "--time=1", "--signal=B:URG@1"))
    fields = lab.wait_over(job, timeout=900)[0]
    # A last start that is done in the very seconds of its limit is a TIMEOUT to Slurm.
    assert fields["JobState"] in ("COMPLETED", "TIMEOUT"), output_of(tmp_path)
    assert int(fields["Restarts"]) >= 1, output_of(tmp_path)
    assert bytes_of(results) == reference.bytes
