"""What a push of charts makes public: who can read it, whose charts they are, and whether a secret is among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..hub.credentials import find_token, known_tokens
from ..hub.secret_files import find_in_bytes, find_in_file

# As the charts of ChartQA are called in its archive, apart from plain numbers, which are the names of any chart.
_CHARTQA_FILE = re.compile(r"(two_col|multi_col)_\d+|OECD_[A-Z0-9_,.()-]+_\d{6}")
_CHARTQA_SOURCE = re.compile(r"(?i)(^|[/\\])chartqa([ _-]dataset)?[/\\]*$")
_CHARTQA_TERMS = (
    "{which} ChartQA, whose license is gpl-3.0 and whose charts belong to their publishers (Statista, Pew Research "
    "Center, Our World in Data, OECD): check that you may publish them"
)


def chartqa_charts(chart_ids: Iterable[str]) -> int:
    """Return how many charts have a file name of ChartQA. Most of its charts have, the others are numbered.

    Example:
        >>> chartqa_charts(["two_col_100008.png", "png/OECD_AIR_POLLUTION_AUS_000012.png#9f0a", "my chart"])
        2
    """
    names = {str(chart_id).partition("#")[0].rpartition("/")[2].removesuffix(".png") for chart_id in chart_ids}
    return sum(_CHARTQA_FILE.fullmatch(name) is not None for name in names)


def announcement(
    repo_id: str, counts: Mapping[str, Mapping[str, int]], *, is_public: bool | None, source: Any, of_chartqa: int
) -> str:
    """Return one line that says what is about to be pushed, and who will be able to read it.

    Args:
        repo_id: the dataset on the Hub.
        counts: number of `charts`, and of questions by source, for each split.
        is_public: whether everybody can read it; `None` if it is new and the settings of its owner decide.
        source: what the user named as the source of the records.
        of_chartqa: how many charts have a file name of ChartQA.

    Example:
        >>> counts = {"train": {"charts": 2, "human": 3, "augmented": 1}}
        >>> print(announcement("alice/charts", counts, is_public=True, source="charts.json", of_chartqa=0))
        pushing 2 charts with 4 questions to alice/charts, which everybody can read (private=True pushes only to a \
private one)
    """
    charts = sum(count.get("charts", 0) for count in counts.values())
    questions = sum(number for count in counts.values() for name, number in count.items() if name != "charts")
    readers = {
        True: ", which everybody can read (private=True pushes only to a private one)",
        False: ", which is private",
        None: ", which is new and everybody can read, unless its owner's settings make new ones private (private=True "
        "makes it private)",
    }[is_public]
    line = f"pushing {charts:,} charts with {questions:,} questions to {repo_id}{readers}"
    if is_public is not False and of_chartqa:
        line += "; " + _CHARTQA_TERMS.format(which=f"{of_chartqa:,} charts have file names of")
    elif is_public is not False and isinstance(source, str) and _CHARTQA_SOURCE.search(source):
        line += "; " + _CHARTQA_TERMS.format(which="by its name this is")
    return line


def refuse_secrets(splits: Mapping[str, Any], token: str | bool | None) -> None:
    """Refuse records with a secret in a text or in the bytes of an image, such as a comment in its metadata.

    Raises:
        ValueError: there is one; the message names the record.
    """
    known = known_tokens(token)
    for split, records in splits.items():
        for column in (name for name in records.column_names if name != "image"):
            values = [str(value) for value in records.with_format(None)[column]]
            if find_token("\n".join(values), *known):
                row = next((row for row, value in enumerate(values) if find_token(value, *known)), 0)
                raise ValueError(f"{split}[{row}]: its {column} contains a secret (a token, a key or a password)")
        for row, image in enumerate(_images(records)):
            content, path = image.get("bytes"), image.get("path")
            if content is None and not path:
                continue
            if find_in_file(str(path), *known) if content is None else find_in_bytes(content, *known):
                raise ValueError(f"{split}[{row}]: its image contains a secret (a token, a key or a password)")


def _images(records: Any) -> Iterator[dict[str, Any]]:
    """Yield the encoded images of records, each chart once."""
    from datasets import Image

    encoded = records.with_format(None).select_columns(["image"]).cast_column("image", Image(decode=False))
    seen = set()
    for record, chart_id in zip(encoded, records.with_format(None)["chart_id"], strict=True):
        is_new = chart_id not in seen
        seen.add(chart_id)
        yield record["image"] or {} if is_new else {}
