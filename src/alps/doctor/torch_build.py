"""The installed torch and the GPUs that it sees.

Asked in a process of its own: asking occupies the GPUs, and a broken driver can hang or crash it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

PROBE = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    seen = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    gpus = [torch.cuda.get_device_properties(i) for i in seen]
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "rocm": getattr(torch.version, "hip", None),
    "gpus": [[g.name, g.total_memory, [g.major, g.minor]] for g in gpus],
    "warnings": [str(w.message) for w in caught if "cuda" in str(w.message).lower()],
}))
"""
SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU that torch sees.

    Attributes:
        name: As the driver calls it.
        memory: Total memory in bytes.
        capability: Compute capability.
    """

    name: str
    memory: int
    capability: tuple[int, int]

    @property
    def has_bfloat16(self) -> bool:
        """Whether it multiplies in bfloat16 and TF32 (Ampere and later)."""
        return self.capability >= (8, 0)


@dataclass(frozen=True, kw_only=True)
class TorchBuild:
    """The installed torch.

    Attributes:
        version: Its version, or an empty text if it cannot be imported.
        cuda: Version of CUDA it is built for, or None.
        rocm: The same of ROCm.
        gpus: Visible GPUs.
        warnings: What it says about CUDA, as that the driver is too old.
        problem: Why it cannot be imported, or None.
    """

    version: str = ""
    cuda: str | None = None
    rocm: str | None = None
    gpus: Sequence[Gpu] = ()
    warnings: Sequence[str] = ()
    problem: str | None = None


def probe_torch() -> TorchBuild:
    """Imports torch in another process and asks it."""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        return TorchBuild(problem=f"does not answer within {SECONDS:g} s")
    except (ValueError, IndexError):
        return TorchBuild(problem="prints something else than asked for")
    if found is None:
        lines = done.stderr.strip().splitlines()
        return TorchBuild(problem=lines[-1] if lines else f"ends with exit code {done.returncode}")
    gpus = [Gpu(name=n, memory=m, capability=(c[0], c[1])) for n, m, c in found.pop("gpus")]
    return TorchBuild(**found, gpus=gpus)
