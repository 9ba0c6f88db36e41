"""`ask_served_model`: a model behind an OpenAI-compatible server answers all questions of a data set."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import datasets
from tqdm.auto import tqdm

from ..adapters.argument_checks import check_count, check_prompt
from ..adapters.tasks.task import QA_NAME
from ..adapters.text import describe, encodable
from ..batching.collator import row_texts
from ..batching.records import column
from ..batching.rows import ROW_KEY, KeyedRows, RowKey
from ..images.data_urls import data_url
from ..printable import printable_errors
from .answers_file import AnswersFile
from .chat_server import QuestionRefusedError, Reply, ServerError

logger = logging.getLogger(__name__)

ON_REFUSAL = ("raise", "empty")
"""What to do with a question that the server refuses: stop, or score an empty answer."""


class Server(Protocol):
    """What `ask_served_model` needs of a server; see `ChatServer`."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on besides prompt and chart."""

    def ask(self, image_url: str, prompt: str) -> Reply:
        """Return the answer to a prompt on a chart. Several threads call it at the same time."""

    def stop(self) -> None:
        """Give up all further attempts, for good."""


@printable_errors()
def ask_served_model(
    records: Any,
    server: Server,
    prompt: str,
    *,
    path: str | Path,
    concurrency: int = 8,
    on_refusal: str = "raise",
    progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Ask a server all questions of a data set, several at a time.

    Each answer is written to `path` when it arrives. If the run is interrupted, the same call goes on with the
    questions that have no answer yet. Answers depend on the server; a greedy one may still give different answers to
    the same question, because floating-point sums depend on what it batches together.

    Args:
        records: records with the columns of `load_chartqa`.
        server: the server, a `ChatServer`.
        prompt: template of the prompt with the field `{question}`.
        path: the file of the answers so far. It is kept; delete it once the rows are stored elsewhere.
        concurrency: the number of questions that are asked at the same time.
        on_refusal: `"raise"` stops at a question that the server refuses, `"empty"` takes an empty answer to it.
        progress: whether to show a progress bar; `None` shows one if there is more than one question.

    Returns:
        One dict per record, in their order, as `write_predictions` and `score_rows` take them: `index`, `chart_id`,
        `question`, `answer`, `source`, `prediction` and the columns that ChartQAPro's metric reads.

    Raises:
        ServerError: a question was not answered. The message names it, and the answers so far are kept in `path`.
        ValueError: `path` holds answers of other settings, a chart cannot be read, a record is of another task than
            `qa`, or an argument has a wrong value.
        TypeError: an argument is of a wrong type.

    Example:
        >>> import tempfile
        >>> from chartqa_ft import synthetic_chartqa
        >>> class Guessing:
        ...     settings = {"model": "guess"}
        ...     def ask(self, image_url, prompt):
        ...         return Reply("3", False)
        ...     def stop(self):
        ...         pass
        >>> charts = synthetic_chartqa(1, seed=0).select(range(2))
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> rows = ask_served_model(charts, Guessing(), "{question}", path=path, progress=False)
        >>> [(row["index"], row["prediction"]) for row in rows]
        [(0, '3'), (1, '3')]
    """
    check_prompt(prompt)
    concurrency = check_count("concurrency", concurrency)
    if on_refusal not in ON_REFUSAL:
        raise ValueError(f"on_refusal must be 'raise' or 'empty', and is {on_refusal!r}")
    keyed = KeyedRows(records, stored_images=True)
    others = sorted({str(task) for task in column(keyed.records, "task") if task not in (None, "", QA_NAME)})
    if others:
        raise ValueError(
            f"a server is asked for short answers with one prompt, and records have the tasks {', '.join(others)}: "
            "leave these records out, or evaluate the checkpoint itself"
        )
    rows = [row_texts({**texts, ROW_KEY: RowKey(row, 0, True)}) for row, texts in enumerate(_texts(keyed.records))]
    for texts in rows:
        if not isinstance(texts["question"], str):
            raise ValueError(f"{describe(texts)}: the question must be a text, and is {texts['question']!r:.60}")
    settings = {**server.settings, "prompt": prompt, "questions": len(rows), "data": _digest(rows)}
    with AnswersFile(path, settings, len(rows)) as file:
        open_rows = [row for row in range(len(rows)) if row not in file.answers]
        if file.answers:
            logger.info("%d of %d answers are in %s already", len(file.answers), len(rows), path)
        hidden = len(rows) < 2 if progress is None else not progress
        bar = tqdm(total=len(rows), initial=len(file.answers), desc="Answering", unit="question", disable=hidden)
        questions = (_Question(row, *_asked(keyed, row, prompt)) for row in open_rows)
        failure: tuple[int, BaseException] | None = None
        stopped = threading.Event()
        with bar, closing(_answers(server, questions, concurrency, stopped)) as answers:
            for row, found in answers:
                reply = found
                if isinstance(found, QuestionRefusedError) and on_refusal == "empty":
                    logger.warning("%s gets an empty answer: %s", describe(rows[row]), found)
                    reply = Reply("", False)
                if isinstance(reply, Reply):
                    file.add(row, text=reply.text, cut=reply.cut)
                    bar.update()
                elif failure is None:
                    failure = row, reply
                    stopped.set()  # the answers that are under way are kept
                    server.stop()
        if failure is not None:
            raise _named(failure[1], rows[failure[0]], file)
        cut = sum(answer["cut"] for answer in file.answers.values())
        if cut:
            limit = server.settings.get("max_tokens")
            logger.warning("%d of %d answers ended at max_tokens=%s, unfinished: raise it", cut, len(rows), limit)
        return [{**row, "prediction": file.answers[number]["text"]} for number, row in enumerate(rows)]


class _Question(NamedTuple):
    row: int
    image_url: str
    prompt: str


def _texts(records: Any) -> Iterable[dict[str, Any]]:
    """Return the records without their images."""
    if isinstance(records, datasets.Dataset):
        return records.remove_columns("image") if "image" in records.column_names else records
    return ({name: value for name, value in record.items() if name != "image"} for record in records)


def _digest(rows: Sequence[dict[str, Any]]) -> str:
    """Return a digest of the questions and the names of their charts, in order."""
    content = hashlib.sha256()
    for row in rows:
        content.update(json.dumps([str(row["chart_id"]), row["question"]]).encode("ascii"))
    return content.hexdigest()


def _asked(keyed: KeyedRows, row: int, prompt: str) -> tuple[str, str]:
    """Return the chart of a row as a data URL, and its prompt."""
    record = keyed.read(row)
    try:
        url = data_url(record["image"])
    except (OSError, TypeError, ValueError, SyntaxError, EOFError) as error:  # decoders raise errors of many types
        raise ValueError(f"{describe(record)}: the chart cannot be read ({error})") from error
    return url, prompt.replace("{question}", encodable(record["question"]))


def _answers(
    server: Server, questions: Iterator[_Question], concurrency: int, stopped: threading.Event
) -> Generator[tuple[int, Reply | BaseException], None, None]:
    """Yield row and answer, or what was raised instead, as they arrive. No question is asked after `stopped` is set.

    The threads are daemons: after Ctrl-C, the process does not wait for requests that are under way.
    """
    todo: SimpleQueue[_Question | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Reply | BaseException | None]] = SimpleQueue()

    def work() -> None:
        while (question := todo.get()) is not None:
            reply: Reply | BaseException | None = None
            try:
                if not stopped.is_set():
                    reply = server.ask(question.image_url, question.prompt)
            except BaseException as error:
                reply = error
            done.put((question.row, reply))

    for _ in range(concurrency):
        threading.Thread(target=work, daemon=True, name="chartqa_ft question").start()
    waiting = 0
    unreadable: Exception | None = None
    try:
        while True:
            question = None
            if not stopped.is_set() and unreadable is None:
                try:
                    question = next(questions, None)
                except Exception as error:  # of a chart; the questions before it are answered
                    unreadable = error
            if question is not None:
                todo.put(question)
                waiting += 1
            elif not waiting:
                break
            if question is None or waiting >= 2 * concurrency:  # the next charts are read while the server works
                row, reply = done.get()
                waiting -= 1
                if reply is not None:
                    yield row, reply
        if unreadable is not None:
            raise unreadable
    except BaseException:
        stopped.set()
        server.stop()
        raise
    finally:
        for _ in range(concurrency):
            todo.put(None)


def _named(error: BaseException, row: dict[str, Any], file: AnswersFile) -> BaseException:
    """Return an error of the server with the question and what is kept in its message."""
    if not isinstance(error, ServerError):
        return error
    kept = (
        f"{len(file.answers)} of {file.n} answers are kept in {file.path}: run the same command again to go on with "
        "the others"
    )
    told = type(error)(f"{describe(row)} was not answered. {error} {kept}", status=error.status)
    told.__cause__ = error
    return told
