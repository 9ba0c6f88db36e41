"""What the tests of published task checkpoints let a client process run."""

from __future__ import annotations

from typing import Any

from PIL import Image


def load(name: str, folder: str) -> dict[str, Any]:
    """Load a checkpoint by its name; its task, the text of a prompt, and the same of a copy that was saved."""
    from chartqa_ft import adapter_for, answer_questions, load_checkpoint
    from chartqa_ft.models.chartqa_config import save_settings

    chart = Image.new("RGB", (64, 48), "white")
    model, processor, adapter = load_checkpoint(name)
    record = {"image": chart, "question": "How much is red?", "answer": "7"}
    found = {"task": adapter.task, "prompt": _prompt(adapter, record)}
    found["again"] = _prompt(adapter_for(model, processor), record)
    if "{question}" not in adapter.task_prompt(adapter.task):
        found["answers"] = len(answer_questions(model, processor, [chart, chart], max_new_tokens=2))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_settings(adapter, folder)
    found["saved"] = _prompt(load_checkpoint(folder)[2], record)
    found["named"] = {
        task: _prompt(adapter, {**record, "task": task}) for task in ("qa", "open_qa", "table", "summary")
    }
    return found


def _prompt(adapter: Any, record: dict[str, Any]) -> str:
    if record.get("task", adapter.task) == "table":
        record = {**record, "answer": "a | b\n1 | 2"}
    batch = adapter.encode([record])
    length = int((batch["labels"][0] != -100).nonzero()[0]) + 1
    return adapter.tokenizer.decode(batch["decoder_input_ids"][0, :length])
