"""A limit on the memory that the decoding of one sample may take, kept by the kernel."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")


@contextmanager
def memory_limit(num_bytes: int) -> Iterator[None]:
    """In the body this process may take `num_bytes` more than it has; what asks for more gets a MemoryError.

    Counted is private writable memory (RLIMIT_DATA), so that Ray's shared memory and mapped files are free. Only
    Linux says how much a process has: elsewhere there is no limit.
    """
    if not _STATUS.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceilings = [
        _private_bytes() + num_bytes,
        *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY),
    ]
    resource.setrlimit(resource.RLIMIT_DATA, (min(ceilings), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_bytes() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no VmData")
