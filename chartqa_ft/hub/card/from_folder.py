"""The card of a model of which there is nothing but its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...files import read_json
from ...metrics.task_table import task_rows
from .base_licence import base_licence
from .facts import CardFacts
from .hyperparameters import MAIN_ARGUMENTS
from .training_data import evaluation_data, other_datasets, training_data

__all__ = ["facts_of_folder"]

_PREFIX = "eval_"


def facts_of_folder(
    folder: str | Path, name: str, *, revision: str | None = None, token: str | bool | None = None
) -> CardFacts:
    """Return what the files of a folder say about its model: kind, base model, prompt, scores and data.

    Args:
        folder: A folder that `save_pretrained` or a trainer has written. `metrics.json` belongs to its weights.
        name: Name of the model on the Hub.
        revision: The branch that it is pushed to; `None` is `main`.
        token: Token to read the card of the base model with, for the license.

    Raises:
        ValueError: One of the files is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text('{"model_type": "vision-encoder-decoder"}')
        >>> _ = (folder / "metrics.json").write_text('{"eval_relaxed_accuracy": 0.5, "eval_n": 20}')
        >>> facts = facts_of_folder(folder, "alice/charts")
        >>> facts.kind, facts.model_type, facts.metrics["eval_relaxed_accuracy"]
        ('full', 'vision-encoder-decoder', 0.5)
    """
    files = ("config", "adapter_config", "chartqa_config", "metrics", "training_args")
    config, peft_config, settings, report, arguments = (_read(Path(folder) / f"{file}.json") for file in files)
    script = report.get("arguments")
    script = script if isinstance(script, dict) else {}
    is_trained = "train_loss" in report  # else a script that only evaluates wrote it, about the folder itself
    merged = settings.get("merged")
    merged = merged if isinstance(merged, dict) and not peft_config else {}
    if peft_config:
        base, base_revision = peft_config.get("base_model_name_or_path"), peft_config.get("revision")
    else:
        base, base_revision = merged.get("base_model"), merged.get("base_revision")
    if not base and is_trained:
        base = script.get("model_name_or_path")
    base_revision = base_revision or (script.get("model_revision") if is_trained else None)
    facts: dict[str, Any] = {
        "name": name,
        "revision": revision,
        "kind": "lora" if peft_config else "merged" if merged else "full",
        "base_model": base,
        "base_revision": base_revision,
        "settings": settings,
        "model_type": config.get("model_type"),
        "vocabulary_grown": bool(peft_config.get("trainable_token_indices")),
        "compat": settings.get("compat") is True,
        "peft_config": peft_config or {key: merged[key] for key in ("peft_type",) if key in merged},
        "arguments": {key: arguments[key] for key in MAIN_ARGUMENTS if key in arguments},
        "versions": settings.get("versions") or {},
        **(base_licence(base, token, revision=base_revision) if base else {}),
    }
    if f"{_PREFIX}relaxed_accuracy" in report or task_rows(report, prefix=_PREFIX):
        decoding = report.get("decoding")
        beams = script.get("final_num_beams") or script.get("generation_num_beams")
        facts |= {
            "dataset": _data_name(script.get("dataset_name")),
            "other_datasets": [_data_name(name) for name in other_datasets(script)] if is_trained else [],
            "dataset_revision": script.get("dataset_revision"),
            "train_split": training_data(script) if is_trained else None,
            "eval_split": evaluation_data(script),
            "eval_part": report.get("eval_dataset"),
            "metrics": report,
            "metric_prefix": _PREFIX,
            "metric_variant": script.get("metric_variant") or settings.get("metric_variant") or "pix2struct",
            "metric_extract": report.get("extract") or script.get("metric_extract"),
            "metric_interval": report.get("interval") or script.get("metric_interval") or "wilson",
            "decoding": decoding if isinstance(decoding, dict) else {"num_beams": beams} if beams else {},
            "step": report.get("step"),
            "signatures": texts if isinstance(texts := report.get("signatures"), dict) else {},
        }
    return CardFacts(**facts)


def _data_name(name: Any) -> str | None:
    """Return the name of a data set; one without an owner is that of a local folder, whose path was shortened."""
    if not isinstance(name, str):
        return None
    return name if "/" in name else f"./{name}"


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, advice="save the model again") if path.is_file() else {}
