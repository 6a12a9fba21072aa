"""Peak memory of a training: allocated memory of its GPU, or resident memory of the process.

Resident memory includes the program; the allocated memory of a GPU is that of tensors, without the
CUDA context and without what the caching allocator keeps. `alps.cost.memory` predicts either.
"""

import ctypes
import gc
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch


def reset_peak(on_gpu: bool) -> None:
    """Resets the peak, so that runs of a sweep are measured separately.

    Args:
        on_gpu: Whether the peak is that of a GPU.
    """
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return freed pages of earlier runs
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
    except (OSError, AttributeError):
        pass


def peak_bytes(on_gpu: bool) -> int:
    """Peak memory of this rank since `reset_peak`, in bytes.

    Args:
        on_gpu: Whether the peak is that of a GPU.
    """
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return getrusage(RUSAGE_SELF).ru_maxrss * 1024
