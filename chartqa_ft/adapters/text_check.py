"""One scan of the texts of a data set: which records an adapter could not encode, found without opening an image."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import IterableDataset
from tqdm.auto import tqdm

from .base import Adapter
from .pixels import unchanged
from .plain_texts import PlainTexts
from .tasks.task import QA_NAME
from .tasks.task_text import TaskText
from .text import AnswerTooLong, describe, encodable, shown, single_answer

logger = logging.getLogger(__name__)

_COLUMNS = ("question", "answer", "chart_id", "task")
_ROWS_PER_READ = 512
_MADE_BY_CODE = 4
"""Number of records that are read where reading one runs a user's code and opens its image."""
_ENCODING = ("encode", "encode_text", "answer_rows", "answer_text", "question_text", "check_question")


@dataclass(frozen=True)
class BadText:
    """A record whose texts an adapter cannot encode."""

    row: int
    """Its number in the data set."""
    message: str
    """What is wrong with it; names the record."""


def find_bad_texts(adapter: Adapter, records: Any, *, training: bool, progress: bool = True) -> list[BadText]:
    """Return the records whose question or answer cannot be encoded.

    These are texts with control tokens or placeholders of images, answers that are no text, prompts and answers that
    do not fit into the model, and tokens without an embedding. Only texts are read; where a transform makes the
    records, the first four. A stream is not read at all: its records are checked when they are encoded.

    Args:
        adapter: The adapter of the model. One that encodes texts in its own way is not asked.
        records: A `datasets.Dataset`, a list of records, or another data set with a length.
        training: Whether every record needs an answer that the model can learn. An evaluation asks questions without
            an answer too, and leaves answers that are too long out of its loss.
        progress: Whether to show a progress bar if the scan takes more than three seconds.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> adapter = adapter_for(*tiny_unichart("test"))
        >>> records = [{"question": "How much?", "answer": "7"}, {"question": "What is </s>?", "answer": "7"}]
        >>> [bad.row for bad in find_bad_texts(adapter, records, training=True)]
        [1]
    """
    is_stream = isinstance(records, IterableDataset) or not hasattr(records, "__len__")
    if is_stream or not unchanged(adapter, _ENCODING):
        return []
    plain = PlainTexts(adapter)
    adapter = _quiet(adapter)
    bad: list[BadText] = []
    unreadable: dict[Any, tuple[Mapping[str, Any], str]] = {}
    read: set[str] = set()
    with tqdm(total=len(records), desc="Checking texts", unit="record", delay=3, disable=not progress) as bar:
        for start, examples in _texts(records):
            # The search for plain texts does not know the prompts of other tasks.
            of_qa = [adapter.task_of(example) == QA_NAME for example in examples]
            others = [
                (start + row, example)
                for row, example in enumerate(examples)
                if not (of_qa[row] and _is_plain(plain, example))
            ]
            if others:
                bad += _bad_of(adapter, others, training)
            answers = [e for e, qa in zip(examples, of_qa, strict=True) if qa and _is_new(plain, e, read)]
            _read_back(adapter, answers, unreadable)
            bar.update(len(examples))
    if unreadable:
        example, decoded = next(iter(unreadable.values()))
        logger.warning(
            "%d different answers have characters that this tokenizer cannot write, so no generated answer can equal "
            "them: %s with the answer %r is read back as %r",
            len(unreadable),
            describe(example),
            example["answer"],
            decoded,
        )
    return bad


def bad_text_finder(adapter: Adapter, *, training: bool) -> Callable[[Mapping[str, Any]], str | None] | None:
    """Return a function that says what is wrong with the texts of one record, such as one of a stream.

    It returns `None` for a record that can be encoded. Arguments as in `find_bad_texts`; an adapter that encodes texts
    in its own way is not asked, and `None` is returned in place of the function.

    Example:
        >>> from chartqa_ft import adapter_for, tiny_unichart
        >>> find = bad_text_finder(adapter_for(*tiny_unichart("test")), training=True)
        >>> find({"question": "How much?", "answer": "7"}) is None
        True
        >>> find({"question": "How much?", "answer": None})[:65]
        "record (chart_id=None, question='How much?') has no answer (None)"
    """
    if not unchanged(adapter, _ENCODING):
        return None
    plain, quiet = PlainTexts(adapter), _quiet(adapter)

    def find(record: Mapping[str, Any]) -> str | None:
        texts = {name: record[name] for name in _COLUMNS if name in record}
        if ("question" not in texts and "task" not in texts) or (
            quiet.task_of(texts) == QA_NAME and _is_plain(plain, texts)
        ):
            return None
        bad = _bad_of(quiet, [(0, texts)], training)
        return bad[0].message if bad else None

    return find


