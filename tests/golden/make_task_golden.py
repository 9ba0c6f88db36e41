"""Adds the output of transformers 4.28.1 for UniChart's other prompts to the golden set: `golden_tasks.json`.

Run it in the environment that `make_golden.py` describes, after it; it reads the checkpoints and the pixels that are
there::

    OMP_NUM_THREADS=1 /tmp/env428/bin/python tests/golden/make_task_golden.py

Per checkpoint, task and example: the ids of prompt and target by the authors' rules (prefix, question if the task has
one, `<s_answer>`, target, EOS), labels, the loss in evaluation mode, and greedy and beam answers of the authors' call.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from reference import answer_text, generate
from transformers import DonutProcessor, VisionEncoderDecoderModel

PREFIXES = {"summary": "<summarize_chart>", "table": "<extract_data_table>", "open_qa": "<opencqa>"}
TARGETS = {
    "summary": "the red bar is the largest , with 12 % .",
    "table": "Year | EU & 2019 | 12 & 2020 | 7.5",
    "open_qa": "it rose from 5 to 12 in two years .",
}
EXAMPLES, MAX_LENGTH, GAP = 4, 64, 0.01


def describe(
    model: VisionEncoderDecoderModel, processor: DonutProcessor, pixels: torch.Tensor, task: str, query: str
) -> dict[str, Any]:
    """The golden values of one task and example."""
    tokenizer = processor.tokenizer
    question = f" {query}" if task == "open_qa" else ""
    prompt_text = f"{PREFIXES[task]}{question} <s_answer>"
    ids = torch.tensor(
        tokenizer(f"{prompt_text} {TARGETS[task]}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
    )
    end = int(torch.nonzero(ids == tokenizer.convert_tokens_to_ids("<s_answer>")).sum())
    labels = ids.clone()
    labels[: end + 1] = -100
    with torch.no_grad():
        loss = model(pixels[None], decoder_input_ids=ids[None, :-1], labels=labels[None, 1:].contiguous()).loss
    record: dict[str, Any] = {
        "target": TARGETS[task],
        "prompt_ids": ids[: end + 1].tolist(),
        "input_ids": ids.tolist(),
        "labels": labels.tolist(),
        "loss_eval_mode": float(loss),
    }
    for name, beams in (("greedy", 1), ("beam4", 4)):
        out = generate(model, processor, pixels, ids[: end + 1], num_beams=beams, num_return_sequences=beams)
        scores = getattr(out, "sequences_scores", None)
        if beams > 1:
            clear = float(scores.diff().abs().min()) > 1e-4
        else:
            clear = min(float(step[0].topk(2).values.diff().abs()) for step in out.scores) > GAP
        record[name] = {"text": answer_text(processor, out.sequences[0]), "clear": clear}
    return record


def main() -> None:
    """Write `golden_tasks.json` beside each `golden.json`.

    Raises:
        SystemExit: The version of transformers is another one.
    """
    if transformers.__version__ != "4.28.1":
        raise SystemExit(f"this needs transformers 4.28.1, and has {transformers.__version__}")
    for name in ("modern", "ancient"):
        folder = Path(__file__).parent / name
        processor = DonutProcessor.from_pretrained(folder / "checkpoint")
        model = VisionEncoderDecoderModel.from_pretrained(folder / "checkpoint").eval()
        arrays = np.load(folder / "golden.npz")
        examples = json.loads((folder / "golden.json").read_text())["examples"][:EXAMPLES]
        found = {
            task: [
                describe(model, processor, torch.from_numpy(arrays[f"pixel_values_{i}"]), task, example["query"])
                for i, example in enumerate(examples)
            ]
            for task in PREFIXES
        }
        (folder / "golden_tasks.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
