"""The table of all models that `AutoModelForImageTextToText` loads: tried, or why not. `make families` writes it.

python -m tests.support.model_table results.xml chartqa_ft/adapters/FAMILIES.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MODELS

from tests.support.family_table import COLUMNS, members, outcomes
from tests.support.refused_families import REFUSED

OTHER_TYPES = {
    **dict.fromkeys(("unichart", "nougat", "trocr"), "vision-encoder-decoder"),
    "kosmos2": "kosmos-2",
    "kosmos2_5": "kosmos-2.5",
    "blip2": "blip-2",
}
"""Family -> its `config.model_type`, where that is another word."""
WORKS = "works"
SEE_TORCHVISION = "needs torchvision: see the table of `make families-torchvision` in `examples/own_family.md`"
REASONS = {
    "evolla": "reads proteins, not images",
    "instructblipvideo": "reads videos",
    "llava_next_video": "reads videos",
    "pi0": "writes the actions of a robot, not text",
    "shieldgemma2": "classifies images",
    "video_llava": "reads videos",
}
"""Model type -> why it was not tried."""
FAILS = {"llama4": "the forward pass of transformers 5.24 raises AttributeError (image_outputs)"}
"""Model type -> why it fails upstream already."""
REFUSAL = "test_a_model_that_does_not_work_is_refused_with_the_reason"


def table(found: Mapping[tuple[str, str], bool], types: Iterable[str]) -> str:
    """The table as Markdown: one row for each model type.

    Args:
        found: (test, family) -> whether all its cases passed.
        types: the model types.
    """
    tests = [test for names in COLUMNS.values() for test in names]
    lines = ["| `config.model_type` | tiny model |", "| --- | --- |"]
    for name in sorted(types):
        families = [family for family in members() if OTHER_TYPES.get(family, family) == name]
        failed = sorted({t for t in tests if False in [found.get((t, family)) for family in families]})
        if failed:
            state = f"fails: {', '.join(failed)}"
        elif families and all(found.get((test, family)) for test in tests for family in families):
            state = WORKS
        elif name in members("torchvision"):
            state = SEE_TORCHVISION
        elif name in FAILS:
            state = f"fails: {FAILS[name]}"
        elif found.get((REFUSAL, name)):
            state = f"refused: {REFUSED[name].reason}"
        else:
            state = f"not tried: {REASONS[name]}" if name in REASONS else "not tried"
        lines.append(f"| `{name}` | {state} |")
    return "\n".join(lines)


def page(results: str, types: Iterable[str] = MODELS) -> str:
    """The whole page, from the text of a junit XML file."""
    return f"""# Models of `AutoModelForImageTextToText`

Written by `make families` with transformers {transformers.__version__}; do not edit it. "works" means that a tiny
model with the real classes of the family passes the tests of the table in `examples/own_family.md`. A model that was
not tried gets the adapter that `adapter_for` selects by its config: `EncoderPrompt` for an encoder-decoder, else
`Causal`, which needs a chat template.

{table(outcomes(results), types)}
"""


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1]).read_text(encoding="utf-8")), encoding="utf-8")
