"""The read-only pages of a feature store, as a Starlette application.

Every page shows one catalog version, `?version=` (a number, a tag or a moment; the newest if it is not given), and its
links keep it. What a browser sends is never part of SQL or of a path; names are looked up in the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any, TypeAlias, get_args
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipelines.errors import PipelineError
from pipelines.store_options import size, snapshot_of
from pipelines.store_overview import overview
from pipelines.store_pictures import CAPTIONS, Kind, feature_picture
from store import FeatureSet, FeatureStore, Snapshot
from store.errors import DamagedPartError, StoreError

ROWS_ON_A_PAGE = 100
_HEADERS = {
    # nothing is loaded from anywhere else, and nothing runs
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    link: str


Cell: TypeAlias = str | int | Link


@dataclass(frozen=True)
class Table:
    """A table of a page; `numbers` are the columns that are aligned to the right, `nothing` is said without rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    title: str = ""
    numbers: Sequence[int] = ()
    nothing: str = "Nothing."


@dataclass(frozen=True)
class Page:
    """What the template shows; forms and pagers are as `pages/store.html` reads them."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[dict[str, str]] = ()
    texts: Sequence[str] = ()
    form: dict[str, Any] = field(default_factory=dict)
    pager: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request: the pinned snapshot, and the other parameters of the query."""

    snapshot: Snapshot
    version: str | None
    parameters: dict[str, str]

    def link(self, page: str, **parameters: object) -> str:
        """The address of a page at the same version."""
        values = {name: str(value) for name, value in parameters.items()}
        if self.version is not None:
            values["version"] = self.version
        return f"{page}?{urlencode(values)}" if values else page

    def wanted(self, name: str) -> str:
        """A parameter that the page needs."""
        if name not in self.parameters:
            raise HTTPException(400, f"the address lacks {name!r}")
        return self.parameters[name]


def store_app(store: FeatureStore, host: str = "127.0.0.1") -> Starlette:
    """The application. Requests must name `host` or this machine itself, so that no other site can read the store."""
    pages = StorePages(store)
    routes = [
        Route("/", pages.view(pages.feature_sets)),
        Route("/set", pages.view(pages.feature_set)),
        Route("/sample", pages.view(pages.sample)),
        Route("/versions", pages.view(pages.versions)),
        Route("/diff", pages.view(pages.diff)),
        Route("/failures", pages.view(pages.failures)),
        Route("/picture", pages.picture),
    ]
    hosts = ["localhost", "127.0.0.1", "[::1]", host]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["*"] if host in ("0.0.0.0", "::") else hosts)
        ],
        exception_handlers={
            HTTPException: pages.error,
            StoreError: pages.error,
            PipelineError: pages.error,
        },
    )


