"""What Prefect costs: a flow against the plain function inside it, and how long a flow takes to start.

The flow `extract-audio` and the function `pipelines.extract.extract` take turns over many tiny clips (links to a few
generated ones, from a manifest, each time into a fresh store), in an order that is reversed each time. A server on
127.0.0.1 and Ray run already, and one run of each is not measured. Prints one flat JSON object as its last line:

    orchestration/plain_s, orchestration/flow_s    seconds of a call, the median of the turns
    orchestration/flow_vs_function                 the median of flow over plain, turn by turn
    orchestration/flow_startup_s                   from the start of a Python process without a server to the first line
                                                   of the plain function: imports, Prefect's temporary server, the run
    orchestration/flow_startup_with_server_s       the same where a server runs
    orchestration/run_here_startup_s               from the start of `pave run FLOW --here`, without a server, until the
                                                   function inside the flow has refused its settings

    python benchmarks/orchestration.py [--samples 1000] [--turns 3]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

DIFFERENT_CLIPS = 8
TOWER = {"weights": "random:1", "embed_dim": 32, "num_blocks": 1, "num_heads": 4, "out_dim": 16}
START = """
import sys, time
import pipelines.extract
from pipelines.config import ExtractAudioConfig
from pipelines.errors import PipelineError
from pipelines.flows import extract_audio

def first_line(*_):
    print(time.time() - float(sys.argv[1]), flush=True)
    raise PipelineError("that was all")

pipelines.extract.extract = first_line
extract_audio(ExtractAudioConfig(videos="nothing", store="nothing"), return_state=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]  # before Prefect reads them
    os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        starts = [start_seconds() for _ in range(options.turns)]
        here = [run_here_seconds(folder / "home") for _ in range(options.turns)]
        with served():
            with_server = [start_seconds() for _ in range(options.turns)]
            plain, flow = turns(folder, options.samples, options.turns)
    ratios = [one / other for one, other in zip(flow, plain, strict=True)]
    result = {
        "orchestration/flow_vs_function": statistics.median(ratios),
        "orchestration/flow_startup_s": statistics.median(starts),
        "orchestration/flow_startup_with_server_s": statistics.median(with_server),
        "orchestration/run_here_startup_s": statistics.median(here),
        "orchestration/plain_s": statistics.median(plain),
        "orchestration/flow_s": statistics.median(flow),
    }
    rounded = {name: float(f"{value:.4g}") for name, value in result.items()}
    print(json.dumps({"samples": options.samples, "turns": options.turns, **rounded}))


def start_seconds() -> float:
    """From the start of a process to the first line of the function inside a flow."""
    started = subprocess.run(
        [sys.executable, "-c", START, str(time.time())], capture_output=True, text=True, timeout=300
    )
    if not started.stdout:
        raise SystemExit(started.stderr)
    return float(started.stdout.splitlines()[0])


def run_here_seconds(home: Path) -> float:
    """From the start of `pave run prepare --here` to the function's word that there is no such folder."""
    command = ["run", "prepare", "--here", "--home", str(home), "--param", f"videos={home}/none"]
    started = time.time()
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if "there is no file or folder" in line:
                return time.time() - started
    raise SystemExit("".join(output))


@contextmanager
def served() -> Iterator[None]:
    """A server on a free port, which this process and its children use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{os.environ['PREFECT_API_URL']}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def turns(folder: Path, samples: int, count: int) -> tuple[list[float], list[float]]:
    """Seconds of the plain function and of the flow, turn by turn."""
    from pipelines.config import ExtractAudioConfig
    from pipelines.extract import extract
    from pipelines.flows import extract_audio
    from pipelines.manifest import build_manifest, write_manifest
    from pipelines.ray_extract import ray_session
    from tasks import sidecue

    sidecue.make(folder / "world", sidecue.SideCueConfig(splits={"test": DIFFERENT_CLIPS}), workers=1)
    clips = folder / "clips"
    clips.mkdir()
    for number in range(samples):
        source = folder / "world" / "test" / f"{number % DIFFERENT_CLIPS:06d}.mp4"
        (clips / f"{number:06d}.mp4").symlink_to(source)
    manifest = folder / "manifest.parquet"
    write_manifest(build_manifest(clips, "bench"), manifest)

    def seconds(function: object, number: int) -> float:
        store = str(folder / f"store-{number}-{function is extract_audio}")
        config = ExtractAudioConfig.model_validate({"manifest": manifest, "store": store, "encoder": TOWER})
        started = time.monotonic()
        report = extract_audio(config) if function is extract_audio else extract("audio", config)
        if report.done != samples:
            raise SystemExit(report.summary())
        return time.monotonic() - started

    taken: dict[object, list[float]] = {extract: [], extract_audio: []}
    with ray_session():
        for number in range(-1, count):
            order = list(taken) if number % 2 else list(taken)[::-1]
            for function in order:
                result = seconds(function, number)
                if number >= 0:
                    taken[function].append(result)
    return taken[extract], taken[extract_audio]


if __name__ == "__main__":
    main()
