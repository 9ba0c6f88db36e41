"""What tests of pushing from a trainer let a client process do: train, push, pull, and tell what the models answer."""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pull_flows import _Warnings

TIMES = ("_runtime", "_per_second", "_time", "epoch")
GENERATION = (
    "max_length",
    "decoder_start_token_id",
    "forced_eos_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def records(labels: list[str] | None = None, n: int = 4) -> list[dict[str, Any]]:
    """Drawn charts with their own answers, or with those of `labels`."""
    from tests.support import families

    rows = families.records(n)
    return rows if labels is None else [{**row, "answer": label} for row, label in zip(rows, labels, strict=True)]


def trainer(folder: str, base: str, *, lora: bool = False, loading: dict[str, Any] | None = None, **changes: Any):
    """A trainer of two steps on a checkpoint of the Hub."""
    from chartqa_ft import ChartQATrainer, default_lora_config, load_checkpoint
    from tests.support.common import arguments

    model, processor, adapter = load_checkpoint(base, **(loading or {}))
    config = default_lora_config(model, r=2) if lora else None
    settings = {"max_steps": 2, "learning_rate": 0.002, **changes}
    return ChartQATrainer(
        model, arguments(folder, **settings), records(), records(), processor, adapter, peft_config=config
    )


def answers_of(model: Any, processor: Any, adapter: Any, num_beams: int = 1) -> list[str]:
    from chartqa_ft import answer_questions

    rows = records()
    images, questions = [row["image"] for row in rows], [row["question"] for row in rows]
    return answer_questions(
        model, processor, images, questions, adapter=adapter, num_beams=num_beams, max_new_tokens=6
    )


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if not key.endswith(TIMES)}


