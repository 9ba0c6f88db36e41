"""The card of a pushed model shows charts only if they may be published."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from chartqa_ft.adapters import adapter_for
from chartqa_ft.training.trainer import ChartQATrainer

from ..support.common import arguments, drawn_charts, tiny
from ..support.families import build, records


@pytest.fixture
def evaluated(tmp_path, pushes_into_a_folder):
    """A trainer that has evaluated."""
    model, processor = build("llava")
    trainer = ChartQATrainer(
        model,
        arguments(tmp_path / "out", max_steps=1),
        train_dataset=records(4),
        eval_dataset=records(4),
        processing_class=processor,
        adapter=adapter_for(model, processor, prompt="{question}"),
    )
    trainer.train()
    trainer.evaluate()
    trainer.hub_model_id = "user/model"
    return trainer


def test_no_chart_is_published_unless_asked_for(evaluated):
    folder = evaluated.push_to_hub()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert records(1)[0]["question"] in card
    assert "sample_" not in card
    assert not list((folder / "assets").glob("sample_*"))


@pytest.mark.parametrize("how", ["argument of the push", "argument of the training"])
def test_the_charts_of_the_evaluation_are_shown_when_they_may_be(evaluated, how):
    evaluated.args.push_images = how == "argument of the training"
    folder = evaluated.push_to_hub(**({"include_images": True} if how == "argument of the push" else {}))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for number, record in enumerate(records(3), start=1):
        assert f"assets/sample_{number}.png" in card
        with Image.open(folder / "assets" / f"sample_{number}.png") as shown:
            assert shown.width / shown.height == pytest.approx(
                record["image"].width / record["image"].height, rel=0.05
            )


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [
        (None, set()),
        ("class", {"learning_rate", "optim"}),
        ("optimizer", {"learning_rate", "optim", "weight_decay"}),
        ("schedule", {"learning_rate", "optim", "weight_decay", "lr_scheduler_type", "warmup_steps"}),
    ],
)
def test_a_card_does_not_list_what_an_own_optimizer_did_not_read(tmp_path, kind, left_out):
    model, processor = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer) if kind == "schedule" else None
    own = {"optimizers": (optimizer, schedule)}
    if kind in (None, "class"):
        own = {} if kind is None else {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.01})}
    trainer = ChartQATrainer(
        model, arguments(tmp_path), train_dataset=drawn_charts(), processing_class=processor, **own
    )
    trainer._describe(tmp_path, kind="full", token=None, include_images=False)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    shown = {"learning_rate", "optim", "weight_decay", "lr_scheduler_type", "warmup_steps", "max_steps"}
    assert {name for name in shown if f"| {name} |" in card} == shown - left_out
    name = {None: "none", "schedule": "SGD with ConstantLR"}.get(kind, "SGD")
    assert (f"| optimizer | {name}, from the training script |" in card) is (kind is not None)
