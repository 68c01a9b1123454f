"""A real SLURM of one node on this machine, in a folder of its own, with two GPUs that are device files alone.

Started are munged, slurmctld and slurmd as Debian packages them; `stop` ends them and every job. The configuration is
linked into /etc/slurm, because the jobs look for it there, whatever SLURM_CONF says.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONFIGURED = Path("/etc/slurm")
PORTS = (16817, 16818)
OWNER = "owner.pid"
"""Names the process that has started it."""
PATIENCE = 300.0
"""Seconds in which the daemons and their commands answer."""

FILES = {
    "gres.conf": """
AutoDetect=off
NodeName={host} Name=gpu Type=fake File={folder}/dev/nvidia[0-1]
""",
    "cgroup.conf": """
CgroupAutomount=no
""",
    "slurm.conf": """
ClusterName=testbed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=bf_interval=1,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
KillWait=30
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory={megabytes} Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
""",
}


def cannot_run() -> str | None:
    """Why no SLURM can be started here; None where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found; on Debian: apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "only root may start SLURM's daemons for several users"
    _stop_what_was_left()
    if not _may_make_devices():
        return "no device files can be made here, which stand for GPUs"
    if any((CONFIGURED / name).exists() for name in FILES) or any(map(_in_use, PORTS)):
        return f"this machine has a SLURM already ({CONFIGURED} or ports {PORTS})"
    return None


def _may_make_devices() -> bool:
    with TemporaryDirectory() as folder:
        try:
            os.mknod(f"{folder}/device", 0o20666, os.makedev(195, 0))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it; in the comment Snakemake writes its rule and wildcards, the time limit reads 1:00."""

    number: str
    state: str
    name: str
    comment: str
    time_limit: str
    folder: str


@dataclass(frozen=True)
class Slurm:
    """A SLURM that runs; its commands find it by themselves."""

    folder: Path
    host: str

    def call(self, *command: str) -> str:
        """Return the output of a SLURM command."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def jobs(self, folder: Path | None = None, states: str = "PENDING,RUNNING,COMPLETING") -> list["Job"]:
        """Return the jobs in some states, of a working directory or of all."""
        text = self.call("squeue", "--noheader", f"--states={states}", "--format=%i|%T|%j|%k|%l|%Z")
        found = [Job(*line.split("|")) for line in text.splitlines()]
        return [job for job in found if folder is None or job.folder == str(folder)]

    def set_node(self, state: str) -> None:
        """Drain the node, or resume it."""
        self.call("scontrol", "update", f"nodename={self.host}", f"state={state}", "reason=test")


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """A SLURM in a folder, stopped at the end with all of its jobs."""
    slurm, munge = Slurm(folder, _host()), folder / "munge"
    _write(folder, slurm.host)
    _link(folder)
    try:
        files = {
            "key-file": "munge.key",
            "socket": "munge.socket",
            "log-file": "munged.log",
            "seed-file": "munged.seed",
        }
        places = [f"--{what}={munge}/{name}" for what, name in files.items()]
        munged = ["munged", "--force", f"--pid-file={folder}/munged.pid", *places]
        subprocess.run(munged, check=True, timeout=PATIENCE)
        subprocess.run(["slurmctld", "-f", folder / "slurm.conf", "-c"], check=True, timeout=PATIENCE)
        subprocess.run(["slurmd", "-f", folder / "slurm.conf", "-N", slurm.host, "-c"], check=True, timeout=PATIENCE)
        _wait_until_idle(slurm)
        yield slurm
    finally:
        _stop(slurm)


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _write(folder: Path, host: str) -> None:
    for name in ("munge", "state", "spool", "log", "dev"):
        (folder / name).mkdir(parents=True)
    for number in range(2):  # plain files would leave CUDA_VISIBLE_DEVICES empty
        os.mknod(folder / "dev" / f"nvidia{number}", 0o20666, os.makedev(195, number))
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    for name, text in FILES.items():
        (folder / name).write_text(text.format(folder=folder, host=host, ports=PORTS, megabytes=megabytes))
    key = folder / "munge" / "munge.key"
    key.write_bytes(os.urandom(64))
    (folder / OWNER).write_text(str(os.getpid()))
    for path in (folder, key.parent, key):  # munged insists
        path.chmod(0o700)


def _stop_what_was_left() -> None:
    """Stop the SLURM of tests that were killed."""
    link = CONFIGURED / "slurm.conf"
    if link.is_symlink() and not _runs(link.resolve().parent / OWNER):
        _stop(Slurm(link.resolve().parent, _host()))


def _link(folder: Path) -> None:
    CONFIGURED.mkdir(exist_ok=True)
    for name in FILES:
        link = CONFIGURED / name
        link.unlink(missing_ok=True)  # that leads nowhere, or `cannot_run` would have said so
        link.symlink_to(folder / name)


def _wait_until_idle(slurm: Slurm) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if slurm.call("sinfo", "--noheader", "--format=%t") == "idle":
                return
        except RuntimeError:
            pass  # slurmctld does not answer yet
        time.sleep(0.2)
    raise RuntimeError(f"SLURM did not start; see {slurm.folder / 'log'}")


def _stop(slurm: Slurm) -> None:
    """End the jobs, then the daemons, then what does not listen."""
    try:
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], timeout=PATIENCE, check=False)
        deadline = time.monotonic() + 15
        while slurm.jobs() and time.monotonic() < deadline:
            time.sleep(0.2)
    except (RuntimeError, subprocess.TimeoutExpired):
        pass  # slurmctld has never answered
    daemons = [slurm.folder / f"{name}.pid" for name in ("slurmd", "slurmctld", "munged")]
    for pid_file in filter(_runs, daemons):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(map(_runs, daemons)) and time.monotonic() < deadline:
        time.sleep(0.1)
    ours = f"SLURM_CONF={slurm.folder}/slurm.conf".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            of_a_job = ours in (entry / "environ").read_bytes().split(b"\0")
            if of_a_job or (entry / "cwd").resolve().is_relative_to(slurm.folder):
                os.kill(int(entry.name), signal.SIGKILL)
    for name in FILES:
        (CONFIGURED / name).unlink(missing_ok=True)


def _runs(pid_file: Path) -> bool:
    """Return whether the process of a pid file lives; a process that nobody has waited for does not."""
    try:
        return Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ValueError):
        return False


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
