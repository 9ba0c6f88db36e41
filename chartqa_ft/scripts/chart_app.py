"""The page of `chartqa-ft app`: a chart and a question in, the answer with its alternatives out.

Charts are opened by this library alone. Gradio's own image component would decode a file in any format that Pillow
knows, and fetch a chart whose "path" is a URL.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABCMeta
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.alternatives import Alternative
from ..files import read_regular
from ..images.check import check_image
from ..images.opening import decoded
from ..images.rgb import to_rgb
from ..printable import printable

if TYPE_CHECKING:
    import gradio

__all__ = ["Limits", "answer_chart", "build_app", "checked_chart", "private_gradio"]

Answer = Callable[[Any, str], Sequence[Alternative]]
"""A function that returns the alternatives for an RGB image and a question, the best first."""


class Limits:
    """What a visitor may send."""

    file_bytes = 8_000_000
    """Size of an uploaded file; the largest chart of ChartQA has 0.5 MB."""
    pixels = 16_000_000
    """Width times height of a chart. ChartQA's have less than 2 million."""
    question_characters = 500
    """Length of a question."""
    waiting = 16
    """Questions that may wait; one is answered at a time."""
    kept_seconds = 600
    """Time after which an uploaded file is deleted; all are deleted when the app ends."""


def private_gradio(folder: str | Path) -> Any:
    """Import Gradio so that it reports nothing, and keeps uploads in `folder` alone.

    Args:
        folder: an existing folder for uploads, which the caller deletes at the end.

    Raises:
        ImportError: Gradio is not installed.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder), HF_HUB_DISABLE_TELEMETRY="1")
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_EXAMPLES_CACHE", "GRADIO_ROOT_PATH"):
        os.environ.pop(name, None)
    try:
        import gradio
    except ImportError as error:
        raise ImportError(f"the app needs Gradio: pip install 'chartqa_ft[app]' ({error})") from error
    return gradio


def checked_chart(content: bytes) -> Any:
    """Return an uploaded file as an RGB image, after its format, size and structure were checked.

    Raises:
        ValueError: the file is too large, is no chart in a known format, or is damaged.

    Example:
        >>> checked_chart(b"<svg/>")
        Traceback (most recent call last):
        ...
        chartqa_ft.images.check.BrokenImageError: not a readable image (none of PNG, ...)
    """
    if len(content) > Limits.file_bytes:
        raise ValueError(f"the file has {len(content):,} bytes, and at most {Limits.file_bytes:,} are allowed")
    check_image(content, Limits.pixels)
    try:
        return to_rgb(decoded({"bytes": content, "path": None}))
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"the image cannot be decoded ({error})") from error


def answer_chart(answer: Answer, content: bytes | None, question: str) -> tuple[str, list[list[str]], str]:
    """Return the answer, a table of the alternatives with their probabilities, and the time, as texts.

    Raises:
        ValueError: there is no chart or no question, or one of them is refused; the message is for the visitor.

    Example:
        >>> answer_chart(lambda chart, question: [], None, "How much?")
        Traceback (most recent call last):
        ...
        ValueError: upload or paste a chart first
    """
    if content is None:
        raise ValueError("upload or paste a chart first")
    question = str(question or "").strip()
    if not question:
        raise ValueError("write a question first")
    if len(question) > Limits.question_characters:
        raise ValueError(f"the question is longer than {Limits.question_characters} characters")
    chart = checked_chart(content)
    began = time.perf_counter()
    found = answer(chart, question)
    seconds = time.perf_counter() - began
    rows = [[_shown(one), _percent(one.probability)] for one in found]
    return rows[0][0], rows, f"{seconds:.2f} seconds"


def _shown(alternative: Alternative) -> str:
    return (printable(alternative.text) or "(empty)") + ("" if alternative.complete else " [...]")


def _percent(probability: float) -> str:
    return "below 0.01 %" if probability < 0.0001 else f"{100 * probability:.2f} %"


def _chart_input(gradio: Any) -> Any:
    """Return the class of a component for charts that hands on the file as it was uploaded."""

    class WithoutStub(type(gradio.Image)):  # type: ignore[misc]
        """Gradio's metaclass writes a stub file beside the module of each component, here into the package."""

        def __new__(cls, *args: Any) -> Any:
            return ABCMeta.__new__(cls, *args)

    class ChartInput(gradio.Image, metaclass=WithoutStub):
        """Gradio's image component, which neither decodes the file nor fetches URLs."""

        is_template = True  # the page shows it as its base class

        def preprocess(self, payload: Any) -> Any:
            if payload is None or payload.path is None:
                return None
            return payload.path

        async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> Any:
            text = str(url_or_file_path or "")
            if "://" in text or text.startswith(("//", "data:")):
                raise gradio.Error("charts are uploaded or pasted, not fetched", print_exception=False)
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    return ChartInput