class StorePages:
    """The pages of one store."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self._template = Environment(
            loader=PackageLoader("pipelines", "pages"), undefined=StrictUndefined, autoescape=True
        ).get_template("store.html")
        self._drawing = Lock()  # matplotlib's style is the process's

    def view(self, make: Callable[[Asked], Page]) -> Callable[[Request], Response]:
        """The endpoint of a page."""

        def endpoint(request: Request) -> Response:
            asked = self._asked(request)
            return self._html(make(asked), asked)

        return endpoint

    def feature_sets(self, asked: Asked) -> Page:
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
            for row in overview(self.store, asked.snapshot.version)
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

    def feature_set(self, asked: Asked) -> Page:
        """One feature set: its samples, and all that is known of it."""
        name = asked.wanted("name")
        found = self._set(asked, name)
        start = _number(asked, "from", 0)
        search = asked.parameters.get("search", "")
        condition = "dataset = ? AND channel = ? AND fingerprint = ? AND contains(sample_id, ?)"
        values = [found.record.dataset, found.record.channel, found.record.fingerprint, search]
        version = asked.snapshot.version
        (total,) = self.store.query(
            f"SELECT count(*) AS n FROM features WHERE {condition}", version, values
        ).to_pylist()
        rows = self.store.query(
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
                "hidden": _kept(asked, "name"),
                "button": "search",
            },
            pager=_pager(asked, "/set", start, len(rows), total["n"], name=name, search=search),
        )

    def sample(self, asked: Asked) -> Page:
        """One sample's features as pictures."""
        name, sample_id = asked.wanted("set"), asked.wanted("id")
        found = self._set(asked, name)
        if sample_id not in found:
            raise HTTPException(404, f"{name} has no features of {sample_id!r} in this version")
        steps = int(found.lengths([sample_id])[0])
        rows = self.store.query(
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

    def picture(self, request: Request) -> Response:
        """A PNG of a sample's features."""
        asked = self._asked(request)
        kind = next((kind for kind in get_args(Kind) if kind == asked.wanted("kind")), None)
        if kind is None:
            raise HTTPException(400, f"there is no such picture; there are {', '.join(get_args(Kind))}")
        found = self._set(asked, asked.wanted("set"))
        sample_id = asked.wanted("id")
        if sample_id not in found:
            raise HTTPException(404, f"there are no features of {sample_id!r} in this version")
        features = found[sample_id]
        with self._drawing:
            content = feature_picture(features, kind)
        return Response(content, media_type="image/png", headers=_HEADERS)

    def versions(self, asked: Asked) -> Page:
        """The newest versions, and the tags."""
        commits = self.store.commits(ROWS_ON_A_PAGE)
        tags = sorted(self.store.tags().values(), key=lambda tag: (tag.version, tag.name))
        named: dict[int, list[str]] = {}
        for tag in tags:
            named.setdefault(tag.version, []).append(tag.name)
        rows = [
            (
                Link(str(number), f"/?{urlencode({'version': number})}"),
                f"{moment:%Y-%m-%d %H:%M:%S}",
                ", ".join(named.get(number, [])) or "-",
                Link("what changed", asked.link("/diff", before=number - 1, after=number))
                if number > 0
                else "-",
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
                "hidden": _kept(asked),
                "button": "compare",
            },
        )  # fmt: skip

    def diff(self, asked: Asked) -> Page:
        """What changed between two versions."""
        before, after = (snapshot_of(self.store, asked.wanted(name)).version for name in ("before", "after"))
        changes = self.store.diff(before, after)
        keys = ["dataset", "channel", "fingerprint", "change"]
        counts = (
            changes.group_by(keys)
            .aggregate([([], "count_all")])
            .sort_by([(key, "ascending") for key in keys])
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

    def failures(self, asked: Asked) -> Page:
        """Samples that have no features, by the reason of their last attempt."""
        last = (
            "SELECT * FROM (SELECT DISTINCT ON (dataset, channel, fingerprint, sample_id) * FROM failures "
            "ORDER BY time DESC) ANTI JOIN features USING (dataset, channel, fingerprint, sample_id)"
        )
        version = asked.snapshot.version
        reasons = self.store.query(
            "SELECT channel, error_type, count(*) AS n, any_value(sample_id) AS example, "
            f"any_value(message) AS message FROM ({last}) GROUP BY channel, error_type ORDER BY n DESC",
            version,
        ).to_pylist()
        start = _number(asked, "from", 0)
        rows = self.store.query(
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

    def error(self, request: Request, error: Exception) -> Response:
        """A page that says what is wrong, in one sentence."""
        if isinstance(error, HTTPException):
            status, text = error.status_code, error.detail
        else:
            status, text = (500 if isinstance(error, DamagedPartError) else 404), str(error)
        page = Page("Not found" if status == 404 else "That does not work", [text])
        return self._html(page, None, status)

    def _asked(self, request: Request) -> Asked:
        parameters = dict(request.query_params)
        version = parameters.pop("version", None) or None
        return Asked(snapshot_of(self.store, version), version, parameters)

    def _set(self, asked: Asked, name: str) -> FeatureSet:
        parts = name.split("/")
        if len(parts) != 3:
            raise HTTPException(400, f"{name!r} names no feature set; write dataset/channel/fingerprint")
        return asked.snapshot.feature_set(*parts)

    def _html(self, page: Page, asked: Asked | None, status: int = 200) -> Response:
        links = {
            "Feature sets": "/",
            "Versions": "/versions",
            "Failures": "/failures",
        }
        about = self.store.url
        if asked is not None:
            about = f"{about}, version {asked.snapshot.version}"
        text = self._template.render(
            **vars(page),
            navigation=[(name, asked.link(link) if asked else link) for name, link in links.items()],
            about=about,
        )
        return HTMLResponse(text, status, headers=_HEADERS)


def _number(asked: Asked, name: str, default: int) -> int:
    text = asked.parameters.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise HTTPException(400, f"{name!r} is {text!r}; it must be a whole number, 0 or more")
    return int(text)


def _kept(asked: Asked, *names: str) -> dict[str, str]:
    """What a form sends along: the version, and these parameters."""
    kept = {name: asked.parameters[name] for name in names}
    return kept if asked.version is None else {**kept, "version": asked.version}


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
