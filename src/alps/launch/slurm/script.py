"""The script of a job array: its `#SBATCH` lines, and one `srun` of a Python process a node."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import alps
from alps.launch.slurm.settings import Slurm, minutes


def array_script(
    slurm: Slurm, folder: Path, first: int, keys: Sequence[str], nodes: int, after: Sequence[str]
) -> str:
    """Text of the script for some entries of a submission.

    Args:
        slurm: Resources of a job.
        folder: Folder of the submission.
        first: Number of the first entry.
        keys: Keys of the entries, one element of the array each.
        nodes: Nodes of a job.
        after: Dependencies, as `afterok:7_0`.
    """
    options = [
        f"#SBATCH {line}" for line in _options(slurm, folder, first, len(keys), nodes, after)
    ]
    # Supports a checkout that is not installed, and scripts that clean the environment.
    path = f"{Path(alps.__file__).parents[1]}"
    job = [sys.executable, "-m", "alps.launch.slurm.job", str(folder), str(first)]
    srun = ["srun", f"--cpus-per-task={slurm.cpus}"]  # since 22.05 srun doesn't take the job's
    if nodes > 1:
        srun += ["--label", "--kill-on-bad-exit=0"]
    lines = [
        "#!/bin/bash",
        *options,
        *(f"# {index}: {key}" for index, key in enumerate(keys)),
        *slurm.setup,
        f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export TQDM_DISABLE=1 HF_HUB_DISABLE_PROGRESS_BARS=1  # logs without bars",
        f'exec {shlex.join([*srun, *job])} "$SLURM_ARRAY_TASK_ID"',
    ]
    return "\n".join(lines) + "\n"


def _options(
    slurm: Slurm, folder: Path, first: int, count: int, nodes: int, after: Sequence[str]
) -> Iterator[str]:
    own = {
        "job-name": slurm.name,
        "array": f"0-{count - 1}%{slurm.parallel}",
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
        "chdir": str(Path.cwd()),
        "output": f"{str(folder).replace('%', '%%')}/jobs-{first}_%a.log",
        "dependency": ",".join(after) or None,
        # A job whose task model failed leaves the queue instead of waiting for ever.
        "kill-on-invalid-dep": "yes" if any(d.startswith("afterok") for d in after) else None,
    }
    given = {str(n).replace("_", "-"): v for n, v in slurm.additional.items()}
    for name, value in {**own, **given}.items():
        if value is not None:
            yield _option(name, value)
    yield "--requeue"


def _option(name: str, value: Any) -> str:
    if value is True:
        return f"--{name}"
    text = str(value)
    if any(c.isspace() or c in "\"'\\#" for c in text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"--{name}={text}"
