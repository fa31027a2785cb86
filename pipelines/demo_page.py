"""The demo's page: a clip, a question, and three models' answers side by side. Gradio, with nothing from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extractors.errors import ExtractorError
from pave_model.errors import PaveModelError
from pipelines.apart_process import run_apart
from pipelines.demo_answers import UPLOAD, PatchAnswers, Reply
from pipelines.demo_panes import CAPTIONS, ShownMedia, attention_pane, shown_media, shown_upload
from pipelines.errors import PipelineError
from store.errors import StoreError

_KEPT_SECONDS = 24 * 3600  # of uploads; all go when the page ends
_MOST_CLIPS = 60  # in the list
_LONGEST_QUESTION = 300  # characters
_EXPECTED = (ExtractorError, PaveModelError, PipelineError, StoreError)
_ABOUT = """# What is a side channel worth?
The **base** is a small video model that never saw the signal. The **LoRA-only** twin was trained on the same data
without it. The **patched** model has the patch. Pick a clip whose answer is known, or upload one of your own."""
_ATTENTION = (
    "Attention of the patch's last layer: how much each key frame (row) takes from each time step of the side channel "
    "(column), the mean over heads and tokens. White steps are not seen by that key frame."
)


def demo_page(patches: Mapping[str, PatchAnswers], max_upload_mb: float) -> gr.Blocks:
    """The page over the patches of a demo."""
    page = _Page(patches, max_upload_mb)
    first = next(iter(patches))
    clips = page.clip_names(first)
    blocks: gr.Blocks = gr.Blocks(
        title="PAVE demo", analytics_enabled=False, delete_cache=(600, _KEPT_SECONDS)
    )
    with blocks:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(scale=1):
                patch = gr.Dropdown(
                    list(patches), value=first, label="patch (its side channels)", elem_id="patch"
                )
                clip = gr.Dropdown(clips, value=clips[0], label="held-out clip", elem_id="clip")
                upload = gr.File(
                    label=f"or upload a video, at most {max_upload_mb:g} MB",
                    file_count="single",
                    elem_id="upload",
                )
                question = gr.Dropdown(
                    [],
                    allow_custom_value=True,
                    label="question (pick one, or type your own)",
                    elem_id="question",
                )
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                message = gr.Markdown(elem_id="message")
            with gr.Column(scale=1):
                # Not gr.Video, which has ffmpeg open what somebody uploaded, where that is installed.
                video = gr.HTML(elem_id="video", visible=False)
                with gr.Row():
                    answers = [
                        gr.Textbox(label=name, elem_id=name.replace(" ", "-").lower(), interactive=False)
                        for name in ("base", "LoRA only", "patched")
                    ]
                truth = gr.Textbox(label="the answer", elem_id="truth", interactive=False)
        # a label of Gradio would cover a picture's corner
        gr.Markdown(CAPTIONS["frames"])
        frames = _picture("frames")
        pane_captions = [gr.Markdown(), gr.Markdown(visible=False)]
        panes = [_picture("pane"), _picture("second-pane", visible=False)]
        gr.Markdown(_ATTENTION)
        attention = _picture("attention")

        shown = [video, frames, *pane_captions, *panes, question, message, *answers, truth, attention]
        # the message is text: progress is shown where the pictures come
        blocks.load(page.pick, [patch, clip], shown, show_progress_on=frames)
        patch.input(page.switch, [patch], [clip, upload], show_progress_on=frames).then(
            page.pick, [patch, clip], shown, show_progress_on=frames
        )
        clip.input(lambda: None, None, [upload], show_progress_on=frames).then(
            page.pick, [patch, clip], shown, show_progress_on=frames
        )
        upload.upload(page.show_upload, [patch, upload], shown, show_progress_on=frames)
        upload.clear(page.pick, [patch, clip], shown, show_progress_on=frames)
        replies = [message, *answers, truth, attention]
        ask.click(page.ask, [patch, clip, upload, question], replies, show_progress_on=attention)
    return blocks


def _picture(name: str, visible: bool = True) -> gr.Image:
    return gr.Image(elem_id=name, show_label=False, buttons=[], interactive=False, visible=visible)


class _Page:
    """What the page's events do. Everything that is expected to go wrong becomes its message."""

    def __init__(self, patches: Mapping[str, PatchAnswers], max_upload_mb: float) -> None:
        self._patches = patches
        self._max_bytes = int(max_upload_mb * 1e6)

    def clip_names(self, patch: str) -> list[str]:
        """The held-out clips that can be picked."""
        return list(self._patches[patch].clips)[:_MOST_CLIPS]

    def switch(self, patch: str) -> list[Any]:
        """Another patch: its clips, and no upload."""
        names = self.clip_names(patch)
        return [gr.Dropdown(names, value=names[0]), None]

    def pick(self, patch: str, clip: str) -> list[Any]:
        """Show a clip of the demo."""
        try:
            chosen = self._patches[patch].clips[clip]
        except KeyError:
            return self._nothing(f"There is no clip {clip!r} of {patch!r}; pick one of the list.")
        try:
            shown = shown_media(chosen.media, self._patches[patch].channels)
        except _EXPECTED as error:
            return self._nothing(_sentence(error))
        return self._show(shown, list(chosen.questions.values()), "", chosen.media.get("video"))

    def show_upload(self, patch: str, upload: str | None) -> list[Any]:
        """Show an uploaded clip, or say why not."""
        if upload is None:
            return self._nothing("")
        try:
            path = self._small(upload)
            answers = self._patches[patch]
            if not answers.takes_uploads:
                return self._nothing(
                    f"The patch {patch} needs more than a video file; pick a clip of the demo."
                )
            questions = list(next(iter(answers.clips.values())).questions.values())
            shown = run_apart(UPLOAD, shown_upload, path, answers.channels)
            return self._show(shown, questions, "Uploaded. Its right answers are not known.", path)
        except _EXPECTED as error:
            return self._nothing(_sentence(error))

    def ask(self, patch: str, clip: str, upload: str | None, question: str | None) -> list[Any]:
        """The answers of the three models."""
        text = (question or "").strip()
        if not text:
            return self._unanswered("Type a question, or pick one.")
        if len(text) > _LONGEST_QUESTION:
            return self._unanswered(
                f"The question has {len(text)} characters; use at most {_LONGEST_QUESTION}."
            )
        answers = self._patches[patch]
        try:
            if upload is not None:
                return self._answered(answers.ask_upload(self._small(upload), text), "not known")
            if clip not in answers.clips:
                return self._unanswered(f"There is no clip {clip!r} of {patch!r}; pick one of the list.")
            chosen = answers.clips[clip]
            known = {question: chosen.answers[kind] for kind, question in chosen.questions.items()}
            return self._answered(answers.ask(clip, text), known.get(text, "not known"))
        except _EXPECTED as error:
            return self._unanswered(_sentence(error))

    def _small(self, upload: str) -> Path:
        """The file of an upload. Raises PipelineError for one that is too large, or was removed."""
        try:
            size = Path(upload).stat().st_size
        except OSError as error:
            raise PipelineError("the uploaded file is gone; upload it again") from error
        if size > self._max_bytes:
            raise PipelineError(
                f"the file has {size / 1e6:.1f} MB; upload at most {self._max_bytes / 1e6:g} MB, or cut the clip"
            )
        return Path(upload)

    def _show(self, shown: ShownMedia, questions: list[str], message: str, player: Path | None) -> list[Any]:
        captions: list[Any] = []
        pictures: list[Any] = []
        for channel, pane in shown.panes.items():
            captions.append(gr.Markdown(CAPTIONS[channel], visible=True))
            pictures.append(gr.Image(None if pane is None else _pixels(pane), visible=True))
        captions += [gr.Markdown(visible=False)] * (2 - len(captions))
        pictures += [gr.Image(None, visible=False)] * (2 - len(pictures))
        video = gr.HTML("" if player is None else _player(player), visible=player is not None)
        asked = gr.Dropdown(questions, value=questions[0])
        message = " ".join([f"**This does not work:** {problem}." for problem in shown.problems] or [message])
        return [video, _pixels(shown.key_frames), *captions, *pictures, asked, message, "", "", "", "", None]

    def _nothing(self, message: str) -> list[Any]:
        hidden = [gr.Markdown(visible=False)] * 2 + [gr.Image(None, visible=False)] * 2
        player, questions = gr.HTML("", visible=False), gr.Dropdown([], value=None)
        return [player, None, *hidden, questions, message, *[""] * 4, None]

    def _answered(self, reply: Reply, truth: str) -> list[Any]:
        picture = _pixels(attention_pane(reply.attention, reply.step_times, reply.frame_times))
        return ["", *reply.texts.values(), truth, picture]

    def _unanswered(self, message: str) -> list[Any]:
        return [message, "", "", "", "", None]


def serve(patches: Mapping[str, PatchAnswers], out: Path, host: str, port: int, max_upload_mb: float) -> None:
    """Serve the page until it is interrupted. Uploads are in Gradio's folder, `GRADIO_TEMP_DIR`."""
    blocks = demo_page(patches, max_upload_mb)
    blocks.queue(default_concurrency_limit=1, max_size=20)
    blocks.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        show_error=False,
        footer_links=[],
        allowed_paths=[str((out / "sidecue").resolve())],
        max_file_size=int(max_upload_mb * 1e6) + 1_000_000,  # a little more than ours, which says it in words
        theme=gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], primary_hue="blue"
        ),
    )


def _player(video: Path) -> str:
    """A player of a file that Gradio may serve: a clip of the demo, or an upload."""
    address = f"gradio_api/file={quote(str(video.resolve()))}"
    return f'<video src="{address}" controls preload="metadata" style="width: 100%; height: 260px"></video>'


def _sentence(error: Exception) -> str:
    return f"**This does not work:** {error}."


def _pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
