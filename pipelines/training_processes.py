"""Starts the processes of a training with torchrun, one a GPU, and listens to them.

torchrun is a child of this process and the processes are its children; each is killed by the kernel when its parent
ends. What they print beside news is passed on to the logger of this module.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from pipelines.config import TrainConfig
from pipelines.errors import RunError, TrainingProcessError
from pipelines.progress import Progress
from pipelines.train_launcher import FAILED
from pipelines.train_worker import ERROR, PROGRESS

logger = logging.getLogger(__name__)
LAST_LINES = 15
SECONDS_TO_END = 15.0  # after SIGTERM


def check_devices(config: TrainConfig) -> None:
    """Raises RunError when this node has GPUs, but fewer than processes."""
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < config.processes:
        raise RunError(
            f"processes is {config.processes}, but this machine has {gpus} GPUs; give at most {gpus}"
        )


def run_processes(config: TrainConfig, snapshot: int, stage: Progress) -> None:
    """Train `config` on a version of the store with this node's processes, and wait for them.

    Raises TrainingProcessError with the error of the process that failed, or with its exit code and last lines.
    """
    with tempfile.TemporaryDirectory(prefix="pave-train-") as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"config": config.model_dump(mode="json"), "snapshot": snapshot}))
        process = subprocess.Popen(
            _command(config, task),
            env=_environment(config),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C comes to this process alone, which then ends the others
        )
        try:
            news = _listen(process, stage)
            code = process.wait()
        finally:
            _end(process)
    if code == 0:
        return
    if ERROR in news:
        raise TrainingProcessError(str(news[ERROR]))
    failed = news.get(FAILED, {"rank": "unknown", "exit_code": code})
    lines = " | ".join(news["lines"])
    raise TrainingProcessError(
        f"training process {failed['rank']} of {config.num_processes} ended with exit code {failed['exit_code']}; "
        f"the same command goes on from the last checkpoint; last lines: {lines}"
    )


def _command(config: TrainConfig, task: Path) -> list[str]:
    if config.nodes == 1:
        where = ["--standalone"]  # a free port of this machine
    else:
        host, _, port = str(config.rendezvous).rpartition(":")
        where = ["--master-addr", host, "--master-port", port, "--node-rank", str(config.node_rank)]
    return [
        *(sys.executable, "-m", "pipelines.train_launcher", str(os.getpid())),
        *("--nnodes", str(config.nodes), "--nproc-per-node", str(config.processes)),
        *(*where, "-m", "pipelines.train_worker", str(task)),
    ]


def _environment(config: TrainConfig) -> dict[str, str]:
    """Ours, with the folder that this package was imported from, and with the cores shared out."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    threads = max(1, (os.cpu_count() or 1) // config.processes)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def _listen(process: subprocess.Popen[str], stage: Progress) -> dict[str, Any]:
    """Pass on what the processes say until they close stdout: the last news of each kind, and the last lines."""
    lines: deque[str] = deque(maxlen=LAST_LINES)
    news: dict[str, Any] = {"lines": lines}
    assert process.stdout is not None
    for line in process.stdout:
        told = _news(line)
        if told is None:
            if line.strip():
                lines.append(line.strip())
                logger.warning("%s", line.rstrip())
        elif PROGRESS in told:
            done, total, failed, note = told[PROGRESS]
            stage.update(done, total, failed, note)
        else:
            news = {**told, **news}  # the first error: others may follow from it
    return news


def _news(line: str) -> dict[str, Any] | None:
    if not line.startswith('{"pave_'):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if told.keys() <= {PROGRESS, ERROR, FAILED} else None


def _end(process: subprocess.Popen[str]) -> None:
    """End torchrun, which ends its processes, unless it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
