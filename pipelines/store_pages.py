"""The pages of a feature store: feature sets, samples, versions, differences, failures.

Each shows one catalog version, and its links keep it. What a browser sends is never part of SQL or of a path.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import get_args
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from pipelines.store_options import size, snapshot_of
from pipelines.store_overview import overview
from pipelines.store_page_parts import Asked, Link, Page, Table
from pipelines.store_pictures import CAPTIONS, Kind

ROWS_ON_A_PAGE = 100


def feature_sets(asked: Asked) -> Page:
    """All feature sets."""
    rows = [
        (
            Link(row["feature_set"], asked.link("/set", name=row["feature_set"])),
            row["extractor"],
            row["samples"],
            f"{row['samples'] / row['known']:.1%}" if row["known"] else "-",
            row["failures"],
            row["steps"],
            size(row["bytes"]),
            row["licence"],
        )
        for row in overview(asked.store, asked.snapshot.version)
    ]
    table = Table(
        (
            "feature set", "extractor", "samples", "coverage", "failed", "time steps", "size",
            "licence of the encoder",
        ),
        rows,
        "A feature set is what one extractor configuration makes of one dataset. Coverage is the share of the "
        "dataset's known samples that have features; failed ones have none.",
        numbers=(2, 3, 4, 5, 6),
        nothing="There is no feature set yet; make one with pave extract.",
    )  # fmt: skip
    return Page("Feature sets", tables=[table])


def feature_set(asked: Asked) -> Page:
    """One feature set: its samples, and all that is known of it."""
    name = asked.wanted("name")
    found = asked.feature_set(name)
    start = asked.number("from", 0)
    search = asked.parameters.get("search", "")
    condition = "dataset = ? AND channel = ? AND fingerprint = ? AND contains(sample_id, ?)"
    values = [found.record.dataset, found.record.channel, found.record.fingerprint, search]
    version = asked.snapshot.version
    (total,) = asked.store.query(
        f"SELECT count(*) AS n FROM features WHERE {condition}", version, values
    ).to_pylist()
    rows = asked.store.query(
        f"SELECT sample_id, split, steps, duration, nbytes FROM features WHERE {condition} "
        "ORDER BY sample_id LIMIT ? OFFSET ?",
        version,
        [*values, ROWS_ON_A_PAGE, start],
    ).to_pylist()
    listed = Table(
        ("sample", "split", "time steps", "duration (s)", "size"),
        [
            (
                Link(row["sample_id"], asked.link("/sample", set=name, id=row["sample_id"])),
                row["split"] or "-",
                row["steps"],
                "-" if row["duration"] is None else f"{row['duration']:.2f}",
                size(row["nbytes"]),
            )
            for row in rows
        ],
        "Samples with features, by name.",
        title="Samples",
        numbers=(2, 3, 4),
        nothing="No sample.",
    )
    tensors = Table(
        ("tensor", "tokens of a step (S)", "dimension (D)", "type"),
        [(layout.name, layout.tokens, layout.dim, layout.dtype) for layout in found.record.tensors],
        "What is kept of a sample: (T, S, D), T time steps that differ from sample to sample.",
        numbers=(1, 2),
    )
    return Page(
        name,
        tables=[tensors, listed],
        texts=[json.dumps(asdict(found.record), indent=1, default=str)],
        form={
            "action": "/set",
            "fields": {"search": search},
            "hidden": asked.kept("name"),
            "button": "search",
        },
        pager=_pager(asked, "/set", start, len(rows), total["n"], name=name, search=search),
    )


def sample(asked: Asked) -> Page:
    """One sample's features as pictures."""
    name, sample_id = asked.wanted("set"), asked.wanted("id")
    found = asked.feature_set(name)
    if sample_id not in found:
        raise HTTPException(404, f"{name} has no features of {sample_id!r} in this version")
    steps = int(found.lengths([sample_id])[0])
    rows = asked.store.query(
        "SELECT feature_set, steps FROM (SELECT dataset || '/' || channel || '/' || fingerprint AS feature_set, "
        "steps FROM features WHERE dataset = ? AND sample_id = ?) ORDER BY feature_set",
        asked.snapshot.version,
        [found.record.dataset, sample_id],
    ).to_pylist()
    others = Table(
        ("feature set", "time steps"),
        [
            (
                Link(row["feature_set"], asked.link("/sample", set=row["feature_set"], id=sample_id)),
                row["steps"],
            )
            for row in rows
        ],
        "All feature sets that this sample is in.",
        numbers=(1,),
    )
    layout = found.record.tensors[0]
    figures = [
        {
            "source": asked.link("/picture", set=name, id=sample_id, kind=kind),
            "name": kind,
            "caption": CAPTIONS[kind],
        }
        for kind in get_args(Kind)
    ]
    shape = f"{steps} x {layout.tokens} x {layout.dim}"
    return Page(
        sample_id,
        [f"{layout.name} of {name}: {shape} (time steps, tokens of a step, dimension), {layout.dtype}."],
        [others],
        figures,
    )


