"""Decoding in a process with limits, as its parent sees it: what came of a sample, how long it took, how much
memory. Run as a program it is that process."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FEATURES, REFUSED, ELSE = "features", "refused", "else"
MAX_SECONDS = 30.0
MAX_BYTES = 2 * 2**30
_KILL_BYTES = 4 * 2**30  # the machine is not ours alone
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """`kind` is FEATURES for a valid `Decoded`, REFUSED for a proper `MediaError`, and ELSE otherwise; `seconds`
    and `peak_bytes` (the most memory, over what the process held before) are those of the call."""

    kind: str
    message: str
    seconds: float
    peak_bytes: int

    @property
    def within_limits(self) -> bool:
        return self.kind != ELSE and self.seconds <= MAX_SECONDS and self.peak_bytes <= MAX_BYTES


class LimitedDecoder:
    """Decodes in a process of its own, which is killed when it gives no answer or takes too much memory, and
    started again when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "LimitedDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def decode(self, channel: str, sample_id: str, media: dict[str, Path]) -> Outcome:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak counts from here
        before = _memory(process.pid, "VmRSS")
        question = {
            "channel": channel,
            "sample_id": sample_id,
            "media": {k: str(v) for k, v in media.items()},
        }
        started = time.monotonic()
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        peak = 0
        while not select.select([process.stdout], [], [], 0.05)[0]:
            seconds, peak = time.monotonic() - started, max(peak, _memory(process.pid, "VmHWM") - before)
            if seconds > MAX_SECONDS or peak > _KILL_BYTES:
                self._end()
                return Outcome(ELSE, "killed: too slow or too large", seconds, peak)
        answer = process.stdout.readline()
        seconds = time.monotonic() - started
        if not answer:
            code = process.wait()
            self._end()
            return Outcome(ELSE, f"the process died ({code})", seconds, peak)
        peak = max(peak, _memory(process.pid, "VmHWM") - before)
        return Outcome(*json.loads(answer), seconds, peak)

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            paths = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent)))
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            )
            assert self._process.stdout is not None
            ready = select.select([self._process.stdout], [], [], _START_SECONDS)[0]
            assert ready
            assert self._process.stdout.readline() == "ready\n"
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _memory(pid: int, name: str) -> int:
    """Bytes, by the kernel's name of what is asked."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def problem(decoded: object) -> str | None:
    """What no `Decoded` may be."""
    import numpy as np

    from extractors.contract import Decoded

    if not isinstance(decoded, Decoded):
        return f"a {type(decoded).__name__}"
    times = decoded.timestamps
    if times.dtype != np.float64 or times.ndim != 1 or len(times) == 0 or np.isinf(times).any():
        return f"timestamps {times}"
    if np.any(np.diff(times) < 0):
        return "timestamps that fall"
    for name, number in (
        ("duration", decoded.duration),
        ("fps", decoded.fps),
        ("n_frames", decoded.n_frames),
    ):
        if number is not None and not 0 < number < float("inf"):
            return f"{name} {number}"
    for name, tensor in decoded.tensors.items():
        if not np.isfinite(tensor).all():
            return f"{name} is not finite"
    json.dumps(dict(decoded.attributes), allow_nan=False)
    return None


def _work() -> None:
    import torch

    from extractors.audio import AudioExtractor
    from extractors.config import AudioConfig, DenseConfig, Depth3dConfig, ExoConfig, FramesConfig
    from extractors.contract import Extractor, Sample
    from extractors.dense import DenseExtractor
    from extractors.depth3d import Depth3dExtractor
    from extractors.errors import MediaError
    from extractors.exo import ExoExtractor
    from extractors.frames import FramesExtractor

    torch.set_num_threads(1)
    base = ROOT / "tests" / "golden" / "pave_patch" / "checkpoint_case" / "base_hf"
    makers: dict[str, Callable[[], Extractor]] = {
        "audio": lambda: AudioExtractor(AudioConfig(weights="random:1")),
        "frames": lambda: FramesExtractor(FramesConfig(base=str(base), num_frames=4)),
        "dense": lambda: DenseExtractor(DenseConfig(weights="random:1")),
        "depth3d": lambda: Depth3dExtractor(
            Depth3dConfig(weights="random:0", embedding="random:1", num_views=2)
        ),
        "exo": lambda: ExoExtractor(ExoConfig(weights="random:0", num_frames=2)),
    }
    extractors = {channel: make() for channel, make in makers.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        sample_id = question["sample_id"]
        media = {role: Path(path) for role, path in question["media"].items()}
        try:
            decoded = extractors[question["channel"]].decode(Sample(sample_id, "fuzz", media))
        except MediaError as error:
            text = str(error)
            proper = text.startswith(f"{sample_id}: ") and text.isprintable() and len(text) < 2000
            answer = (REFUSED if proper else ELSE, f"{type(error).__name__}: {text}")
        except BaseException as error:  # anything else is what is looked for
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
            answer = (ELSE, f"{type(error).__name__}: {error} ({place})")
        else:
            wrong = problem(decoded)
            answer = (ELSE, f"gave {wrong}") if wrong else (FEATURES, "")
            del decoded
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _work()
