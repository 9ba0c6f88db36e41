"""Records that cannot be used: the errors that name them, and whether they stop loading or are skipped."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from ..printable import printable

logger = logging.getLogger(__name__)

# The reasons that errors give and the warning counts by, each with advice for the user.
ADVICE = {
    "malformed record": "Correct the file.",
    "empty question": "Fill in the question.",
    "no answer": "Fill in the answer, or pass require_answers=False for a split without answers.",
    "no table": "Write a header and rows, as text, as a list of rows, or as the name of a CSV file.",
    "ambiguous record": "Write one question and one answer per record; a list is one text: '[2017, 2023]'.",
    "no image file": "Restore the file, or pass image_dir=<the folder with the images>.",
    "path leaves image_dir": "Write the path relative to image_dir, without links that lead out of it.",
    "unreadable image": "Replace the file.",
    "truncated image": "Copy or download the file again.",
    "unusable image shape": "Crop the image to the chart, or replace it.",
    "image above the pixel limit": "Shrink the image, or raise max_pixels if you trust it.",
}


class RecordProblem(Exception):
    """Why a record cannot be used, raised where the position of the record is not known.

    Attributes:
        reason (str): A key of `ADVICE`.
        cause (str): What exactly is wrong.
        file (str | None): The image file, if there is one.
    """

    def __init__(self, reason: str, cause: str, file: str | None = None) -> None:
        super().__init__(reason, cause, file)
        self.reason, self.cause, self.file = reason, cause, file


class RecordError(ValueError):
    """A record that cannot be used.

    Attributes:
        split (str): The split of the record.
        index (int): Its position in the split, from 0, before anything is dropped. In a stream with several shards:
            its position in the shard.
        file (str): The image file if there is one, else the file or the dataset that holds the record.
        reason (str): The kind of problem, a key of `chartqa_ft.data.record_errors.ADVICE`.
        cause (str): What exactly is wrong.

    Example:
        >>> error = RecordError("val", 3, "a.png", "no answer", "column 'label' holds ''")
        >>> str(error).split(". ")[0]
        "record 3 of split 'val' (a.png): no answer: column 'label' holds ''"
    """

    def __init__(self, split: str, index: int, file: str, reason: str, cause: str) -> None:
        super().__init__(split, index, file, reason, cause)
        self.split, self.index, self.file, self.reason, self.cause = split, index, file, reason, cause

    def __str__(self) -> str:
        return (
            f"record {self.index} of split {self.split!r} ({printable(self.file)}): {self.reason}: "
            f"{printable(self.cause)}. {ADVICE[self.reason]} To leave such records out, pass on_error='skip'."
        )


OnError = str | Callable[[RecordError], None]


class ErrorPolicy:
    """What happens to records that cannot be used, with counts for one warning at the end.

    Args:
        on_error: `"raise"`, `"skip"` or a function that is called with every `RecordError`.

    Raises:
        ValueError: `on_error` is something else.
    """

    def __init__(self, on_error: OnError) -> None:
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise ValueError(f"on_error must be 'raise', 'skip' or a function of a RecordError, not {on_error!r}")
        self.on_error = on_error
        self.seen: Counter[str] = Counter()
        self.dropped: dict[str, Counter[str]] = {}
        self.first: dict[str, RecordError] = {}

    def handle(self, error: RecordError) -> None:
        """Raise `error`, or count it and pass it to the user's function."""
        if self.on_error == "raise":
            raise error
        self.first.setdefault(error.split, error)
        self.dropped.setdefault(error.split, Counter())[error.reason] += 1
        if callable(self.on_error):
            self.on_error(error)

    def report(self) -> None:
        """Log one warning with how many records were dropped and why, if there were any."""
        if not self.dropped:
            return
        counts = []
        for split, reasons in self.dropped.items():
            why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            counts.append(f"{sum(reasons.values()):,} of {self.seen[split]:,} records of split {split!r} ({why})")
        logger.warning("Dropped %s. The first: %s", "; ".join(counts), next(iter(self.first.values())))

    def check_something_left(self, split: str) -> None:
        """Raise the first error of a split if all its records were dropped: the folder is wrong, not the records."""
        if split in self.dropped and sum(self.dropped[split].values()) == self.seen[split]:
            self.report()
            raise self.first[split]
