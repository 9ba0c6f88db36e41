"""Score a model behind an OpenAI-compatible server: vLLM, llama.cpp, TGI and others.

    chartqa-ft evaluate --base_url http://localhost:8000/v1 --model my-model --output_dir scores

    chartqa-ft evaluate --base_url http://localhost:8000/v1 --model my-model --prompt_from out/merged \\
        --dataset_name "ChartQA Dataset" --eval_split test --concurrency 32 --output_dir scores

All arguments may also be in one YAML file:

    chartqa-ft evaluate config.yaml

The server gets each chart and question as a chat message; the chat template is its own. The prompt is that of the
family or the checkpoint that --prompt_from names. Answers are greedy. An interrupted run goes on where it was when the
same command is started again. It prints the table that papers quote and writes `predictions.jsonl` and `metrics.json`,
as evaluate_checkpoint does. The API key is read from the environment variable OPENAI_API_KEY.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import parse_json
from ..metrics.correctness import variant_name
from ..metrics.extraction import extract_name
from ..metrics.limits import INTERVALS
from ..metrics.predictions import write_predictions
from ..metrics.task_table import format_scores
from ..printable import printable
from .arguments import EvalDataArguments, ScoringArguments
from .output_folder import output_folder
from .parsing import ScriptParser

if TYPE_CHECKING:
    from ..evaluation.chat_server import ChatServer

logger = logging.getLogger(__name__)

__all__ = ["ANSWERS_NAME", "ServedArguments", "main"]

ANSWERS_NAME = "served_answers.jsonl"
"""The file in `output_dir` that keeps the answers of an unfinished run."""
_KEY_VARIABLE = "OPENAI_API_KEY"
_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""
_SIMILAR_NAMES = {
    "generation_max_new_tokens": "max_tokens",
    "model_name_or_path": "model",
    "num_workers": "concurrency",
}


@dataclass(kw_only=True)
class ServedArguments(EvalDataArguments, ScoringArguments):
    """Which server answers which questions, and how.

    Example:
        >>> ServedArguments(base_url="http://localhost:8000/v1", model="my-model", output_dir="scores").temperature
        0.0
    """

    base_url: str = field(metadata={"help": "Address of the server's API, such as http://localhost:8000/v1."})
    model: str = field(metadata={"help": "Name of the model on the server; BASE_URL/models lists them."})
    output_dir: str = field(metadata={"help": "Folder for predictions.jsonl and metrics.json."})
    eval_split: str = field(
        default="test", metadata={"help": "Split to evaluate on; 'test[:100]' selects a part of it."}
    )
    prompt: str | None = field(
        default=None, metadata={"help": "Prompt template with the field {question}. Unset: that of --prompt_from."}
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System message. Unset: that of the checkpoint of --prompt_from, if any."},
    )
    prompt_from: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint (folder or name on the Hub) or model family, such as qwen2_5_vl, whose prompt to use. "
            "Unset: --model if it is a local checkpoint, else the default for chat models."
        },
    )
    max_tokens: int = field(default=128, metadata={"help": "Maximum length of an answer in tokens."})
    temperature: float = field(default=0.0, metadata={"help": "Temperature; 0 gives greedy answers."})
    extra_body: str | None = field(
        default=None,
        metadata={
            "help": "Further fields of each request as JSON, for example "
            '\'{"chat_template_kwargs": {"enable_thinking": false}}\'; null removes a field.'
        },
    )
    concurrency: int = field(default=8, metadata={"help": "Number of questions that are asked at the same time."})
    timeout: float = field(default=120.0, metadata={"help": "Seconds after which an attempt counts as failed."})
    attempts: int = field(
        default=6,
        metadata={"help": "Attempts for each question: after 429, 5xx, timeouts and broken connections."},
    )
    on_refusal: str = field(
        default="raise",
        metadata={"help": "What to do with a question that the server refuses (error 400): raise, or empty."},
    )
    api_key_env: str | None = field(
        default=None,
        metadata={"help": f"Environment variable with the API key. Unset: {_KEY_VARIABLE}, if there is one."},
    )
    metric_interval: str = field(
        default="wilson", metadata={"help": "Intervals: wilson, bootstrap, or clustered (by chart)."}
    )
    seed: int = field(
        default=42, metadata={"help": "Seed of the draw of max_eval_samples, as in the training scripts."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_dir = output_folder(self.output_dir)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command.

    Args:
        arguments: The command line without the name of the program. `None`: that of this process.

    Returns:
        The metrics, as `eval_...`.

    Raises:
        SystemExit: An argument is invalid, or the run cannot go on; the message says why.

    Example:
        >>> main(["--base_url", "localhost", "--model", "m", "--output_dir", "scores"])
        Traceback (most recent call last):
        SystemExit: error: base_url is 'localhost', and no http or https address: pass the address of the server's ...
    """
    parser = ScriptParser(
        ServedArguments,
        description=__doc__,
        usage="chartqa-ft evaluate --base_url URL --model NAME [config.yaml] [--ARGUMENT VALUE ...]",
        aliases=_SIMILAR_NAMES,
    )
    (script,) = parser.parse(arguments)
    # Here, because they import torch, and a mistake on the command line is told without it.
    from transformers.utils.logging import disable_progress_bar

    from .running import one_line_errors

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("chartqa_ft").setLevel(logging.INFO)
    disable_progress_bar()  # for loading, not for the questions
    with one_line_errors(TypeError):
        try:
            return _evaluate(script)
        except KeyboardInterrupt:
            kept = Path(script.output_dir) / ANSWERS_NAME
            if not kept.is_file():
                raise
            print(f"\nstopped: {kept} keeps the answers so far; the same command goes on from there", file=sys.stderr)
            raise SystemExit(_INTERRUPTED) from None


