"""mpirun over three hosts: network namespaces on a bridge, joined by TCP alone. Hosts lose their link and their ranks."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from program import ENVIRONMENT, PROGRAM, bytes_of
from slurm_lab import wait_for
from sweeps import in_the_middle

# As plm_rsh_agent in the place of ssh: runs a command on a "host", under its name.
AGENT = """#!/bin/sh
host=$1; shift
exec ip netns exec "$host" unshare --uts -- sh -c 'hostname "$0"; export HOSTNAME="$0"; exec sh -c "$*"' "$host" "$@"
"""


def ip(*words, check=True):
    return subprocess.run(["ip", *map(str, words)], check=check, capture_output=True, text=True)


def why_not():
    missing = [name for name in ("ip", "unshare", "mpirun") if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)} here (tools/setup --tests installs iproute2)"
    if os.geteuid() != 0:
        return "network namespaces are made as root only"
    name = f"spt{os.getpid()}"
    tried = ip("netns", "add", name, check=False)
    if tried.returncode == 0:
        tried = ip("link", "add", name[:15], "type", "bridge", check=False)
        ip("link", "del", name[:15], check=False)
        ip("netns", "del", name, check=False)
    return f"no network namespaces or bridges here ({tried.stderr.strip()})" if tried.returncode != 0 else ""


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


class Hosts:
    def __init__(self, count=3):
        self.folder = Path(tempfile.mkdtemp(prefix="spectrace-hosts-"))
        self.agent = self.folder / "agent"
        self.agent.write_text(AGENT)
        self.agent.chmod(0o755)
        number = os.getpid() % 100000
        self.bridge = f"spb{number}"
        self.names = [f"sp{number}h{i}" for i in range(1, count + 1)]
        self.links = [f"spv{number}-{i}" for i in range(1, count + 1)]
        try:
            ip("link", "add", self.bridge, "type", "bridge")
            ip("link", "set", self.bridge, "up")
            for i, (name, link) in enumerate(zip(self.names, self.links), 1):
                ip("netns", "add", name)
                ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", link, "master", self.bridge, "up")
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
        except BaseException:
            self.down()
            raise

    def pids(self, name):
        return [int(pid) for pid in ip("netns", "pids", name, check=False).stdout.split()]

    def ranks(self, name):
        found = []
        for pid in self.pids(name):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAM.name[:15]:
                    found.append(pid)
            except OSError:
                continue
        return found

    def down(self):
        for name in self.names:
            for pid in self.pids(name):
                os.kill(pid, signal.SIGKILL)
        for name, link in zip(self.names, self.links):
            ip("link", "del", link, check=False)
            ip("netns", "del", name, check=False)
        ip("link", "del", self.bridge, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, path, *options, environment=ENVIRONMENT, output=None):
        """mpirun is on the first host, so that the others' daemons reach it; a rank on each."""
        command = [
            str(self.agent), self.names[0], "mpirun", "--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "tcp,self",
            "--mca", "orte_tmpdir_base", str(self.folder),
            "--host", ",".join(f"{name}:1" for name in self.names), "-np", str(len(self.names)), str(PROGRAM), "run", str(path), *options,
        ]  # fmt: skip
        with open(output or path.parent / "output", "ab") as file:
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def run(self, path, timeout=120):
        return self.start(path).wait(timeout=timeout)


@pytest.fixture(scope="module")
def hosts():
    hosts = Hosts()
    yield hosts
    hosts.down()


def output_of(path):
    return (path.parent / "output").read_text(errors="replace")


def test_three_hosts(hosts, longer, tmp_path):
    path = longer.copy(tmp_path)
    assert hosts.run(path) == 0, output_of(path)
    assert bytes_of(tmp_path / "job") == longer.bytes
    # Who works on which model is decided while it runs.
    used = re.findall(r"sp\d+h\d", "".join(path.read_text() for path in (tmp_path / "job").glob("m*.run.json")))
    assert sorted(set(used)) == hosts.names


def test_link_cut_for_five_seconds(hosts, longer, tmp_path):
    """It waits and finishes, or ends with an error that names the host; then the next start finishes."""
    path = longer.copy(tmp_path)
    process = hosts.start(path)
    wait_for(lambda: in_the_middle(tmp_path / "job") or process.poll() is not None, 60, "does not get going", lambda: output_of(path))
    assert process.poll() is None, output_of(path)
    ip("link", "set", hosts.links[2], "down")
    time.sleep(5)
    ip("link", "set", hosts.links[2], "up")
    code = process.wait(timeout=180)
    if code != 0:
        assert hosts.names[2] in output_of(path), output_of(path)
        assert hosts.run(path) == 0, output_of(path)
    assert bytes_of(tmp_path / "job") == longer.bytes


def test_killed_rank_on_another_host(hosts, longer, tmp_path):
    path = longer.copy(tmp_path)
    process = hosts.start(path)
    wait_for(lambda: in_the_middle(tmp_path / "job") or process.poll() is not None, 60, "does not get going", lambda: output_of(path))
    os.kill(hosts.ranks(hosts.names[1])[0], signal.SIGKILL)
    assert process.wait(timeout=60) not in (0, 1), output_of(path)
    assert hosts.names[1] in output_of(path)
    wait_for(lambda: not any(hosts.ranks(name) for name in hosts.names), 30, "ranks of other hosts go on")
    assert hosts.run(path) == 0, output_of(path)
    assert bytes_of(tmp_path / "job") == longer.bytes


def test_lost_host(hosts, longer, tmp_path):
    """Everything of a host dies at once, its daemon and its rank. mpirun's own words do not always name the host."""
    path = longer.copy(tmp_path)
    process = hosts.start(path)
    wait_for(lambda: in_the_middle(tmp_path / "job") or process.poll() is not None, 60, "does not get going", lambda: output_of(path))
    for pid in hosts.pids(hosts.names[2]):
        os.kill(pid, signal.SIGKILL)
    assert process.wait(timeout=60) not in (0, 1), output_of(path)
    wait_for(lambda: not any(hosts.ranks(name) for name in hosts.names), 30, "ranks of other hosts go on")
    assert hosts.run(path) == 0, output_of(path)
    assert bytes_of(tmp_path / "job") == longer.bytes