def build_app(
    gradio: Any,
    answer: Answer,
    folder: str | Path,
    *,
    title: str = "Questions on charts",
    examples: Sequence[tuple[str, str]] = (),
) -> gradio.Blocks:
    """Return the page as Gradio's Blocks, with its queue.

    Args:
        gradio: the module, as `private_gradio` returns it.
        answer: the function that answers.
        folder: the folder of the uploads, outside of which no file is read.
        title: title of the page.
        examples: files of charts outside of `folder`, and questions on them.
    """
    one_at_a_time = threading.Lock()
    uploads = Path(folder).resolve()

    def content_of(path: Any) -> bytes | None:
        if path is None:
            return None
        file = Path(str(path)).resolve()
        if not file.is_relative_to(uploads):
            raise ValueError("upload or paste a chart first")
        return read_regular(file, Limits.file_bytes)

    def respond(path: Any, question: str) -> tuple[str, list[list[str]], str]:
        try:
            with one_at_a_time:
                return answer_chart(answer, content_of(path), question)
        except (ValueError, TypeError, OSError) as error:
            message = printable(str(error)).replace(str(uploads), "uploads")
            raise gradio.Error(message, print_exception=False, title="Not answered") from None

    with gradio.Blocks(
        title=title, analytics_enabled=False, delete_cache=(60, Limits.kept_seconds), fill_width=False
    ) as page:
        gradio.Markdown(f"# {_plain(title)}")
        with gradio.Row():
            with gradio.Column():
                chart = _chart_input(gradio)(
                    label="Chart: a file, or pasted with the clipboard button",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    buttons=[],
                    elem_id="chart",
                )
                question = gradio.Textbox(
                    label="Question", max_length=Limits.question_characters, lines=2, elem_id="question"
                )
                ask = gradio.Button("Ask", variant="primary", elem_id="ask")
            with gradio.Column():
                said = gradio.Textbox(label="Answer", interactive=False, elem_id="answer")
                table = gradio.Dataframe(
                    headers=["alternative", "probability"],
                    datatype="str",
                    interactive=False,
                    label="Alternatives that the model considered",
                    elem_id="alternatives",
                    wrap=True,
                )
                took = gradio.Textbox(label="Time", interactive=False, elem_id="time")
        if examples:
            gradio.Examples([list(pair) for pair in examples], [chart, question], cache_examples=False)
        gradio.Markdown(
            "A probability is the share that the model gives to an answer among all that it could write; it does not "
            f"say how often such answers are right. Charts: at most {Limits.file_bytes // 10**6} MB and "
            f"{Limits.pixels // 10**6} million pixels. They are deleted after {Limits.kept_seconds // 60} minutes."
        )
        for event in (ask.click, question.submit):
            event(
                respond,
                [chart, question],
                [said, table, took],
                concurrency_limit=1,
                concurrency_id="model",
                api_visibility="private",
            )
    page.queue(max_size=Limits.waiting, default_concurrency_limit=1, api_open=False)
    return page


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return "".join(f"&#{ord(sign)};" if not (sign.isalnum() or sign in " .,/") else sign for sign in printable(text))
