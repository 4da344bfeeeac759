"""What the program opens for writing, creates, renames, removes and speaks to, seen by strace."""

import os
import re
import shutil
import subprocess

import pytest
from models import ids_set, make_llama
from program import DEMO_MODELS, ENVIRONMENT, PROGRAM, write_job

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

CALLS = ("open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,"
         "symlinkat,truncate,chmod,fchmodat,chown,fchownat,mknod,mknodat,utimensat,setxattr,connect,bind,execve")
WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)")
# MPI's session folder and shared memory, and what is nowhere.
OF_MPI = re.compile(r"(/tmp/(ompi|prte|pmix|openmpi|pals)[^/]*(/|$)|/dev/shm/|/dev/(null|tty|ptmx|pts/))")


def trace(tmp_path, *command, check=True):
    """(process, call, arguments) of every call that succeeded."""
    log = tmp_path / "strace"
    log.mkdir()
    done = subprocess.run(["strace", "-ff", "-y", "-s", "4096", "-e", "trace=" + CALLS, "-o", str(log / "t"), *map(str, command)],
                          env=ENVIRONMENT | {"TMPDIR": "/tmp"}, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    calls = []
    for file in sorted(log.iterdir()):
        for line in file.read_text(errors="replace").splitlines():
            if found := re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", line):
                if not found[3].startswith("-"):
                    calls.append((file.suffix[1:], found[1], found[2]))
    assert any(call == "execve" and "spectrace" in arguments for _, call, arguments in calls)
    return calls


def of_the_program(calls):
    """Those of processes that are spectrace: mpirun's own folders are its affair."""
    ours = {process for process, call, arguments in calls if call == "execve" and f'"{PROGRAM}"' in arguments}
    threads = {process for process, _, _ in calls} - {process for process, call, _ in calls if call == "execve"}
    return [call for call in calls if call[0] in ours | threads]


def path_of(arguments, cwd):
    names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
    return [os.path.normpath(os.path.join(cwd, name)) for name in names]


def writes(calls, cwd):
    """Paths that the calls change or could change."""
    found = []
    for _, call, arguments in calls:
        if call in ("connect", "bind", "execve"):
            continue
        if call.startswith("open") and not WRITES.search(arguments):
            continue
        found += [(call, path) for path in path_of(arguments, cwd)]
    return found


def is_local(arguments):
    """A socket of this host: of the file system's or the kernel's name space, or over loopback or no address yet."""
    if re.search(r"sa_family=AF_(UNIX|NETLINK|UNSPEC)", arguments):
        return "nscd" in arguments or "AF_UNIX" not in arguments or OF_MPI.search(arguments) or "@" in arguments
    return re.search(r'inet_addr\("(127\.|0\.0\.0\.0)|"::1?"', arguments) is not None


def demo_job(tmp_path):
    models = [{"name": path.name, "path": str(path)} for path in DEMO_MODELS]
    if not models:
        make_llama(tmp_path / "m", layers=2)
        models = [{"name": "m", "path": str(tmp_path / "m")}]
    return write_job(tmp_path, {"name": "job", "models": models, "prompt_sets": [ids_set("a", count=3)], "compute": {"threads": 1}})


def test_run_writes_into_its_output_folder_alone(tmp_path):
    path = demo_job(tmp_path)
    calls = of_the_program(trace(tmp_path, "mpirun", "-n", 2, PROGRAM, "run", path))
    output = str(tmp_path / "job")
    changed = writes(calls, tmp_path)
    inside = [place for _, place in changed if place == output or place.startswith(output + "/")]
    assert len(inside) > 10
    others = sorted({f"{call} {place}" for call, place in changed
                     if not (place == output or place.startswith(output + "/")) and not OF_MPI.match(place)})
    assert others == []
    assert [call for call in calls if call[1] in ("connect", "bind") and not is_local(call[2])] == []


def test_growing_a_touched_folder_writes_into_it_alone(tmp_path):
    """The process that reads a touched file first opens nothing for writing, nor does it speak to anybody."""
    make_llama(tmp_path / "m", layers=2)
    job = {"name": "job", "models": [{"name": "m", "path": str(tmp_path / "m")}], "prompt_sets": [ids_set("a", count=3)],
           "analyses": ["weights"], "compute": {"threads": 1}}
    path = write_job(tmp_path, job)
    subprocess.run([str(PROGRAM), "run", str(path)], env=ENVIRONMENT, check=True, capture_output=True)
    shutil.copytree(tmp_path / "job", tmp_path / "copy")
    job["analyses"].append("residual")
    write_job(tmp_path, job)
    calls = trace(tmp_path, PROGRAM, "run", path, "-o", tmp_path / "copy")
    vets = {process for process, call, arguments in calls if call == "execve" and "vet-results" in arguments}
    assert len(vets) == 1
    of_vet = [call for call in calls if call[0] in vets]
    assert writes(of_vet, tmp_path) == [] and [call for call in of_vet if call[1] in ("connect", "bind")] == []
    output = str(tmp_path / "copy")
    assert [place for _, place in writes(calls, tmp_path)
            if not (place == output or place.startswith(output + "/")) and not OF_MPI.match(place)] == []


@pytest.mark.parametrize("command", ["plan", "inspect", "tokenize", "diff"])
def test_who_only_looks_writes_nothing(tmp_path, command):
    path = demo_job(tmp_path)
    if command == "diff":
        subprocess.run([str(PROGRAM), "run", str(path)], env=ENVIRONMENT, check=True, capture_output=True)
        shutil.copytree(tmp_path / "job", tmp_path / "copy")
    model = DEMO_MODELS[0] if DEMO_MODELS else tmp_path / "m"
    arguments = {"plan": [path], "inspect": [model], "tokenize": [model, "a text"],
                 "diff": [tmp_path / "job", tmp_path / "copy"]}[command]
    calls = trace(tmp_path, PROGRAM, command, *arguments, check=command != "tokenize" or bool(DEMO_MODELS))
    changed = [f"{call} {place}" for call, place in writes(calls, tmp_path) if not OF_MPI.match(place)]
    assert changed == []
    assert [call for call in calls if call[1] in ("connect", "bind") and not is_local(call[2])] == []


def test_check_leaves_nothing_behind(tmp_path):
    """It tries whether the output folder can be written: there alone."""
    path = demo_job(tmp_path)
    before = sorted(tmp_path.iterdir())
    calls = trace(tmp_path, PROGRAM, "check", path)
    output = str(tmp_path / "job")
    assert [place for _, place in writes(calls, tmp_path)
            if not (place == output or place.startswith(output + "/")) and not OF_MPI.match(place)] == []
    shutil.rmtree(tmp_path / "strace")
    assert sorted(tmp_path.iterdir()) == before


def test_calibration_writes_the_profile_alone(tmp_path, monkeypatch):
    """The one command that writes elsewhere, and what shows that these tests would see it."""
    make_llama(tmp_path / "m", layers=2)
    path = write_job(tmp_path, {"name": "job", "models": [{"name": "m", "path": str(tmp_path / "m")}],
                                "prompt_sets": [ids_set("a", count=3)], "compute": {"threads": 1}})
    profile = tmp_path / "cache" / "machine.json"
    monkeypatch.setitem(ENVIRONMENT, "SPECTRACE_PROFILE", str(profile))
    changed = {place for _, place in writes(trace(tmp_path, PROGRAM, "plan", path, "--calibrate"), tmp_path) if not OF_MPI.match(place)}
    assert str(profile) in changed
    assert all(place.startswith(str(profile.parent)) for place in changed)
