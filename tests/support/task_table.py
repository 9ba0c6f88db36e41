"""The table of family x task in `examples/tasks.md`, made by running each: `make families`.

python -m tests.support.task_table examples/tasks.md [family ...]
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

from chartqa_ft.adapters import adapter_for, add_prompt_tokens
from chartqa_ft.models.chartqa_config import save_settings
from chartqa_ft.models.load import load_checkpoint
from chartqa_ft.training.arguments import ChartQATrainingArguments
from chartqa_ft.training.trainer import ChartQATrainer

from .families import FAMILIES, build, records
from .family_table import FAILED, PASSED

BEGIN, END = "<!-- task table -->", "<!-- end of task table -->"
TASKS = ("open_qa", "table", "summary")
STEPS = 12
PROMPT_OF_DECODERS = "{question} Answer:"


def task_records(task: str) -> list[dict[str, Any]]:
    """Four records of a task on drawn bars; the second one is of `qa`, so that batches are mixed."""
    made = []
    for number, row in enumerate(records(4)):
        answer = {
            "open_qa": f"The bar is as tall as {row['answer']}, which is more than one.",
            "table": f"Color,Height\nred,{number}\ngreen,{number + 1}",
            "summary": f"Chart {number} has a red bar and a green bar.",
        }[task]
        made.append(row if number == 1 else {**row, "task": task, "answer": answer})
    return made


def adapter_of(name: str, model: Any, processor: Any) -> Any:
    """The adapter of a family; decoders without UniChart's tokens get them, or a prompt of plain words."""
    if name == "trocr":
        prompts = {"open_qa": "Explain: {question} Answer:", "table": "Table:", "summary": "Summary:"}
        return adapter_for(model, processor, prompt=PROMPT_OF_DECODERS, prompts=prompts)
    if name in ("unichart", "nougat"):
        add_prompt_tokens(model, processor, tasks=TASKS)
    return adapter_for(model, processor)


def check(name: str, task: str) -> None:
    """Train a family on a task, and compare batched, single and reloaded answers.

    Raises:
        AssertionError: A promise does not hold.
    """
    model, processor = build(name)
    adapter, rows = adapter_of(name, model, processor), task_records(task)
    with tempfile.TemporaryDirectory() as folder:
        args = ChartQATrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            learning_rate=3e-3,
            warmup_steps=0,
            per_device_train_batch_size=4,
            logging_steps=1,
            save_strategy="no",
            generation_num_beams=1,
            generation_max_new_tokens=6,
            task_max_new_tokens={task: 24},
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = ChartQATrainer(
            model, args, train_dataset=rows, eval_dataset=rows, processing_class=processor, adapter=adapter
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
        metrics = trainer.evaluate()
        assert metrics[f"eval_{task}_n"] == 3
        assert metrics["eval_n"] == 1
        answers = [row["prediction"] for row in trainer.evaluator.answered]
        lengths = [24 if row.get("task") else 6 for row in rows]
        assert answers == _single(trainer.model, adapter, rows, lengths), "batched answers differ from single ones"
        trainer.save_model(folder)
        save_settings(adapter, folder)
        again, _, loaded = load_checkpoint(folder)
        assert answers == _single(again, loaded, rows, lengths), "the saved model answers otherwise"


def _single(model: Any, adapter: Any, rows: list[dict[str, Any]], lengths: list[int]) -> list[str]:
    model.eval()
    found = []
    for row, length in zip(rows, lengths, strict=True):
        batch = adapter.encode([row], with_answers=False)
        found += adapter.decode(adapter.generate(model, batch, max_new_tokens=length))
    return found


def table(found: dict[tuple[str, str], bool]) -> str:
    """The table as Markdown, one row per family of `FAMILIES`."""
    lines = [["family", *(f"`{task}`" for task in TASKS)], ["---", *([":-:"] * len(TASKS))]]
    for family in FAMILIES:
        lines.append([f"`{family}`", *(PASSED if found.get((family, task)) else FAILED for task in TASKS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(document: Path, families: list[str]) -> None:
    """Run all tasks of families, and write the table into a page if all families were run."""
    torch.set_num_threads(1)
    found: dict[tuple[str, str], bool] = {}
    for family in families or list(FAMILIES):
        for task in TASKS:
            try:
                check(family, task)
                found[family, task] = True
            except Exception:
                traceback.print_exc()
                found[family, task] = False
            print(family, task, found[family, task], flush=True)
    if not families:
        text = document.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        document.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
