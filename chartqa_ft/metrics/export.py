"""Write predictions in the formats of lmms-eval and VLMEvalKit, which then score them by their own rules."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import check_not_read, write_whole
from ..printable import printable_errors
from .accuracy import SPLITS, per_example_correctness, source_of
from .answers import LONGEST_LIST, as_targets, as_text, to_number
from .predictions import is_blank, is_short_answer, read_predictions

logger = logging.getLogger(__name__)

__all__ = ["EXPORT_FORMATS", "export_predictions"]

_MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"]
) | {"NULL", "NaN", "None", "n/a", "nan", "null"}
"""Texts that `pandas.read_csv` reads as missing values (its documentation, argument `na_values`)."""
_KEEP = "\u00a0"
"""White space that VLMEvalKit strips from a prediction, and that makes pandas read the cell as text."""


@printable_errors()
def export_predictions(
    predictions: str | os.PathLike[str] | Iterable[Mapping[str, Any]], path: str | os.PathLike[str], *, format: str
) -> Path:
    """Write predictions as a file of another program.

    `"lmms-eval"` (EvolvingLMMs-Lab/lmms-eval) has two formats, which the ending of `path` chooses:

    - `.jsonl`: the samples that `lmms_eval --log_samples` writes (`lmms_eval/loggers/evaluation_tracker.py` at commit
      0716c69d, `save_results_samples`; `lmms_eval/evaluator.py` at 03cbb1f3; `lmms_eval/tasks/chartqa/utils.py` at
      2bb5e985): `doc_id`, `target`, `filtered_resps`, `resps` where the scored answer is a part of it, `input`,
      `target_hash` (SHA-256) and the verdicts `relaxed_overall` with `relaxed_human_split` or
      `relaxed_augmented_split`, by lmms-eval's rule. `input` is the question without what surrounds it in the prompt,
      and there is no `doc_hash` or `prompt_hash`, because predictions hold neither the prompt nor the whole record.
    - `.json`: what its model `from_log` reads (`lmms_eval/models/simple/from_log.py` at 19085f3a), so that
      `lmms_eval --model from_log --model_args logs=FOLDER --tasks chartqa` scores these answers. It finds them by the
      number of the question alone: they must be those of `load_chartqa("lmms-lab/ChartQA", split="test")`, all of
      them and in this order.

    `"vlmevalkit"` (open-compass/VLMEvalKit) is the file of predictions as tab-separated values, which it writes with
    `PRED_FORMAT=tsv` and scores like its XLSX (`vlmeval/smp/file.py` at commit 00fff545, `dump` and `load`;
    `vlmeval/dataset/image_vqa.py` at 00b1c8d4, `ImageVQADataset.evaluate`; `vlmeval/dataset/utils/vqa_eval.py` at
    0a04a1d2): the columns `index`, `question`, `answer`, `split` and `prediction`. VLMEvalKit reads it with pandas and
    evaluates labels as Python code. So a prediction that pandas would read as missing or as the number 0 ends in a
    no-break space, which VLMEvalKit strips, and a label of that kind, or one that is code, is written as a list of
    one label, which scores the same. Its rule is our variant `vlmevalkit`.

    Both score the extracted answer where answers were extracted. Questions without an answer to compare with are left
    out, except for `from_log`.

    Args:
        predictions: the path of a `predictions.jsonl`, or its rows.
        path: the file to write. Its folder is created if it is missing.
        format: `"lmms-eval"` or `"vlmevalkit"`.

    Returns:
        The path.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the format or the ending of `path` is unknown, the predictions are damaged or empty, a question has
            several accepted answers, which lmms-eval does not know, or `path` is the file of the predictions.
        OSError: a file cannot be read or written.

    Example:
        >>> import tempfile
        >>> row = {"index": 0, "question": "How many bars?", "answer": "4", "prediction": "4.1", "source": "human"}
        >>> folder = Path(tempfile.mkdtemp())
        >>> print(export_predictions([row], folder / "a.tsv", format="vlmevalkit").read_text(), end="")
        "index"	"question"	"answer"	"split"	"prediction"
        "0"	"How many bars?"	"4"	"test_human"	"4.1"
        >>> sample = json.loads(export_predictions([row], folder / "a.jsonl", format="lmms-eval").read_text())
        >>> sample["doc_id"], sample["target"], sample["filtered_resps"], sample["relaxed_overall"]
        (0, '4', ['4.1'], 1.0)
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"format must be one of {', '.join(EXPORT_FORMATS)}, and is {format!r}")
    writers = EXPORT_FORMATS[format]
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"{path}: a file for {format} must end in {' or '.join(writers)}")
    check_not_read(path, predictions)
    return write_whole(Path(path), writers[suffix](_short_answers(_rows(predictions))))


def _short_answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the task `qa`, the only one that the other programs have here."""
    kept = [row for row in rows if is_short_answer(row)]
    if not kept:
        raise ValueError("the predictions hold no short answers, which alone are exported")
    if len(kept) < len(rows):
        logger.warning("%d of %d rows are of other tasks than qa: they are left out", len(rows) - len(kept), len(rows))
    return kept


def _rows(predictions: Any) -> list[dict[str, Any]]:
    if isinstance(predictions, (str, os.PathLike)):
        return read_predictions(predictions)
    if isinstance(predictions, (Mapping, bytes)) or not isinstance(predictions, Iterable):
        raise TypeError(f"predictions is {predictions!r:.60}: pass the path of a predictions.jsonl, or its rows")
    rows = []
    for number, row in enumerate(predictions):
        if not isinstance(row, Mapping):
            raise TypeError(f"predictions[{number}] must be a dict, and is {row!r:.60}")
        missing = [key for key in ("question", "answer", "prediction") if key not in row]
        if missing:
            raise ValueError(f"predictions[{number}] lacks {', '.join(missing)}")
        rows.append({"index": number, "source": None, **row})
    if not rows:
        raise ValueError("predictions holds no rows: there is nothing to export")
    return rows


def _answered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that have an answer to compare with."""
    kept = [row for row in rows if not is_blank(row["answer"])]
    if not kept:
        raise ValueError("no question has an answer to compare with: there is nothing to export")
    if len(kept) < len(rows):
        logger.warning(
            "%d of %d questions have no answer to compare with: they are left out", len(rows) - len(kept), len(rows)
        )
    return kept


