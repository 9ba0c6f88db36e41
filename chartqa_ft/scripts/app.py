"""Ask a model questions on charts in the browser: `chartqa-ft app out`, or write the same as a Space of the Hub.

    chartqa-ft app out
    chartqa-ft app ahmed-masry/unichart-chartqa-960 --port 8000
    chartqa-ft app out --space my-space && hf upload --repo-type space me/charts my-space .

The app listens on this machine alone, keeps no chart, and reports nothing to anybody.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..printable import printable
from .errors import log_to_terminal
from .subcommands import SubcommandParser

__all__ = ["add_app_arguments", "main", "run_app"]

_THIS_MACHINE = "127.0.0.1"


def add_app_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the app to a parser.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_app_arguments(parser)
        >>> parser.parse_args(["out"]).server_name
        '127.0.0.1'
    """
    parser.add_argument("model", help="A checkpoint folder or a model on the Hub.")
    parser.add_argument("--revision", help="Branch, tag or commit of a model on the Hub.")
    parser.add_argument("--port", type=int, help="Port to listen on. Unset: the first free one from 7860 on.")
    parser.add_argument(
        "--server_name",
        default=_THIS_MACHINE,
        help=f"Address to listen on (default: {_THIS_MACHINE}, this machine alone; 0.0.0.0: all networks).",
    )
    parser.add_argument("--num_beams", type=int, default=4, help="Beams, and thus alternatives (default: 4).")
    parser.add_argument("--max_new_tokens", type=int, default=128, help="Longest answer in tokens (default: 128).")
    parser.add_argument("--use_cpu", action="store_true", help="Answer on the CPU.")
    parser.add_argument("--no_browser", action="store_true", help="Do not open a browser.")
    parser.add_argument("--space", metavar="DIR", help="Write the app as a Space for `hf upload`, and end.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app until it is interrupted, or write a Space; return an exit code.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.

    Returns:
        0; 2 if the model cannot be loaded, or Gradio is not installed.
    """
    parser = SubcommandParser("app", __doc__)
    add_app_arguments(parser)
    given = parser.parse_args(arguments)
    log_to_terminal("%(levelname)s %(name)s: %(message)s")
    try:
        return run_app(given)
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"chartqa-ft app: {printable(error)}", file=sys.stderr)
        return 2


def run_app(given: argparse.Namespace) -> int:
    """Run the app with parsed arguments; see `main`.

    Raises:
        ImportError: Gradio is not installed.
        OSError, ValueError: the model cannot be loaded, or the Space cannot be written.
    """
    if given.num_beams < 2:
        raise ValueError(f"--num_beams={given.num_beams}: the app shows the alternatives of at least 2 beams")
    if given.max_new_tokens < 1:
        raise ValueError(f"--max_new_tokens={given.max_new_tokens}: an answer has at least 1 token")
    if given.space is not None:
        used = {"port": given.port is not None, "use_cpu": given.use_cpu, "no_browser": given.no_browser}
        used["server_name"] = given.server_name != _THIS_MACHINE
        needless = [f"--{name}" for name, is_given in used.items() if is_given]
        if needless:
            raise ValueError(f"--space writes the app and does not run it: leave out {' and '.join(needless)}")
        from .space import write_space

        space = write_space(
            given.space,
            given.model,
            revision=given.revision,
            num_beams=given.num_beams,
            max_new_tokens=given.max_new_tokens,
        )
        print(f"space: {space}")
        print(f"push:  hf upload --repo-type space USER/NAME {space} .")
        return 0
    from .chart_app import Limits, build_app, private_gradio

    name = Path(given.model).name or "the model"
    with tempfile.TemporaryDirectory(prefix="chartqa_app_") as folder:
        uploads = Path(folder) / "uploads"
        uploads.mkdir()
        gradio = private_gradio(uploads)  # before the model: a missing package is told at once
        answer = load_answer(given)
        # Examples stand beside the uploads: Gradio deletes what it shows from there after a while.
        page = build_app(gradio, answer, uploads, title=f"Chart questions: {name}", examples=drawn_examples(folder))
        font = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        end_by = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is deleted
        try:
            _, url, _ = page.launch(
                server_name=given.server_name,
                server_port=given.port,
                quiet=True,
                prevent_thread_lock=True,
                share=False,
                inbrowser=not given.no_browser,
                allowed_paths=[],
                max_file_size=Limits.file_bytes,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                footer_links=[],
                theme=gradio.themes.Default(**font),  # the usual one asks the browser to fetch fonts
            )
            print(f"ask {given.model} at {url} (Ctrl-C ends it)", flush=True)
            page.block_thread()
        finally:
            signal.signal(signal.SIGTERM, end_by)
            page.close(verbose=False)
    return 0


def load_answer(given: argparse.Namespace) -> Any:
    """Load the model, and return the function that answers a question on a chart by it."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from ..evaluation.alternatives import answer_alternatives
    from ..models.load import load_checkpoint
    from .loading import naming

    disable_progress_bar()
    with naming(given.model):
        model, processor, adapter = load_checkpoint(given.model, revision=given.revision)
    if torch.cuda.is_available() and not given.use_cpu:
        model = model.to("cuda")
    settings = {"num_beams": given.num_beams, "max_new_tokens": given.max_new_tokens, "adapter": adapter}
    return partial(answer_alternatives, model, processor, **settings)


def drawn_examples(folder: str | Path, count: int = 3) -> list[tuple[str, str]]:
    """Draw charts into a folder, and return their files with a question on each."""
    from ..data.synthetic.questions import synthetic_chartqa

    records = synthetic_chartqa(count, seed=7)
    found: dict[str, tuple[str, str]] = {}
    for record in records:
        if record["chart_id"] not in found:
            file = Path(folder) / f"example {len(found) + 1}.png"
            record["image"].convert("RGB").save(file)
            found[record["chart_id"]] = (str(file), record["question"])
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main())