def _texts(records: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield (number of the first row, the texts of some rows)."""
    columns = getattr(records, "column_names", None)
    if isinstance(columns, list) and hasattr(records, "select_columns") and records.format["type"] != "custom":
        if "question" not in columns and "task" not in columns:
            return
        texts = records.with_format(None).select_columns([name for name in _COLUMNS if name in columns])
        for start in range(0, len(texts), _ROWS_PER_READ):
            rows = texts[start : start + _ROWS_PER_READ]
            yield start, [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        return
    stop = len(records) if isinstance(records, (list, tuple)) else min(len(records), _MADE_BY_CODE)
    for start in range(0, stop, _ROWS_PER_READ):
        rows = [records[row] for row in range(start, min(start + _ROWS_PER_READ, stop))]
        if not all(isinstance(row, Mapping) and ("question" in row or "task" in row) for row in rows):
            return
        yield start, [{name: row[name] for name in _COLUMNS if name in row} for row in rows]


def _is_plain(plain: PlainTexts, example: Mapping[str, Any]) -> bool:
    question, answer = example.get("question"), example.get("answer")
    if type(question) is not str or type(answer) is not str or not question.strip() or not answer.strip():
        return False
    return plain(question, answer)


def _is_new(plain: PlainTexts, example: Mapping[str, Any], read: set[str]) -> bool:
    """Return whether it is not known yet that the tokenizer gives an answer back, and add the answer to `read`."""
    answer = example.get("answer")
    if not isinstance(answer, str) or not answer or plain.is_read_back(answer) or answer in read:
        return False
    read.add(answer)
    return True


def _bad_of(adapter: Adapter, examples: Sequence[tuple[int, dict[str, Any]]], training: bool) -> list[BadText]:
    """Return the bad ones of some records and their row numbers."""
    try:
        adapter.check_texts([_learned(adapter, example, training) for _, example in examples])
        return []
    except Exception:  # find out which one it is
        bad = []
        for row, example in examples:
            try:
                adapter.check_texts([_learned(adapter, example, training)])
            except AnswerTooLong as error:
                bad += [BadText(row, str(error))] if training else []
            except ValueError as error:
                bad.append(BadText(row, str(error)))
            except Exception as error:
                message = f"{describe(example)} cannot be encoded ({type(error).__name__}: {error})"
                bad.append(BadText(row, message))
        return bad


def _learned(adapter: Adapter, example: Mapping[str, Any], training: bool) -> dict[str, Any]:
    """Return a record as the collator passes it to the adapter."""
    (example,) = adapter.asked([example])
    question = example.get("question")
    needed = not isinstance(question, TaskText) or "{question}" in question.prompt
    if needed and isinstance(question, str) and not question.strip():
        raise ValueError(f"{describe(example)} has an empty question: give it one, or drop the record")
    answer = single_answer(example)
    if answer is not None and answer != "":
        if not training:
            _check_reference(adapter, example, str(answer))
        return {**example, "answer": answer}
    if training:
        raise ValueError(
            f"{describe(example)} has no answer ({shown(example.get('answer'))}): give it one, or leave the record "
            "out of the training data"
        )
    return {**example, "answer": ""}


def _check_reference(adapter: Adapter, example: Mapping[str, Any], answer: str) -> None:
    try:
        adapter.bound_task(adapter.task_of(example)).check_reference(answer)
    except ValueError as error:
        raise ValueError(f"{describe(example)} cannot be scored: {error}") from error


def _read_back(adapter: Adapter, examples: Sequence[Mapping[str, Any]], found: dict[Any, Any]) -> None:
    """Add the answers that the tokenizer does not give back to `found`, with what it gives."""
    texts = {encodable(e["answer"]): e for e in examples if isinstance(e.get("answer"), str) and e["answer"]}
    for text, ids in zip(texts, adapter.tokenize([f" {text}" for text in texts]) if texts else [], strict=True):
        read = adapter.clean(adapter.tokenizer.decode(adapter.answer_ids(ids)))
        if "".join(read.split()) != "".join(text.split()) and adapter.control_token_in(text) is None:
            found.setdefault(text, (texts[text], read))


def _quiet(adapter: Adapter) -> Adapter:
    """Return a copy of an adapter that counts and logs no truncated answers."""
    if adapter.on_long_answer == "raise":
        return adapter
    adapter = copy.copy(adapter)
    cut = type(adapter).cut_answer

    def cut_answer(example: Mapping[str, Any], answer: list[int], room: int) -> list[int]:
        return answer[:room] if room > 0 else cut(adapter, example, answer, room)

    adapter.cut_answer = cut_answer  # type: ignore[method-assign]
    return adapter
