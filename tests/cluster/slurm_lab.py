"""A Slurm cluster of three nodes on this machine: munged, slurmctld and three slurmds in a folder, nothing under /etc."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from program import marked, said_of

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo", "mpirun", "setpriv")
NODES = ("n1", "n2", "n3")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


def why_not():
    """Why no cluster can be started here; nothing if one can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"no {', '.join(missing)} here (tools/setup --tests installs slurm-wlm and munge)"
    if os.geteuid() != 0:
        return "slurmd is started as root only"
    return ""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire: a requeued job waits one second more than that before it may start; 120 s by default.
# Started earlier (scontrol update starttime=now), its steps are refused.
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
# Of each node its own: the PMIx plugin makes a folder of one name in it.
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
MpiDefault=none
KillWait={kill_wait}
ReturnToService=2
MinJobAge=600
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 Gres=gpu:2
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=4 Gres=gpu:2
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmLab:
    def __init__(self, environment, kill_wait=5):
        # Not pytest's folder: munged wants one that all may enter, and sockets' paths are short.
        self.folder = Path(tempfile.mkdtemp(prefix="spectrace-slurm-"))
        self.folder.chmod(0o755)
        for name in ("run", "log", "state", *(f"spool/{n}" for n in NODES), *(f"tmp/{n}" for n in NODES)):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        text = CONFIGURATION.format(host=socket.gethostname(), folder=self.folder, ports=free_ports(4), kill_wait=kill_wait)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # no GPUs, but counted and given out like ones
        self.environment = dict(
            {name: value for name, value in environment.items() if not name.startswith(("SLURM_", "SBATCH_", "SPECTRACE"))},
            PATH=environment["PATH"] + ":/usr/sbin:/sbin",
            SLURM_CONF=str(self.folder / "slurm.conf"),
            # All nodes have one host name, so the ranks of different nodes would meet in each other's shared memory.
            OMPI_MCA_btl="tcp,self",
            OMPI_MCA_btl_tcp_if_include="lo",
            OMPI_MCA_oob_tcp_if_include="lo",
        )
        self.daemons = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _daemon(self, name, *command):
        with open(self.folder / "log" / f"{name}.out", "wb") as output:
            # pdeathsig: where the tests themselves are killed, the daemons end too.
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment, start_new_session=True
            )
        self.daemons.append(process)

    def _start(self):
        run = self.folder / "run"
        self._daemon(
            "munged", "munged", "--foreground", f"--key-file={self.folder}/munge.key", f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged.log", f"--seed-file={run}/munge.seed",
        )  # fmt: skip
        wait_for(lambda: (run / "munge.sock").exists(), 20, "munged does not listen", self.logs)
        self._daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon(f"slurmd-{node}", "slurmd", "-D", "-N", node)
        wait_for(lambda: self.call("sinfo", "-N", "-h", "-o", "%T", check=False).count("idle") == 3, 60, "the nodes do not get idle", self.logs)

    def logs(self):
        return "\n".join(f"== {path.name}\n" + "\n".join(path.read_text().splitlines()[-15:]) for path in sorted((self.folder / "log").iterdir()))

    def stop(self):
        if len(self.daemons) > 1:
            try:
                self.call("scancel", "--user=root", check=False, timeout=10)
                wait_for(lambda: not self.call("squeue", "-h", check=False, timeout=10).strip(), 15, "")
            except (AssertionError, subprocess.TimeoutExpired):
                pass
        for process in reversed(self.daemons):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.daemons):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Step daemons and ranks are in sessions of their own: known by the configuration that only they carry.
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        wait_for(lambda: not self.processes(), 10, "processes of the cluster do not end")
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self, word=""):
        """Processes of this cluster's jobs, of whatever session, whose command holds `word`."""
        others = {os.getpid(), *(process.pid for process in self.daemons)}
        return [pid for pid in marked(f"{self.folder}/slurm.conf", "SLURM_CONF") if pid not in others and word.encode() in said_of(pid, "cmdline")]

    def call(self, *command, check=True, timeout=60, environment=None, cwd=None):
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=timeout, cwd=cwd, env={**self.environment, **(environment or {})}
        )
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script, *arguments, options=(), environment=None, cwd):
        text = self.call("sbatch", "--parsable", *options, script, *arguments, environment=environment, cwd=cwd)
        return text.strip().split(";")[0]

    def show(self, job):
        """Fields of `scontrol show job`; of an array all elements, a list."""
        text = self.call("scontrol", "show", "job", "-o", job)
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if line.strip()]

    def state(self, job):
        return self.show(job)[0]["JobState"]

    def wait_over(self, job, timeout=120, restarts=None):
        """Until the job (all elements of an array) is over: its fields. `restarts`: not before so many restarts."""

        def is_over():
            fields = self.show(job)
            if restarts is not None and int(fields[0].get("Restarts", 0)) < restarts:
                return None
            return fields if all(one["JobState"] in OVER for one in fields) else None

        return wait_for(is_over, timeout, f"job {job} is not over", lambda: str(self.show(job)) + self.logs())


def wait_for(condition, timeout, message, more=lambda: ""):
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {timeout} s: {message}\n{more()}"
        time.sleep(0.1)