def versions(asked: Asked) -> Page:
    """The newest versions, and the tags."""
    commits = asked.store.commits(ROWS_ON_A_PAGE)
    tags = sorted(asked.store.tags().values(), key=lambda tag: (tag.version, tag.name))
    named: dict[int, list[str]] = {}
    for tag in tags:
        named.setdefault(tag.version, []).append(tag.name)
    rows = [
        (
            Link(str(number), f"/?{urlencode({'version': number})}"),
            f"{moment:%Y-%m-%d %H:%M:%S}",
            ", ".join(named.get(number, [])) or "-",
            Link("what changed", asked.link("/diff", before=number - 1, after=number)) if number > 0 else "-",
        )
        for number, moment in commits.items()
    ]
    newest = next(iter(commits), 0)
    return Page(
        "Versions",
        tables=[
            Table(
                ("version", "committed (UTC)", "tags", ""), rows, f"The newest {len(rows)} versions of the catalog."
            ),
            Table(
                ("tag", "version", "given (UTC)"),
                [(tag.name, tag.version, f"{tag.time:%Y-%m-%d %H:%M:%S}") for tag in tags],
                "A tagged version stays readable.",
                title="Tags",
                numbers=(1,),
                nothing="No tags.",
            ),
        ],
        form={
            "action": "/diff",
            "fields": {"before": max(0, newest - 1), "after": newest},
            "hidden": asked.kept(),
            "button": "compare",
        },
    )  # fmt: skip


def diff(asked: Asked) -> Page:
    """What changed between two versions."""
    before, after = (snapshot_of(asked.store, asked.wanted(name)).version for name in ("before", "after"))
    changes = asked.store.diff(before, after)
    keys = ["dataset", "channel", "fingerprint", "change"]
    counts = (
        changes.group_by(keys).aggregate([([], "count_all")]).sort_by([(key, "ascending") for key in keys])
    )
    counted = Table(
        ("feature set", "change", "samples"),
        [
            (f"{row['dataset']}/{row['channel']}/{row['fingerprint']}", row["change"], row["count_all"])
            for row in counts.to_pylist()
        ],
        "Samples whose features were added, removed or replaced; moving them between parts is no change.",
        numbers=(2,),
        nothing="Nothing changed.",
    )
    some = changes.slice(0, ROWS_ON_A_PAGE).to_pylist()
    listed = Table(
        ("sample", "channel", "change"),
        [(row["sample_id"], row["channel"], row["change"]) for row in some],
        f"The first {len(some)} of {len(changes)} changes.",
        title="Samples",
    )
    return Page(f"Version {before} to {after}", tables=[counted, listed] if some else [counted])


def failures(asked: Asked) -> Page:
    """Samples that have no features, by the reason of their last attempt."""
    last = (
        "SELECT * FROM (SELECT DISTINCT ON (dataset, channel, fingerprint, sample_id) * FROM failures "
        "ORDER BY time DESC) ANTI JOIN features USING (dataset, channel, fingerprint, sample_id)"
    )
    version = asked.snapshot.version
    reasons = asked.store.query(
        "SELECT channel, error_type, count(*) AS n, any_value(sample_id) AS example, "
        f"any_value(message) AS message FROM ({last}) GROUP BY channel, error_type ORDER BY n DESC",
        version,
    ).to_pylist()
    start = asked.number("from", 0)
    rows = asked.store.query(
        f"SELECT dataset, channel, sample_id, message, time FROM ({last}) "
        "ORDER BY channel, sample_id LIMIT ? OFFSET ?",
        version,
        [ROWS_ON_A_PAGE, start],
    ).to_pylist()
    by_reason = Table(
        ("reason", "channel", "samples", "for example"),
        [
            (row["error_type"], row["channel"], row["n"], f"{row['example']}: {row['message']}")
            for row in reasons
        ],
        "Samples without features whose last attempt failed, by the kind of error.",
        numbers=(2,),
        nothing="No sample lacks features because of a failure.",
    )
    listed = Table(
        ("dataset", "channel", "sample", "what happened", "when (UTC)"),
        [
            (
                row["dataset"],
                row["channel"],
                row["sample_id"],
                row["message"],
                f"{row['time']:%Y-%m-%d %H:%M}",
            )
            for row in rows
        ],
        "Extracting again tries a file that has changed; retry_failed tries all.",
        title="Samples",
    )
    total = sum(row["n"] for row in reasons)
    return Page(
        "Failures",
        tables=[by_reason, listed] if rows else [by_reason],
        pager=_pager(asked, "/failures", start, len(rows), total),
    )


def _pager(
    asked: Asked, page: str, start: int, shown: int, total: int, **parameters: object
) -> dict[str, str]:
    """Which rows these are, and where those before and after them are."""
    if total <= ROWS_ON_A_PAGE and start == 0:
        return {}
    pager = {
        "text": f"{start + 1 if shown else start} to {start + shown} of {total}.",
        "before": "",
        "after": "",
    }
    if start > 0:
        pager["before"] = asked.link(page, **{"from": max(0, start - ROWS_ON_A_PAGE)}, **parameters)
    if start + shown < total and shown:
        pager["after"] = asked.link(page, **{"from": start + ROWS_ON_A_PAGE}, **parameters)
    return pager
