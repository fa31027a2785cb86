"""Slots that the runs of all deployments share: one writer of a channel of a store, and the GPUs of a machine.

They are global concurrency limits of the Prefect server, made when they are first needed. A run waits until its slots
are free and holds them by a lease, so those of a process that was killed are free after `LEASE_SECONDS`.
"""

import hashlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from prefect import get_client, get_run_logger
from prefect.concurrency.sync import concurrency

LEASE_SECONDS = 120.0


@dataclass(frozen=True)
class Slots:
    """Of the limit `name`, which has `limit` slots, a run holds `held`."""

    name: str
    limit: int = 1
    held: int = 1


def writer_slots(store: str, channels: Iterable[str]) -> list[Slots]:
    """That of each channel of a store, whatever the dataset: names do not show which datasets a run is about."""
    place = hashlib.sha256(store.encode()).hexdigest()[:8]
    return [Slots(f"pave-write-{channel}-{place}") for channel in sorted(set(channels))]


def gpu_slots(wanted: int | None, available: int) -> list[Slots]:
    """Of this machine's GPUs those that are wanted, None: all; nothing where there are none."""
    held = available if wanted is None else min(wanted, available)
    return [Slots(f"pave-gpu-{socket.gethostname()}", available, held)] if held else []


@contextmanager
def holding(slots: Sequence[Slots]) -> Iterator[None]:
    """Wait for all of them, and hold them; in the same order in every run, so that no two wait for each other."""
    with ExitStack() as stack:
        for slot in slots:
            with get_client(sync_client=True) as client:
                client.upsert_global_concurrency_limit_by_name(slot.name, slot.limit)
            get_run_logger().info("waits for %d of %d of %s", slot.held, slot.limit, slot.name)
            # a lease that cannot be renewed while the server is away must not end the work
            stack.enter_context(
                concurrency(
                    slot.name,
                    occupy=slot.held,
                    lease_duration=LEASE_SECONDS,
                    strict=True,
                    raise_on_lease_renewal_failure=False,
                )
            )
        yield
