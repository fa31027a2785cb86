"""The memory of this process, as Linux tells it."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def is_known() -> bool:
    """Whether this system tells: Linux does."""
    return _STATUS.exists()


def peak_memory() -> int:
    """Bytes: the high-water mark of resident memory, mapped files included."""
    return _status_bytes("VmHWM")


def private_memory() -> int:
    """Bytes of private writable memory, which RLIMIT_DATA bounds."""
    return _status_bytes("VmData")


def unmapped_memory() -> int:
    """Bytes of resident memory that maps no file: the system takes mapped pages back when it needs them."""
    return _status_bytes("RssAnon") + _status_bytes("RssShmem")


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {field}; the memory of a process is known on Linux only")
