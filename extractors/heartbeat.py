"""A sign of life from whoever reads media, so that a reading that hangs can be told from one that is long.

Readers call `beat` for every packet, frame and view, and `rest` when they hand over what they have read and wait to
be asked for more. What listens is set once in a process; without a listener both cost nothing worth counting.
"""

from collections.abc import Callable

_on_beat: Callable[[], None] | None = None
_on_rest: Callable[[], None] | None = None


def on_beat(callback: Callable[[], None] | None, rest: Callable[[], None] | None = None) -> None:
    """Call `callback` at every beat of this process from now on, and `rest` at every rest; None ends it.

    They are called thousands of times a second, in the reading thread: keep them short. What they raise ends
    the reading of the sample.
    """
    global _on_beat, _on_rest
    _on_beat, _on_rest = callback, rest


def beat() -> None:
    """Say that the reading goes on."""
    if _on_beat is not None:
        _on_beat()


def rest() -> None:
    """Say that the reading waits to be asked for more."""
    if _on_rest is not None:
        _on_rest()
