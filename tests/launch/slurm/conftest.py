"""A cluster for tests of what is asked of SLURM: its commands as scripts, its queue as a file."""

import os
import shutil
from pathlib import Path

import pytest

SBATCH = """#!/bin/bash
cd {state}
[ ! -e refused ] || {{ echo "sbatch: error: $(cat refused)" >&2; exit 1; }}
script="${{@: -1}}"
id=$(($(ls scripts | wc -l) + 7))
{{ env | grep '^SLURM_\\|^SBATCH_' | sed 's/^/# /'; cat "$script"; }} >scripts/$id
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
reason=Resources
! grep -q '^#SBATCH --dependency' "$script" || reason=Dependency
for i in $(seq 0 $last); do echo "${{id}}_$i|PENDING||$reason|$script" >>queue; done
[ ! -e unanswered ] || {{ echo "sbatch: error: Socket timed out on send/recv" >&2; exit 1; }}
[ ! -e greeting ] || echo "Welcome to the cluster, $USER"
[ ! -e killed ] || kill -KILL $PPID
echo $id
"""

SQUEUE = """#!/bin/bash
cd {state}
fail() {{ echo "slurm_load_jobs error: $1" >&2; exit 1; }}
[ ! -e silent ] || fail "Unable to contact slurm controller"
cat queue
[[ "$*" != *--states=all* ]] || while read -r job state script; do
  echo "$job|$state||None|$script"
done <ended
"""

SCONTROL = """#!/bin/bash
cd {state}
fail() {{ echo "slurm_load_jobs error: $1" >&2; exit 1; }}
[ ! -e silent ] || fail "Unable to contact slurm controller"
case "$1 $2" in
  "show config") echo "MaxArraySize            = $(cat largest)" ;;
  "show job")
    cat ended queue | grep -q "^$4[_ ]" || fail "Invalid job id specified"  # of an array as a whole
    while read -r job state script; do
      case $job in $4_*|$4) echo "JobId=77 ArrayJobId=$4 ArrayTaskId=${{job#*_}} JobName=alps" \
        "JobState=$state Reason=None Dependency=(null) NodeList=(null) Command=$script" ;; esac
    done <ended ;;
  *) echo "$@" >>controlled ;;
esac
"""

SCANCEL = """#!/bin/bash
cd {state}
for job in "$@"; do
  script=$(grep "^$job|" queue | cut -d"|" -f5)
  grep -v "^$job|" queue >left
  mv left queue
  echo "$job CANCELLED $script" >>ended
done
"""


class FakeCluster:
    """Commands of SLURM on the path, and the queue that they show."""

    def __init__(self, folder: Path):
        self.state, self.bin = folder / "state", folder / "bin"
        (self.state / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("queue", "ended", "controlled"):
            (self.state / name).touch()
        (self.state / "largest").write_text("1001")
        commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": SCONTROL, "scancel": SCANCEL}
        for name, text in commands.items():
            self.command(name, text.format(state=self.state))
        self.command("srun", "#!/bin/bash\n")

    def command(self, name: str, text: str) -> None:
        """Replaces a command."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def scripts(self) -> list[str]:
        """What was submitted, in order."""
        return [
            p.read_text() for p in sorted(self.state.glob("scripts/*"), key=lambda p: int(p.name))
        ]

    def jobs(self) -> list[str]:
        """Ids of the jobs in the queue."""
        return [line.split("|")[0] for line in self._queue()]

    def runs(self, job: str, node: str = "one") -> None:
        """A job starts."""
        self.shows(job, "RUNNING", node)

    def shows(self, job: str, state: str, node: str = "", reason: str = "None") -> None:
        """A job is in a state."""
        self._change(job, lambda fields: [fields[0], state, node, reason, *fields[4:]])

    def ends(self, job: str, state: str | None = None) -> None:
        """A job leaves the queue; the controller remembers its state, if there is one."""
        (script,) = [line.split("|")[4] for line in self._queue() if line.split("|")[0] == job]
        left = [line for line in self._queue() if line.split("|")[0] != job]
        (self.state / "queue").write_text("".join(f"{line}\n" for line in left))
        if state is not None:
            with (self.state / "ended").open("a") as file:
                file.write(f"{job} {state} {script}\n")

    def flag(self, name: str, text: str = "") -> Path:
        """Sets `silent`, `refused` (with its message), `unanswered`, `killed`, `largest`, ..."""
        (self.state / name).write_text(text)
        return self.state / name

    def _queue(self) -> list[str]:
        return (self.state / "queue").read_text().splitlines()

    def _change(self, job: str, change) -> None:
        lines = [
            "|".join(change(line.split("|"))) if line.split("|")[0] == job else line
            for line in self._queue()
        ]
        (self.state / "queue").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def fake_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cluster of scripts; the real commands, if any, are hidden behind them."""
    cluster = FakeCluster(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{cluster.bin}:{os.environ['PATH']}")
    return cluster


@pytest.fixture
def without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without SLURM's commands."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bash", "env", "git"):
        if found := shutil.which(name):
            (bare / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(bare))
