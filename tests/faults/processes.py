"""Runs of the program that may go wrong in any way: whatever they leave running, or lying about, is found and removed.

Open MPI puts ranks in process groups of their own, so processes are known by a variable of their environment.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
from program import ENVIRONMENT, MARK, PROGRAM, marked, said_of  # noqa: E402


class Place:
    """A folder to work in, and one in /dev/shm for MPI; both go at the end, with all processes that were started."""

    def __init__(self, folder=None, program=PROGRAM):
        self.program = program
        self.kept = folder is not None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="spectrace-faults-")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shared = Path(tempfile.mkdtemp(prefix="spf-", dir="/dev/shm"))
        self.mark = f"{os.getpid()}-{self.shared.name}"
        self.environment = ENVIRONMENT | {MARK: self.mark, "OMPI_MCA_btl_vader_backing_directory": str(self.shared), "OMPI_MCA_orte_tmpdir_base": str(self.shared)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.shared, ignore_errors=True)
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self, name=None):
        """Pids of what was started here and is no zombie; `name`: the program's name."""
        return sorted(pid for pid in marked(self.mark) if pid != os.getpid() and (name is None or said_of(pid, "comm").strip() == name[:15].encode()))

    def ranks(self):
        return self.processes(self.program.name)

    def describe(self):
        """Who is still there, and in which state."""
        found = []
        for pid in self.processes():
            try:
                name, state = Path(f"/proc/{pid}/stat").read_text().split("(")[1].split(")")[0], Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                found.append(f"{name} {pid} {state} {Path(f'/proc/{pid}/wchan').read_text()}")
            except OSError:
                continue
        return ", ".join(found)

    def kill(self):
        end = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < end:
            for pid in left:
                send(pid, signal.SIGKILL)
            time.sleep(0.02)
        for path in self.shared.iterdir() if self.shared.exists() else ():  # what killed ranks have left
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def start(self, *words, ranks=None, output, environment=None, wrapper=()):
        """`output`: a file that takes stdout and stderr. `wrapper`: words before the program, on every rank."""
        launcher = ["mpirun", "-n", str(ranks)] if ranks is not None else []
        command = [*launcher, *map(str, wrapper), str(self.program), *map(str, words)]
        with open(output, "ab") as file:
            return subprocess.Popen(command, env={**self.environment, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def peak_bytes(pid):
    """The most memory that a process had so far; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


class MemoryWatch(threading.Thread):
    """The highest peak of any rank; ranks above `kill_above` are killed: the machine is not ours alone."""

    def __init__(self, place, kill_above):
        super().__init__(daemon=True)
        self.place, self.kill_above = place, kill_above
        self.peak, self.killed, self.over = 0, False, threading.Event()

    def run(self):
        ranks, looked = [], 0
        while not self.over.wait(0.02):
            if time.monotonic() - looked > 0.2:
                ranks, looked = self.place.ranks(), time.monotonic()
            for pid in ranks:
                peak = peak_bytes(pid)
                self.peak = max(self.peak, peak)
                if peak > self.kill_above:
                    self.killed = send(pid, signal.SIGKILL) or self.killed

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
