"""The script of a job array: its `#SBATCH` lines, and one `srun` of a Python process a node."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alps
from alps.launch.slurm.settings import minutes
from alps.launch.slurm.submission import Array, Submission


def array_script(submission: Submission, array: Array, nodes: int) -> str:
    """Text of an array's script.

    Args:
        submission: Its submission.
        array: The array, whose job does not exist yet.
        nodes: Nodes of a job.
    """
    slurm = submission.slurm
    keys = [submission.entries[array.first + i].key for i in range(array.count)]
    # Supports a checkout that is not installed, and scripts that clean the environment.
    path = f"{Path(alps.__file__).parents[1]}"
    job = [sys.executable, "-m", "alps.launch.slurm.job", str(submission.folder), submission.id]
    srun = ["srun", f"--cpus-per-task={slurm.cpus}"]  # since 22.05 srun doesn't take the job's
    if nodes > 1:
        srun += ["--label", "--kill-on-bad-exit=0"]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {line}" for line in _options(submission, array, nodes)),
        *(f"# {index}: {key}" for index, key in enumerate(keys)),
        *slurm.setup,
        f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export TQDM_DISABLE=1 HF_HUB_DISABLE_PROGRESS_BARS=1  # logs without bars",
        f'exec {shlex.join([*srun, *job, str(array.first)])} "$SLURM_ARRAY_TASK_ID"',
    ]
    return "\n".join(lines) + "\n"


def _options(submission: Submission, array: Array, nodes: int) -> Iterator[str]:
    slurm = submission.slurm
    output = submission.script(array).with_suffix("")
    own = {
        "job-name": slurm.name,
        "array": f"0-{array.count - 1}%{slurm.parallel}",
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "nodes": nodes,
        "ntasks-per-node": 1,  # ranks are worker processes of that one task
        "gpus-per-node": slurm.gpus,
        "cpus-per-task": slurm.cpus,
        "mem": slurm.mem,
        "time": minutes(slurm.time),
        "signal": f"USR2@{slurm.signal_seconds}",
        "open-mode": "append",
        "chdir": submission.cwd,
        "output": f"{str(output).replace('%', '%%')}_%a.log",
        "dependency": ",".join(array.after) or None,
        # A job whose task model failed leaves the queue instead of waiting for ever.
        "kill-on-invalid-dep": "yes" if any("afterok" in d for d in array.after) else None,
        "requeue": True,
    }
    for name, value in {**own, **slurm.additional}.items():
        if value is not None:
            yield _option(str(name).replace("_", "-"), value)


def _option(name: str, value: Any) -> str:
    if value is True:
        return f"--{name}"
    text = str(value)
    if any(c.isspace() or c in "\"'\\#" for c in text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"--{name}={text}"
