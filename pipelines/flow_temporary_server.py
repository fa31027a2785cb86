"""A Prefect server for one process, sooner ready than the one that Prefect starts itself.

Prefect imports its whole server into the process that needs one, and then once more into the server's. Here the server
starts while its user imports Prefect, and alone imports it: the user must not have imported Prefect yet. The socket
listens from the start, so that early requests wait.

    python -m pipelines.flow_temporary_server FD

serves on that socket until standard input ends, as it does when the process that started it is gone, however it ended.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

LOG = "temporary-server.log"
_END_SECONDS = 10.0


def start_temporary_server(home: Path, environment: dict[str, str]) -> str:
    """The URL of a server's API that is not ready yet; it ends when this process does, and writes to `home`.

    `environment` is the server's, and says where its database is.
    """
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as listening, (home / LOG).open("ab") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        server = subprocess.Popen(
            [sys.executable, "-m", "pipelines.flow_temporary_server", str(listening.fileno())],
            env=environment | {"PREFECT_API_URL": url},
            pass_fds=[listening.fileno()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is its user's, who still has to tell it how the run ended
        )
    atexit.register(_end, server)  # registered before Prefect's own, it comes after their last log lines
    return url


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(listening: socket.socket) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    threading.Thread(target=_end_with_user, args=(server,), daemon=True).start()
    server.run(sockets=[listening])


def _end_with_user(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    _serve(socket.socket(fileno=int(sys.argv[1])))
