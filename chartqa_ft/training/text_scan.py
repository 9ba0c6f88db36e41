"""The scan of all texts before training and evaluation, and what becomes of the records that it finds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..adapters import Adapter
from ..adapters.text_check import BadText, bad_text_finder, find_bad_texts
from ..batching.records import Records, as_records, is_stream
from .arguments import ChartQATrainingArguments
from .checks.findings import CheckContext, Finding, register_check

logger = logging.getLogger(__name__)

_SHOWN = 3
"""Number of bad records that a message names."""
_ARGUMENTS = {"train": "train_dataset", "evaluate": "eval_dataset", "predict": "test_dataset"}


class TextScan:
    """Finds the records of a trainer's data sets that its adapter cannot encode, each unchanged data set once.

    A `datasets.Dataset` is known by its fingerprint, and a list of records by its texts. Other data sets, of which
    only a few records are read, are read each time.

    Args:
        adapter: the adapter of the trainer.
        args: its arguments; `on_bad_text` says what becomes of bad records.
    """

    def __init__(self, adapter: Adapter, args: ChartQATrainingArguments) -> None:
        self.adapter, self.args = adapter, args
        self._found: dict[tuple[Any, ...], list[BadText]] = {}

    def bad_texts(self, records: Any, *, training: bool) -> list[BadText]:
        """Return what `find_bad_texts` finds, from memory if the data set, the prompt and the limits are the same."""
        fingerprint = _fingerprint(records)
        key = (fingerprint, training, self.adapter.prompt, self.adapter.limit, self.adapter.on_long_answer)
        if fingerprint is not None and key in self._found:
            return self._found[key]
        shown = self.args.process_index == 0 and not self.args.disable_tqdm
        found = find_bad_texts(self.adapter, records, training=training, progress=shown)
        if fingerprint is not None:
            self._found[key] = found
        return found

    def finder(self) -> Callable[[Mapping[str, Any]], str | None] | None:
        """Return what finds the records of a stream to leave out of the training; `None` to leave out none."""
        return bad_text_finder(self.adapter, training=True) if self.args.on_bad_text == "skip" else None

    def usable(self, records: Any, name: str, *, training: bool = False) -> Any:
        """Return the records that can be encoded: all of them, or with `on_bad_text="skip"` the good ones.

        Args:
            records: a data set.
            name: what messages call it.
            training: whether it is trained on.

        Raises:
            ValueError: there are bad records; the message names the first ones.
        """
        rows = self.kept_rows(records, name, training=training)
        if rows is None:
            return records
        return records.select(rows) if hasattr(records, "select") else [records[row] for row in rows]

    def kept_rows(
        self, records: Any, name: str, *, training: bool = False, keep_all: bool = False
    ) -> list[int] | None:
        """Return the numbers of the records that can be encoded; `None` for all of them.

        Args:
            records: a data set.
            name: what messages call it.
            training: whether it is trained on.
            keep_all: refuse bad records even with `on_bad_text="skip"`, because every record needs its answer.

        Raises:
            ValueError: there are bad records, and they are not to be left out; the message names the first ones.
        """
        bad = [] if records is None else self.bad_texts(records, training=training)
        if not bad:
            return None
        skips = self.args.on_bad_text == "skip" and not keep_all
        if not skips or len(bad) == len(records):
            raise ValueError(
                f"{name}: {describe_bad(bad, len(records))}"
                + ("" if keep_all else ". Correct them, or leave them out with on_bad_text='skip'.")
            )
        logger.warning("%s: %s. They are left out.", name, describe_bad(bad, len(records)))
        left_out = {text.row for text in bad}
        return [row for row in range(len(records)) if row not in left_out]


def _fingerprint(records: Any) -> Any:
    """Return what tells a data set from others; `None` if nothing does without scanning it."""
    if not isinstance(records, (list, tuple)):
        return getattr(records, "_fingerprint", None)
    try:
        return len(records), hash(tuple(map(_text_key, records)))
    except (TypeError, AttributeError, KeyError):  # an answer that has no hash, or an item that is no record
        return None


def _text_key(record: Any) -> tuple[Any, ...]:
    answer = record.get("answer")
    answer = tuple(answer) if type(answer) is list else answer
    return record["question"], type(answer), answer, record.get("chart_id")


def describe_bad(bad: Sequence[BadText], total: int) -> str:
    """Return a message that says how many records are bad, and what is wrong with the first ones.

    Example:
        >>> describe_bad([BadText(4, "record 4 has no answer")], 10)
        '1 of 10 records cannot be used: row 4: record 4 has no answer'
    """
    shown = "; ".join(f"row {text.row}: {text.message}" for text in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{len(bad)} of {total} records cannot be used: {shown}{more}"


@register_check()
def check_texts(context: CheckContext) -> Iterator[Finding]:
    """Find the records of a call whose texts its model cannot take."""
    trainer, name = context.trainer, _ARGUMENTS[context.call]
    if trainer.args.on_bad_text == "skip" and context.call != "predict":
        yield from _unknown_texts(context)
        return  # they are left out and counted by the call itself
    parts = context.records if isinstance(context.records, dict) else {"": context.records}
    for part, records in parts.items():
        bad = [] if records is None else trainer.texts.bad_texts(records, training=context.call == "train")
        if bad:
            where = f"{name}[{part!r}]" if part else name
            message = f"{where}: {describe_bad(bad, len(records))}"
            advice = "correct them" if context.call == "predict" else "correct them, or set on_bad_text='skip'"
            yield Finding(name, "error", message, advice)


def _unknown_texts(context: CheckContext) -> Iterator[Finding]:
    """Say whose bad records `on_bad_text="skip"` cannot leave out, because they are known only when they are read."""
    given = {_ARGUMENTS[context.call]: context.records}
    if context.call == "train" and context.trainer.args.eval_strategy != "no":
        given["eval_dataset"] = context.trainer.eval_dataset
    for name, data in given.items():
        for part, records in (data if isinstance(data, dict) else {"": data}).items():
            where = f"{name}[{part!r}]" if part else name
            streamed = records is not None and is_stream(records)
            if records is None or (streamed and name == "train_dataset"):
                continue
            if streamed or isinstance(as_records(records, where), Records):
                yield Finding(
                    name,
                    "warning",
                    f"on_bad_text='skip' leaves no record out of {where}, whose texts are known only when they are "
                    "read: one that the model cannot take is an error",
                    "leave such records out of it yourself",
                )