def _evaluate(script: ServedArguments) -> dict[str, float]:
    from ..evaluation.report import METRICS_NAME, PREDICTIONS_NAME, keep_results, write_report
    from ..evaluation.scoring import score_rows
    from ..evaluation.served import ask_served_model
    from .loading import load_eval_records
    from .pictures import write_answer_pictures

    _check(script)
    output = Path(script.output_dir)
    script.prompt, script.system_prompt = _prompts(script)
    logger.info("the prompt is %s", script.prompt)
    if script.system_prompt is not None:
        logger.info("the system message is %s", script.system_prompt)
    with _server(script) as server:
        records, asked = load_eval_records(script, seed=script.seed)
        start = time.monotonic()
        rows = ask_served_model(
            records,
            server,
            script.prompt,
            path=output / ANSWERS_NAME,
            concurrency=script.concurrency,
            on_refusal=script.on_refusal,
        )
        runtime = time.monotonic() - start
    scores = score_rows(
        rows, variant=str(script.metric_variant), extract=script.metric_extract, interval=script.metric_interval
    )
    metrics = {f"eval_{name}": value for name, value in scores.items()} | {"eval_runtime": round(runtime, 4)}
    keep_results(output, script)
    write_predictions(rows, output / PREDICTIONS_NAME)
    write_report(output, script, metrics, None)
    (output / ANSWERS_NAME).unlink()
    print(
        f"{printable(script.model)} on {printable(asked)}: temperature {script.temperature:g}, "
        f"variant {script.metric_variant}"
    )
    if "eval_relaxed_accuracy" in metrics:
        print(format_scores(metrics, prefix="eval_"))
    else:
        print(f"none of the {len(rows)} questions has an answer to compare with")
    written = [PREDICTIONS_NAME, METRICS_NAME, *(path.name for path in write_answer_pictures(script, output, records))]
    print(f"{', '.join(written)}: {output}")
    return metrics


def _check(script: ServedArguments) -> None:
    """Check what is used only after all questions are asked, or by several functions."""
    from ..evaluation.served import ON_REFUSAL

    variant_name(str(script.metric_variant)), extract_name(script.metric_extract)
    if script.metric_interval not in INTERVALS:
        raise ValueError(f"metric_interval must be one of {', '.join(INTERVALS)}, and is {script.metric_interval!r}")
    if script.on_refusal not in ON_REFUSAL:
        raise ValueError(f"on_refusal must be one of {', '.join(ON_REFUSAL)}, and is {script.on_refusal!r}")
    if script.concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, and is {script.concurrency}")


def _server(script: ServedArguments) -> ChatServer:
    from ..evaluation.chat_server import ChatServer

    server = ChatServer(
        script.base_url,
        script.model,
        api_key=_api_key(script.api_key_env),
        max_tokens=script.max_tokens,
        temperature=script.temperature,
        extra_body=_extra_body(script.extra_body),
        timeout=script.timeout,
        attempts=script.attempts,
        connections=script.concurrency,
        system_prompt=script.system_prompt,
    )
    if server.sends_key_in_the_clear:
        logger.warning("the API key is sent to %s without encryption: use https if you can", server.url)
    return server


def _prompts(script: ServedArguments) -> tuple[str, str | None]:
    """Return the template of the prompt and the system message."""
    from ..adapters.argument_checks import check_prompt
    from ..evaluation.served_prompt import served_prompt, served_system_prompt

    if script.prompt is not None:
        if script.prompt_from is not None:
            raise ValueError("--prompt and --prompt_from are both given: leave one of them out")
        return check_prompt(script.prompt), script.system_prompt
    source = script.prompt_from
    if source is None and (Path(script.model) / "config.json").is_file():
        source = script.model
    system = script.system_prompt if script.system_prompt is not None else served_system_prompt(source)
    return check_prompt(served_prompt(source)), system


def _api_key(variable: str | None, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the key that an environment variable holds; None if there is none and none was named."""
    from ..evaluation.chat_server import checked_key

    environment = os.environ if environment is None else environment
    key = environment.get(variable or _KEY_VARIABLE, "")
    if not key.strip():
        if variable is None:
            return None
        raise ValueError(
            f"--api_key_env must name an environment variable that is set, and {_shown(variable)} is not: export it "
            "before you start this command"
        )
    return checked_key(key, f"the environment variable {variable or _KEY_VARIABLE}")


def _shown(variable: str) -> str:
    """Return the name of a variable; what does not look like one may be the key itself."""
    return variable if variable.isidentifier() and len(variable) < 60 and variable.isupper() else "this one"


def _extra_body(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        fields = parse_json(text)
    except ValueError as error:
        detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(f"extra_body must be a JSON object: {detail}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"extra_body must be a JSON object, and is a {type(fields).__name__}")
    return fields


if __name__ == "__main__":
    main()
