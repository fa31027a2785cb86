"""A sign of life from whoever reads media, so that a reading that hangs can be told from one that is long.

Readers call `beat` for every packet, frame and view. What listens is set once in a process; without a listener
a beat costs nothing worth counting.
"""

from collections.abc import Callable

_listener: Callable[[], None] | None = None


def on_beat(callback: Callable[[], None] | None) -> None:
    """Call `callback` at every beat of this process from now on; None ends it.

    It is called thousands of times a second, in the reading thread: keep it short. It must not
    raise.
    """
    global _listener
    _listener = callback


def beat() -> None:
    """Say that the reading goes on."""
    if _listener is not None:
        _listener()
