"""Every command of docs/exports.md, on the results of the demo job."""

import re
import shlex
import subprocess
import sys

import pytest
from program import ENVIRONMENT, ROOT, spectrace

COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs/exports.md").read_text(encoding="utf-8"), re.DOTALL)
            for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    done = spectrace("run", ROOT / "jobs/demo/demo.json", "-o", folder / "jobs/demo/results")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_page(folder, command):
    program, *arguments = shlex.split(command)
    done = subprocess.run([sys.executable, "-m", program.replace("-", "."), *arguments], capture_output=True, text=True, cwd=folder, timeout=300,
                          env=ENVIRONMENT | {"PYTHONPATH": str(ROOT / "tools" / "python")})
    # Two different models have nothing but changes.
    assert done.returncode == (1 if "neox-tiny" in command and "compare" in command else 0), done.stderr
    if "-o" in arguments:
        assert (folder / arguments[arguments.index("-o") + 1]).stat().st_size > 100
    else:
        assert len(done.stdout) > 100


def test_page_names_every_tool():
    assert {command.split()[0] for command in COMMANDS} == {"spectrace-export", "spectrace-published", "spectrace-compare"}
