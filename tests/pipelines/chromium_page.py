"""A page in a real, headless Chromium that can reach nothing but this machine."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pave_process import ROOT, environment

ARTIFACTS = ROOT / "out" / "test-artifacts"
SECONDS = 120  # until a page is served on a busy machine
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Browsed:
    """A page, and what went wrong on it: errors of the console, and requests that left this machine."""

    page: object
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def screenshot(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=str(path), full_page=True)
        return path


@contextmanager
def chromium_page(width: int = 1200, height: int = 900) -> Iterator[Browsed]:
    """An empty page; skips the test where no Chromium is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": width, "height": height})
        browsed = Browsed(page)

        def requested(request: object) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("data", "blob") and address.hostname not in ("127.0.0.1", "localhost"):
                browsed.elsewhere.append(request.url)

        def said(message: object) -> None:
            if message.type == "error":
                browsed.errors.append(message.text)

        page.on("request", requested)
        page.on("console", said)
        page.on("pageerror", lambda error: browsed.errors.append(str(error)))
        yield browsed
        browser.close()


@contextmanager
def pave_serving(*command: object, **changes: str) -> Iterator[str]:
    """The address of a `pave` command that serves on a free port, once it answers; `changes` of its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "pipelines.cli", *map(str, command), "--port", str(port)]
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(**changes), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                gone = process.poll() is not None
                if gone or time.monotonic() > end:
                    process.kill()
                    output = process.communicate()[0].decode()
                    raise AssertionError(f"{command} does not serve: {output[-4000:]}") from None
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)
