"""The read-only pages of a feature store as a Starlette application.

Every page shows one catalog version, `?version=` (a number, a tag or a moment; the newest if it is not given).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import get_args

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipelines import store_pages
from pipelines.errors import PipelineError
from pipelines.page_templates import page_template
from pipelines.store_options import snapshot_of
from pipelines.store_page_parts import Asked, Page
from pipelines.store_pictures import Kind, feature_picture
from store import FeatureStore
from store.errors import DamagedPartError, StoreError

NAVIGATION = {"Feature sets": "/", "Versions": "/versions", "Failures": "/failures"}
_HEADERS = {
    # nothing is loaded from anywhere else, and nothing runs
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_DRAWING = Lock()  # matplotlib's style is the process's


def store_app(store: FeatureStore, host: str = "127.0.0.1") -> Starlette:
    """The application. Requests must name `host` or this machine itself, so that no other site can read the store."""
    served = _Served(store)
    pages = {
        "/": store_pages.feature_sets,
        "/set": store_pages.feature_set,
        "/sample": store_pages.sample,
        "/versions": store_pages.versions,
        "/diff": store_pages.diff,
        "/failures": store_pages.failures,
    }
    hosts = ["*"] if host in ("0.0.0.0", "::") else ["localhost", "127.0.0.1", "[::1]", host]
    return Starlette(
        routes=[
            *(Route(path, served.endpoint(page)) for path, page in pages.items()),
            Route("/picture", served.picture),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers=dict.fromkeys((HTTPException, StoreError, PipelineError), served.error),
    )


class _Served:
    """The pages of one store as answers to requests."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._template = page_template("store.html")

    def endpoint(self, page: Callable[[Asked], Page]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            asked = self._asked(request)
            return self._html(page(asked), asked)

        return answer

    def picture(self, request: Request) -> Response:
        """A PNG of a sample's features."""
        asked = self._asked(request)
        kind = next((kind for kind in get_args(Kind) if kind == asked.wanted("kind")), None)
        if kind is None:
            raise HTTPException(400, f"there is no such picture; there are {', '.join(get_args(Kind))}")
        features = asked.feature_set(asked.wanted("set"))[asked.wanted("id")]
        with _DRAWING:
            content = feature_picture(features, kind)
        return Response(content, media_type="image/png", headers=_HEADERS)

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
        return Asked(self._store, snapshot_of(self._store, version), version, parameters)

    def _html(self, page: Page, asked: Asked | None, status: int = 200) -> Response:
        """`asked` is None where the request itself is wrong: then links are to the newest version."""
        about = self._store.url
        if asked is not None:
            about = f"{about}, version {asked.snapshot.version}"
        text = self._template.render(
            **vars(page),
            navigation=[(name, asked.link(path) if asked else path) for name, path in NAVIGATION.items()],
            about=about,
        )
        return HTMLResponse(text, status, headers=_HEADERS)