def train_and_push(
    folder: str,
    base: str,
    *,
    pushing: dict[str, Any] | None = None,
    lora: bool = False,
    golden: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Train, evaluate on labels that are mostly what the model answers, and push."""
    made = trainer(folder, base, lora=lora, **changes)
    made.train()
    answers = answers_of(made.model, made.processing_class, made.adapter, made.args.generation_num_beams)
    # Its own answers but for the first, so that no other answers score the same.
    labels = ["no such answer", *(answer or "no such answer" for answer in answers[1:])]
    metrics = made.evaluate(records(labels))
    commit = made.push_to_hub(**(pushing or {}))
    return {
        "answers": answers,
        "labels": labels,
        "metrics": without_times(metrics),
        "step": made.weights_step,
        "oid": commit.oid,
        "pr": commit.pr_url,
        "old": old_numbers(made.model, made.processing_class, made.adapter, golden) if golden else None,
    }


def train_alone(folder: str, base: str, **changes: Any) -> dict[str, Any]:
    """Train while `hub_strategy` pushes; returns the log, and what was warned of after loading."""
    made = trainer(folder, base, **changes)
    said = _Warnings()
    logging.getLogger("chartqa_ft").addHandler(said)
    try:
        output = made.train()
    finally:
        logging.getLogger("chartqa_ft").removeHandler(said)
    return {
        "warnings": said.texts,
        "steps": output.global_step,
        "loss": output.training_loss,
        "log": made.state.log_history,
        "best": made.state.best_global_step,
        "weights_step": made.weights_step,
    }


def push_best(folder: str, base: str, better: int, **changes: Any) -> dict[str, Any]:
    """Train two steps of which step `better` counts as best (the loss falls), go back to it, and push as it is."""
    from chartqa_ft import load_checkpoint

    made = trainer(
        folder,
        base,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=better == 1,
        **changes,
    )
    made.train()
    made.push_to_hub()
    pulled = load_checkpoint(made.hub_model_id)[0].state_dict()
    return {
        "best": made.state.best_global_step,
        "weights_step": made.weights_step,
        "losses": {row["step"]: row["eval_loss"] for row in made.state.log_history if "eval_loss" in row},
        "same_weights": all((value == pulled[key]).all() for key, value in made.model.cpu().state_dict().items()),
    }


def pull(
    name: str, labels: list[str], folder: str, *, num_beams: int = 1, golden: str | None = None, **loading: Any
) -> dict[str, Any]:
    """What a checkpoint of the Hub answers and scores."""
    from chartqa_ft import ChartQATrainer, load_checkpoint
    from tests.support.common import arguments

    model, processor, adapter = load_checkpoint(name, **loading)
    answers = answers_of(model, processor, adapter, num_beams)
    settings = arguments(folder, generation_num_beams=num_beams)
    scoring = ChartQATrainer(model, settings, processing_class=processor, adapter=adapter)
    return {
        "answers": answers,
        "metrics": without_times(scoring.evaluate(records(labels))),
        "old": old_numbers(model, processor, adapter, golden) if golden else None,
    }


def old_numbers(model: Any, processor: Any, adapter: Any, golden: str) -> dict[str, Any]:
    """What transformers 4.28.1 and today's do not do alike, of a model and the charts of a folder of golden values.

    Pixels are digests of the float32 values of one chart; beams are those of 4 in a search of 12 tokens.
    """
    import numpy as np
    import torch
    from PIL import Image

    from chartqa_ft.adapters import base_model, compat
    from chartqa_ft.batching.collator import ChartQACollator

    values = json.loads((Path(golden) / "golden.json").read_text(encoding="utf-8"))
    rows = [
        {
            "image": Image.open(Path(golden) / "images" / example["imgname"]),
            "question": example["query"],
            "answer": example["label"],
        }
        for example in values["examples"]
    ]
    batches = [adapter.encode([row]) for row in rows]
    np.random.seed(0)
    padded = ChartQACollator(adapter, random_padding="global", group_by_chart=False)(rows)["pixel_values"]
    model.eval()
    beams: dict[str, list[Any]] = {"own": [], "plain": []}
    own = {"custom_generate": compat.legacy_beam_search} if adapter.legacy else {}
    for batch in batches[:4]:
        prompt = batch["decoder_input_ids"][:, : adapter.prompt_lengths(batch)[0]]
        for key, search in (("own", own), ("plain", {})):
            with torch.no_grad():
                found = model.generate(
                    pixel_values=batch["pixel_values"],
                    decoder_input_ids=prompt,
                    num_beams=4,
                    max_new_tokens=12,
                    return_dict_in_generate=True,
                    output_scores=True,
                    **search,
                )
            beams[key].append([found.sequences[0].tolist(), found.sequences_scores[0].item()])
    base = base_model(model)
    blocks = [block for stage in base.encoder.encoder.layers for block in stage.blocks]
    return {
        "pixels": [digest_of(batch["pixel_values"][0]) for batch in batches],
        "padded": [digest_of(chart) for chart in padded],
        "ids": [batch["decoder_input_ids"][0].tolist() for batch in batches],
        "decoded": [processor.tokenizer.decode(case["input_ids"]) for case in values["tokenizer_cases"]],
        "drop_path": [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks],
        "generation": {key: getattr(base.generation_config, key) for key in GENERATION},
        "sequences": [sequence for sequence, _ in beams["own"]],
        "beam_scores": [score for _, score in beams["own"]],
        "plain_beam_scores": [score for _, score in beams["plain"]],
    }


def digest_of(values: Any) -> str:
    """Of an array or a tensor, by its bytes."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def save_on_a_full_disk(folder: str, base: str, room: int, **changes: Any) -> dict[str, Any]:
    """Save, train, and save again while no file may grow beyond `room` bytes."""
    from chartqa_ft import load_checkpoint

    made = trainer(folder, base, **changes)
    made.save_model()
    before = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    made.train()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        made.save_model()
        error = None
    except Exception as caught:
        error = {"kind": type(caught).__name__, "message": str(caught), "errno": getattr(caught, "errno", None)}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    after = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    folders = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
    load_checkpoint(folder)
    made.save_model()
    later = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    changed = sorted(name for name in later if later[name] != before.get(name))
    return {"error": error, "same": before == after, "folders": folders, "changed": changed}


def push_saved(folder: str, name: str, base: str, **changes: Any) -> str:
    """Push a model without training; its weights are those of the base, a little moved, the same each time."""
    import torch

    made = trainer(folder, base, hub_model_id=name, **changes)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.add_(0.125)
    return made.push_to_hub().oid


OWN = {
    "README.md": "# My own card",
    "metrics.json": '{"eval_relaxed_accuracy": 0.125, "of": "an earlier run"}',
    "predictions.jsonl": '{"of": "an earlier run"}',
    "assets/training_curve.png": "my own curve",
    "assets/figure.png": "my own figure",
    "LICENSE": "my own licence",
    "notes.md": "my own notes",
}
"""Files of a user, some of them with names that a push uses."""


def push_beside_files(folder: str, base: str, *, own: bool, evaluate: bool, **changes: Any) -> dict[str, Any]:
    """Train, save, and push from a folder that holds files of the user; tell the files before and after it."""
    from chartqa_ft.hub.errors import HubError

    made = trainer(folder, base, **changes)
    made.train()
    made.save_model()
    metrics = without_times(made.evaluate()) if evaluate else {}
    for name, text in OWN.items() if own else ():
        (Path(folder) / name).parent.mkdir(exist_ok=True)
        (Path(folder) / name).write_text(text)
    before = digests(Path(folder))
    try:
        made.push_to_hub(predictions=evaluate)
        error = None
    except HubError as caught:
        error = str(caught)
    return {"before": before, "after": digests(Path(folder)), "error": error, "metrics": metrics}


def digests(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file in a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def push_folder(folder: str, name: str) -> str:
    from chartqa_ft import push_checkpoint

    return push_checkpoint(folder, name).oid


def init_alone(folder: str, base: str, **changes: Any) -> None:
    """Make a trainer that pushes, which must fail before it trains."""
    trainer(folder, base, push_to_hub=True, **changes)


def train_as_script(folder: str, base: str, **changes: Any) -> dict[str, Any]:
    """What the example scripts do with a trainer."""
    from chartqa_ft.scripts.arguments import DataArguments, ModelArguments
    from chartqa_ft.scripts.running import train_and_score

    @dataclass
    class Arguments(DataArguments, ModelArguments):
        pass

    made = trainer(folder, base, push_to_hub=True, **changes)
    return without_times(train_and_score(made, Arguments(model_name_or_path=base)))
