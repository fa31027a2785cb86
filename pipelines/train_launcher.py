"""`python -m pipelines.train_launcher PARENT ARGUMENTS`: torchrun, which ends with its parent and names who failed."""

from __future__ import annotations

import json
import sys

from pipelines.die_with_parent import die_with_parent

FAILED = "pave_failed"


def main() -> None:
    """Start the processes of this node and wait for them; exit code 1 when one fails."""
    parent, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
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
