"""A limit on the memory that the decoding of one sample may take, kept by the kernel."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.process_memory import is_known, private_memory


@contextmanager
def memory_limit(num_bytes: int) -> Iterator[None]:
    """In the body this process may take `num_bytes` more than it has; what asks for more gets a MemoryError.

    Counted is private writable memory (RLIMIT_DATA), so that Ray's shared memory and mapped files are free. Only
    Linux says how much a process has: elsewhere there is no limit.
    """
    if not is_known():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceilings = [
        private_memory() + num_bytes,
        *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY),
    ]
    resource.setrlimit(resource.RLIMIT_DATA, (min(ceilings), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
