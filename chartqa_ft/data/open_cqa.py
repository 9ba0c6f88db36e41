"""OpenCQA (vis-nlp/OpenCQA): open questions about charts, with answers of some sentences.

A file of records is a JSON object, `{number: [image_file, title, summary, question, abstractive_answer,
extractive_answer]}` in `etc/data/` (data_format.txt), or with the article behind the title in
`etc/data(full_summary_article)/`. The images are in `chart_images/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .cells import shorten

TASK = "open_qa"
IMAGES = "chart_images"
# Without and with the article; the second file repeats the records of the first one.
_FOLDERS = ("etc/data", "etc/data(full_summary_article)")
_LENGTHS = (6, 7)


def record_folder(path: Path) -> Path | None:
    """Return the folder of the records in a clone of OpenCQA, None for any other folder."""
    if not (path / IMAGES).is_dir():
        return None
    folders = [path / name for name in _FOLDERS]
    return next((folder for folder in folders if folder.is_dir() and any(folder.glob("*.json"))), None)


def is_open_cqa(content: Any) -> bool:
    """Return whether the content of a JSON file has this layout, judged by its first record and the number of it.

    Columns of texts, `{"question": [...], "answer": [...]}`, are lists as well.

    Example:
        >>> is_open_cqa({"7": ["7.png", "Tea", "Tea rose.", "How did it rise?", "Fast.", "It rose fast."]})
        True
        >>> is_open_cqa({"data": [{"query": "How many?"}]})
        False
    """
    if not isinstance(content, Mapping) or not content:
        return False
    number, record = next(iter(content.items()))
    is_numbered = str(number).isdecimal() and all(isinstance(value, list) for value in content.values())
    return is_numbered and _is_record(record)


def open_cqa_records(content: Mapping[str, Any]) -> Iterator[dict[str, Any] | str]:
    """Yield the records of a file; a str in place of a record says what is wrong with it.

    The answer is the abstractive one, on which generative models are trained and scored. The others keep their names.

    Example:
        >>> record = ["7.png", "Tea", "Tea rose.", "How did it rise?", "Fast.", "It rose fast."]
        >>> next(open_cqa_records({"7": record}))["answer"]
        'Fast.'
    """
    for key, value in content.items():
        if not _is_record(value):
            yield f"the record {shorten(key)} is no list of 6 or 7 texts but {shorten(value)}"
            continue
        question, abstractive, extractive = value[-3:]
        yield {
            "image_file": value[0],
            "question": question,
            "answer": abstractive,
            "task": TASK,
            "title": value[1],
            "summary": value[-4],
            "extractive_answer": extractive,
        }


def _is_record(value: Any) -> bool:
    return isinstance(value, list) and len(value) in _LENGTHS and all(isinstance(text, str) for text in value)