def _scored(row: Mapping[str, Any]) -> str:
    """Return the text that was scored: the extracted answer, or else the prediction."""
    return as_text(row["extracted"] if row.get("extracted") is not None else row["prediction"])


# ------------------------------------------------------------------ lmms-eval
def _lmms_eval_samples(rows: Sequence[dict[str, Any]]) -> str:
    rows = _answered(rows)
    targets = [_single(row) for row in rows]
    verdicts = per_example_correctness(
        predictions=[_scored(row) for row in rows], references=targets, variant="lmms_eval"
    )
    lines = []
    for row, target, verdict in zip(rows, targets, verdicts, strict=True):
        text, scored = as_text(row["prediction"]), _scored(row)
        sample: dict[str, Any] = {"doc_id": row["index"], "target": target}
        if text != scored:
            sample["resps"] = [[text]]
        sample["filtered_resps"] = [scored]
        sample["target_hash"] = hashlib.sha256(target.encode("utf-8", "replace")).hexdigest()
        sample["relaxed_overall"] = verdict
        source = source_of(row["source"])
        if source in SPLITS:
            sample[f"relaxed_{source}_split"] = verdict
        sample["input"] = as_text(row["question"])
        lines.append(json.dumps(sample) + "\n")
    return "".join(lines)


def _single(row: Mapping[str, Any]) -> str:
    targets = as_targets(row["answer"])
    if len(targets) != 1:
        raise ValueError(
            f"index {row['index']} ({as_text(row['question'])!r:.80}) has {len(targets)} accepted answers, and "
            "lmms-eval scores ChartQA with one: export to vlmevalkit, or leave the row out"
        )
    return targets[0]


def _lmms_eval_log(rows: Sequence[dict[str, Any]]) -> str:
    logs = [{"doc_id": row["index"], "resps": [[_scored(row)]]} for row in rows]
    head = {"args": {"model": "chartqa_ft", "model_args": "", "limit": None}, "model_configs": {"task": "chartqa"}}
    return json.dumps({**head, "logs": logs}, indent=1) + "\n"


# ------------------------------------------------------------------ VLMEvalKit
def _vlmevalkit_table(rows: Sequence[dict[str, Any]]) -> bytes:
    rows = _answered(rows)
    sources = [source_of(row["source"]) for row in rows]
    extracted = any(_scored(row) != as_text(row["prediction"]) for row in rows)
    columns: dict[str, list[Any]] = {
        "index": [row["index"] for row in rows],
        "question": [as_text(row["question"]) for row in rows],
        "answer": [_label(row["answer"]) for row in rows],
    }
    if any(source in SPLITS for source in sources):
        columns["split"] = [f"test_{source}" if source in SPLITS else source or "unknown" for source in sources]
    columns["prediction"] = [_kept_as_text(_scored(row)) for row in rows]
    if extracted:
        columns["generated"] = [as_text(row["prediction"]) for row in rows]
    file = io.StringIO(newline="")
    # pandas ends a row at a bare carriage return only outside of quotes, and at NUL anywhere.
    writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    for values in zip(*columns.values(), strict=True):
        writer.writerow([str(value).replace("\0", "\ufffd") for value in values])
    return file.getvalue().encode("utf-8", "replace")  # lone surrogates have no UTF-8


def _is_changed_by_pandas(text: str) -> bool:
    return text in _MISSING or to_number(text.strip()) == 0.0


def _kept_as_text(prediction: str) -> str:
    """Return a prediction that pandas and VLMEvalKit together read as it is."""
    return prediction + _KEEP if _is_changed_by_pandas(prediction) else prediction


def _label(answer: Any) -> str:
    """Return an answer so that VLMEvalKit, which calls `eval` on it, scores it and runs nothing.

    VLMEvalKit takes the items of a list as accepted answers.
    """
    targets = as_targets(answer)
    if len(targets) != 1 or isinstance(answer, (list, tuple)):
        return repr(targets)
    label = targets[0]
    return repr([label]) if _is_changed_by_pandas(label) or _is_code(label) else label


def _is_code(text: str) -> bool:
    """Return whether Python would compute something for a text: it is an expression, no name and no literal."""
    if len(text) > LONGEST_LIST:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns of "\d" in a label
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return False
    except (MemoryError, RecursionError):
        return True
    if isinstance(tree, (ast.Name, ast.Constant)):
        return False
    try:
        ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return True
    return False


EXPORT_FORMATS: dict[str, dict[str, Callable[[Sequence[dict[str, Any]]], str | bytes]]] = {
    "lmms-eval": {".jsonl": _lmms_eval_samples, ".json": _lmms_eval_log},
    "vlmevalkit": {".tsv": _vlmevalkit_table},
}
"""Format -> ending of the file -> what makes its content of the rows."""
