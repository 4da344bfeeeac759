"""Calls of the C library that do less than they were asked for, or fail: drawn in the soak, here one by one."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "app")]
from models import ids_set, make_llama  # noqa: E402
from processes import Place  # noqa: E402
from program import write_job  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "fault_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(HERE / "fault_shim.c"), "-ldl"], check=True)
    return library


@pytest.fixture
def place(tmp_path):
    with Place(tmp_path) as place:
        yield place


def make_job(folder):
    make_llama(folder / "m")
    return write_job(folder, {"name": "job", "models": [{"name": "m", "path": "m"}], "prompt_sets": [ids_set(count=5)], "compute": {"threads": 1}})


def run(place, path, shim=None, folder=None, faults="", ranks=None, **more):
    """Exit code, what was said, and whether a fault was met."""
    output, log = place.folder / "said", place.folder / "shim.log"
    for file in (output, log):
        file.unlink(missing_ok=True)
    environment = {"SHIM_FOLDER": str(folder), "SHIM_FAULTS": faults, "SHIM_LOG": str(log), **more}
    wrapper = ["env", f"LD_PRELOAD={shim}"] if shim else []
    process = place.start("run", path, "--io", "read", ranks=ranks, output=output, environment=environment, wrapper=wrapper)
    return process.wait(timeout=120), output.read_text(), log.exists()


@pytest.mark.parametrize("ranks", [None, 2])
@pytest.mark.parametrize(
    "faults", ["read:1:1000000:0", "write:1:1000000:0", *(f"{call}:{first}:3:{errno.EINTR}" for call in ("read", "write", "room", "truncate") for first in (1, 2))]
)
def test_short_and_interrupted_calls_are_no_failure(place, tmp_path, shim, faults, ranks):
    path = make_job(tmp_path)
    assert run(place, path)[0] == 0
    whole = (tmp_path / "job" / "m.h5").read_bytes()
    shutil.rmtree(tmp_path / "job")
    code, said, met = run(place, path, shim, tmp_path, faults, ranks)
    assert met and code == 0, said
    assert (tmp_path / "job" / "m.h5").read_bytes() == whole


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "room", "truncate", "mkdir"])
def test_failing_calls_of_the_output_folder_are_named(place, tmp_path, shim, call, number):
    path = make_job(tmp_path)
    code, said, met = run(place, path, shim, tmp_path / "job", f"{call}:1:1000000:{number}")
    assert met and code == 3 and os.strerror(number) in said and str(tmp_path / "job") in said, said
    assert run(place, path)[0] == 0
    assert sorted(entry.name for entry in (tmp_path / "job").iterdir()) == [".seals", "logs", "m.h5", "m.run.json", "progress.json", "summary.h5"]


def test_slow_folders_do_not_end_a_sweep_of_short_models(place, tmp_path, shim):
    """A rank is about to make a folder in one that another rank could find empty, and no longer needed."""
    make_llama(tmp_path / "m", layers=1)
    models = [{"name": f"m{i}", "path": "none" if i % 7 else "m"} for i in range(210)]
    path = write_job(tmp_path, {"name": "job", "models": models, "analyses": ["unembedding"], "prompt_sets": [], "compute": {"threads": 1}})
    code, said, met = run(place, path, shim, tmp_path / "job", "mkdir:1:1000000:-20000", ranks=2)
    assert met and code == 1 and "The run ends" not in said, said
    assert len(list((tmp_path / "job").glob("*.h5"))) == 211 and not (tmp_path / "job" / "journal").exists()


def test_files_that_are_not_listed_yet_are_found(place, tmp_path, shim):
    """A network file system lists for up to a minute what it listed before: nothing is computed again for it."""
    path = make_job(tmp_path)
    assert run(place, path)[0] == 0
    whole = (tmp_path / "job" / "m.h5").read_bytes()
    shutil.rmtree(tmp_path / "job")
    code, said, met = run(place, path, shim, tmp_path / "job", ranks=3, SHIM_UNLISTED="rank-0000")
    assert met and code == 0 and "again" not in said and "warning" not in said, said
    assert (tmp_path / "job" / "m.h5").read_bytes() == whole
    assert not (tmp_path / "job" / "journal").exists()


@pytest.mark.parametrize("first, count", [(1, 1), (2, 1), (1, 1000000)])
def test_journal_that_cannot_be_removed_is_left_to_the_next_start(place, tmp_path, shim, first, count):
    path = make_job(tmp_path)
    code, said, met = run(place, path, shim, tmp_path / "job", f"unlink:{first}:{count}:{errno.ESTALE}")
    assert met and code == 0, said
    assert "warning: m: cannot remove" in said and str(tmp_path / "job" / "journal") in said and os.strerror(errno.ESTALE) in said, said
    assert "next start removes it" in said and (tmp_path / "job" / "journal").exists()
    assert run(place, path)[0] == 0
    assert sorted(entry.name for entry in (tmp_path / "job").iterdir()) == [".seals", "logs", "m.h5", "m.run.json", "progress.json", "summary.h5"]


def test_unreadable_checkpoint_is_the_models_failure_and_done_again(place, tmp_path, shim):
    path = make_job(tmp_path)
    code, said, met = run(place, path, shim, tmp_path / "m", f"read:3:1000000:{errno.EIO}")
    assert met and code == 1 and os.strerror(errno.EIO) in said and str(tmp_path / "m") in said, said
    code, said, _ = run(place, path)
    assert code == 0, said


def test_unreadable_journal_is_not_the_models_failure(place, tmp_path, shim):
    """What a start before left in the journal cannot be read: the output's disk is at fault, and no model is called failed."""
    path = make_job(tmp_path)
    output = tmp_path / "job"
    # The last rename is that of the results: all of the journal is there, and no results.
    code, said, met = run(place, path, shim, output, f"rename:4:1000000:{errno.EIO}")
    assert met and code == 3 and (output / "journal" / "m").is_dir() and not (output / "m.h5").exists(), said
    shutil.copytree(output, tmp_path / "left")
    num_met = num_ended = 0
    for first in range(1, 60, 3):
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "left", output)
        code, said, met = run(place, path, shim, output / "journal", f"read:{first}:1000000:{errno.EIO}")
        if not met:
            break
        num_met += 1
        num_ended += code == 3
        assert code in (0, 3) and "m: failed" not in said, f"from read {first} on: {code}\n{said}"
        assert code == 0 or (os.strerror(errno.EIO) in said and str(output) in said), said
        assert run(place, path)[0] == 0
    assert num_met > 2 and num_ended > 0
