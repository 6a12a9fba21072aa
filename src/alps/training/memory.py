"""Peak memory of a training: of the GPU if available, else resident memory of the process."""

import ctypes
import gc
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch


def reset_peak() -> None:
    """Resets the peak, so that runs of a sweep are measured separately."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return freed pages of earlier runs
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
    except (OSError, AttributeError):
        pass


def peak_bytes() -> int:
    """Peak memory since `reset_peak`, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return getrusage(RUSAGE_SELF).ru_maxrss * 1024
