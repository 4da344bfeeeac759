"""Some minutes of tests/faults/soak (SPECTRACE_SOAK_SECONDS: how long, SPECTRACE_SOAK_SEED: of which draw), and some dozens of hostile models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SECONDS = float(os.environ.get("SPECTRACE_SOAK_SECONDS", 90))
SEED = int(os.environ.get("SPECTRACE_SOAK_SEED", 1))

# A program that leaves other bytes with every run, and none of whose words say why.
LIAR = """#!/bin/sh
{program} "$@"
code=$?
for file in $(find {folder} -name '*.h5' -newer "$0"); do echo $$ >> $file; done
exit $code
"""


def script(name, *arguments, environment=None, timeout):
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})})


def test_soak():
    done = script("soak", "--seed", SEED, "--seconds", SECONDS, timeout=SECONDS + 900)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 violations" in done.stdout and " hit" in done.stdout


def test_hostile_models():
    done = script("hostile_models", "--count", 45, timeout=1200)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name, arguments", [("soak", ("--only", 0, "--faults", "TimeLimit")), ("hostile_models", ("--count", 2))])
def test_other_bytes_are_noticed(tmp_path, name, arguments):
    sys.path.insert(0, str(HERE.parent / "app"))
    from program import PROGRAM

    liar = tmp_path / "spectrace"
    liar.write_text(LIAR.format(program=PROGRAM, folder=tmp_path / "work"))
    liar.chmod(0o755)
    done = script(name, "--seed", 3, "--folder", tmp_path / "work", *arguments, environment={"SPECTRACE_PROGRAM": str(liar)}, timeout=300)
    assert done.returncode == 1 and "VIOLATION" in done.stdout and "other bytes" in done.stdout, done.stdout + done.stderr
