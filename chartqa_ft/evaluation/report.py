"""Write `metrics.json`, the report of a run's scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..hub.public import as_json, public_values


def write_report(output_dir: str | Path, script: Any, numbers: Mapping[str, Any], answers: str | None) -> None:
    """Write `metrics.json`: the script's arguments, without folders of this machine, and `numbers`; make
    `predictions/<answers>` `predictions.jsonl`."""
    output = Path(output_dir)
    if answers:
        (output / "predictions" / answers).replace(output / "predictions.jsonl")
        if not any((output / "predictions").iterdir()):
            (output / "predictions").rmdir()
    report = as_json({"arguments": public_values(asdict(script)), **numbers})
    (output / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
