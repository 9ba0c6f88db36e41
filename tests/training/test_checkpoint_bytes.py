"""Any byte of any file of a checkpoint is changed, or any part is cut off: it is noticed, or no resume reads it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chartqa_ft import default_lora_config
from chartqa_ft.training.checkpoints import STATE_NAME, find_damage, last_checkpoint, mark_checkpoint

from ..support.common import drawn_charts, tiny, trainer

UNREAD = {"README.md", "metrics.json", "predictions.jsonl", "modeling.py"}
"""Files beside a checkpoint that a push or a user adds."""
READ = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint of a LoRA run with scores and files that no resume reads, beside an older checkpoint."""
    folder = tmp_path_factory.mktemp("bytes")
    model, processor = tiny()
    model.save_pretrained(folder / "base")
    processor.save_pretrained(folder / "base")
    trainer(
        folder / "out",
        model=model,
        peft_config=default_lora_config(model, r=2),
        eval_dataset=drawn_charts().select(range(2)),
        eval_strategy="steps",
        eval_steps=1,
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
    ).train()
    for name in UNREAD:
        (folder / "out" / "checkpoint-2" / name).write_text("a")
    return folder / "out"


@pytest.fixture(scope="module")
def copied(saved, tmp_path_factory) -> Path:
    return Path(shutil.copytree(saved, tmp_path_factory.mktemp("copied") / "out"))


def harmless(name: str, before: bytes, after: bytes) -> bool:
    """Whether what a resume reads of a file is the same: of the mark, all but the number of processes."""
    if name in UNREAD or before == after:
        return True
    if name != STATE_NAME:
        return False
    try:
        marks = [json.loads(content) for content in (before, after)]
    except ValueError:
        return False
    for mark in marks:
        mark.pop("world_size", None)
    return marks[0] == marks[1]


def check(folder: Path, name: str, after: bytes) -> None:
    newest = folder / "checkpoint-2"
    before = (newest / name).read_bytes()
    (newest / name).write_bytes(after)
    try:
        damage = find_damage(newest)
        if harmless(name, before, after):
            assert damage is None
        else:
            assert damage is not None, f"{name} is another file, and nothing is said"
            assert name in damage or name == STATE_NAME
            assert last_checkpoint(folder) == str(folder / "checkpoint-1")
    finally:
        (newest / name).write_bytes(before)


@QUICK
@given(st.data())
def test_a_changed_byte(saved, copied, data):
    names = sorted(path.name for path in (saved / "checkpoint-2").iterdir())
    assert {STATE_NAME, "trainer_state.json", "chartqa_scores.json", *READ, *UNREAD} <= set(names)
    name = data.draw(st.sampled_from([*names, *[STATE_NAME] * len(names)]))
    content = bytearray((saved / "checkpoint-2" / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    check(copied, name, bytes(content))


@QUICK
@given(st.data())
def test_a_part_that_is_missing_or_too_much(saved, copied, data):
    name = data.draw(st.sampled_from(sorted(path.name for path in (saved / "checkpoint-2").iterdir())))
    content = (saved / "checkpoint-2" / name).read_bytes()
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    put = data.draw(st.sampled_from([b"", bytes(last - first), b"0", b"\n"]))
    check(copied, name, content[:first] + put + content[last:])


# ---------------------------------------------------------------------- the mark, every digit of it
@given(
    st.dictionaries(
        st.sampled_from(["window", "total"]),
        st.lists(st.floats(allow_nan=False, width=32), min_size=2, max_size=2),
        min_size=2,
    ),
    st.integers(0, 99),
    st.data(),
)
@example({"window": [math.inf, 2.0], "total": [0.1, 1e300]}, 1, None)
@QUICK
def test_every_digit_of_the_mark_counts(tmp_path_factory, sums, batches, data):
    folder = tmp_path_factory.mktemp("mark")
    mark_checkpoint(folder, {**sums, "epoch": 3, "batches": batches, "run": "a", "step": 8, "world_size": 1})
    assert find_damage(folder) is None
    text = (folder / STATE_NAME).read_text()
    world_size = text.index('"world_size"') + len('"world_size": ')
    places = [place for place, sign in enumerate(text) if sign.isdigit() and place != world_size]
    place = places[0] if data is None else data.draw(st.sampled_from(places))
    other = "1" if text[place] != "1" else "2"
    (folder / STATE_NAME).write_text(text[:place] + other + text[place + 1 :])
    damage = find_damage(folder)
    if json.loads((folder / STATE_NAME).read_text()) == json.loads(text):  # a digit beyond those of a float
        assert damage is None
    else:
        assert damage is not None
