"""`python -m pipelines.train_launcher PARENT ARGUMENTS`: torchrun, which ends with its parent and names who failed."""

from __future__ import annotations

import json
import os
import sys

from pipelines.die_with_parent import die_with_parent

FAILED = "pave_failed"
LAUNCHER = "PAVE_LAUNCHER_PID"  # for the processes, which may start when the launcher has been killed already


def main() -> None:
    """Start the processes of this node and wait for them; exit code 1 when one fails."""
    parent, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    os.environ[LAUNCHER] = str(os.getpid())
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(json.dumps({FAILED: {"rank": rank, "exit_code": failure.exitcode}}), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
