"""What this machine has for an extraction: cores, GPUs and memory."""

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, CUDA devices, and memory in bytes that is free now."""

    cores: int
    gpus: int
    memory_bytes: int


def this_machine() -> Machine:
    """Look at the machine that this process runs on; a container's memory limit counts (Linux)."""
    import torch  # slow

    return Machine(len(os.sched_getaffinity(0)), torch.cuda.device_count(), _free_memory())


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.is_file() else "max"
    return free if limit == "max" else min(free, int(limit))
