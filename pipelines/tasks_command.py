"""`pave tasks`: the datasets that `pave prepare --task` knows."""

from __future__ import annotations

import click


@click.command("tasks")
def tasks() -> None:
    """List the datasets that PAVE knows: side channels, where the files are from, and their licence."""
    from pipelines.plain_table import plain_table
    from tasks import TASKS, task_module

    rows = []
    for name in sorted(TASKS):
        module = task_module(name)
        rows.append((name, ", ".join(module.CHANNELS), module.SOURCE, module.LICENCE))
    click.echo(plain_table(("task", "channels", "source", "licence"), rows))
