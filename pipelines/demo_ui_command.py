"""`pave demo-ui`: ask the models of a finished demo, in a browser."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click


@click.command("demo-ui")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/demo"),
    show_default=True,
    help="Folder of a finished `pave demo`.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to serve on. There is no authentication: with another one, whoever reaches it may upload clips.",
)
@click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
@click.option("--max-upload-mb", default=50.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
def demo_ui(out: Path, host: str, port: int, max_upload_mb: float) -> None:
    """Ask base, LoRA-only twin and patched model about a clip, and see where the patch looks."""
    from pipelines.errors import PipelineError

    if find_spec("gradio") is None:
        raise PipelineError("the page needs Gradio; install it with: pip install 'pave-video[ui]'")
    # also when it is ended by another program: uploads must not stay
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with TemporaryDirectory(prefix="pave-demo-ui-") as scratch:
        # before Gradio is imported
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": f"{scratch}/gradio"}
        from pipelines.demo_answers import demo_patches
        from pipelines.demo_page import serve

        patches = demo_patches(out)
        click.echo(f"{', '.join(patches)} of {out} at http://{host}:{port} (Ctrl-C ends)")
        serve(patches, out, host, port, max_upload_mb)
