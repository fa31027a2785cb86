"""A lock that goes with its process, however that ends: the kernel's flock on an open file."""

from __future__ import annotations

import fcntl


def lock_or_raise(descriptor: int, error: Exception) -> None:
    """Lock an open file for this process until it is closed; raises `error` while another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as blocked:
        raise error from blocked
