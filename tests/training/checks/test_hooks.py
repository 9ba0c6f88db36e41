"""Methods that a subclass overrides, and functions that it passes: they are used, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from torch.utils.data import DataLoader

from chartqa_ft import ChartQATrainer, adapter_for

from ...support.common import Gradients, arguments, drawn_charts, relative_l2, tiny, trainer


def subclass_trainer(kind, folder, **changes):
    model, processor = tiny()
    own = {key: changes.pop(key) for key in ("callbacks", "eval_dataset", "compute_metrics") if key in changes}
    return kind(model, arguments(folder, **changes), train_dataset=drawn_charts(), processing_class=processor, **own)


class OutputsLoss(ChartQATrainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class TwiceTheLoss(ChartQATrainer):
    def compute_loss(self, model, inputs, *args, **kwargs):
        return 2 * super().compute_loss(model, inputs, *args, **kwargs)


@pytest.mark.parametrize(("rows", "accumulation"), [(8, 1), (2, 4)])
def test_a_loss_of_a_subclass_trains_as_the_mean_of_its_batches_and_is_logged(tmp_path, rows, accumulation):
    settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
    settings |= {"group_by_chart": False, "train_sampling_strategy": "sequential"}
    own, exact = Gradients(), Gradients()
    learning = subclass_trainer(OutputsLoss, tmp_path / "a", callbacks=[own], **settings)
    learning.train()
    trainer(tmp_path / "b", callbacks=[exact], **settings).train()
    logged = [entry["loss"] for entry in learning.state.log_history if "loss" in entry]
    assert logged[0] > 1  # not the sum of answer tokens that nobody counted, 0
    # One batch: the same gradient. Several: the mean of means, of about the same length (not four times as long).
    assert relative_l2(own.vector, exact.vector) < (1e-5 if accumulation == 1 else 0.3)


def test_what_a_subclass_adds_to_the_loss_is_logged(tmp_path):
    class Watched(ChartQATrainer):
        def training_step(self, *args, **kwargs):
            return super().training_step(*args, **kwargs).detach() / 2

    settings = {"max_steps": 2, "learning_rate": 0.0}
    logs = {}
    for kind in (ChartQATrainer, TwiceTheLoss, Watched):
        run = subclass_trainer(kind, tmp_path / kind.__name__, **settings)
        run.train()
        losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
        logs[kind] = [*losses, run.state.log_history[-1]["train_loss"]]
    plain = logs[ChartQATrainer]
    assert logs[Watched] == plain  # what is returned after the backward pass is not what is trained
    assert logs[TwiceTheLoss][:2] == pytest.approx([2 * loss for loss in plain[:2]], rel=1e-5)
    assert logs[TwiceTheLoss][2] == pytest.approx(sum(logs[TwiceTheLoss][:2]) / 2, rel=1e-5)


def test_batches_are_counted_once_however_often_their_loss_is_computed(tmp_path):
    class Twice(ChartQATrainer):
        def compute_loss(self, *args, **kwargs):
            return (super().compute_loss(*args, **kwargs) + super().compute_loss(*args, **kwargs)) / 2

    settings = {"max_steps": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    for kind in (Twice, TwiceTheLoss, OutputsLoss):
        folder = tmp_path / kind.__name__
        subclass_trainer(kind, folder, save_strategy="steps", save_steps=1, **settings).train()
        places = [json.loads((folder / f"checkpoint-{n}" / "chartqa_state.json").read_text()) for n in (1, 2)]
        assert [place["batches"] for place in places] == [2, 4]


def test_an_own_loss_gets_one_chart_per_row_unless_it_calls_the_trainers(tmp_path):
    own = subclass_trainer(OutputsLoss, tmp_path)
    batch = next(iter(own.get_train_dataloader()))
    assert len(batch["pixel_values"]) == len(batch["labels"]) == 4
    assert batch["pixel_values"].is_floating_point()
    assert own._collators["eval"].group_by_chart is True
    calling = subclass_trainer(TwiceTheLoss, tmp_path)
    assert calling._collators["train"].group_by_chart is True
    assert (calling.model_accepts_loss_kwargs, own.model_accepts_loss_kwargs) == (True, False)
    with pytest.raises(ValueError, match=r"own compute_loss: inputs hold each chart once, and chart_index says"):
        subclass_trainer(OutputsLoss, tmp_path, group_by_chart=True)


def test_a_best_loss_beside_an_own_loss_is_warned_of(tmp_path):
    best = {"eval_strategy": "epoch", "metric_for_best_model": "eval_loss", "eval_dataset": drawn_charts()}
    (finding,) = subclass_trainer(OutputsLoss, tmp_path, **best).check("train").warnings
    assert finding.name == "compute_loss"
    assert "does not follow the own loss" in str(finding)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_get_train_sampler", "override get_train_dataloader"),
        ("_get_eval_sampler", "override get_eval_dataloader"),
        ("_remove_unused_columns", "override get_train_dataloader or"),
        ("prediction_step", r"must call super\(\).prediction_step"),
        ("evaluation_loop", r"must call super\(\).evaluation_loop"),
        ("get_eval_dataloader", r"must call super\(\).get_eval_dataloader"),
        ("get_test_dataloader", r"must call super\(\).get_test_dataloader"),
    ],
)
def test_an_override_without_effect_is_refused_by_name(tmp_path, name, instead):
    kind = type("Own", (ChartQATrainer,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=rf"{name}.*{instead}" if "super" not in instead else instead):
        subclass_trainer(kind, tmp_path)


def test_overrides_that_are_called_work(tmp_path):
    class Own(ChartQATrainer):
        prepared = 0

        def get_train_dataloader(self):
            return DataLoader(self.train_dataset, batch_size=2, collate_fn=self.data_collator)

        def _prepare_inputs(self, inputs):
            self.prepared += not self.model.training
            return super()._prepare_inputs(inputs)

        def prediction_step(self, model, inputs, *args, **kwargs):
            assert isinstance(inputs, Mapping)
            return super().prediction_step(model, inputs, *args, **kwargs)

    learning = subclass_trainer(Own, tmp_path, eval_dataset=drawn_charts().select(range(4)))
    learning.train()
    assert learning.evaluate()["eval_n"] == 4
    assert learning.prepared == 1


@pytest.mark.parametrize("name", ["data_collator", "args", "compute_loss_func", "compute_loss"])
def test_a_part_that_is_replaced_later_is_refused(tmp_path, name):
    learning = trainer(tmp_path)
    setattr(learning, name, print)
    if name == "args":
        learning.args = arguments(tmp_path)
    with pytest.raises(ValueError, match=name):
        learning.train()
    assert learning.state.global_step == 0


@pytest.mark.parametrize("name", ["adapter", "processing_class"])
def test_a_part_that_others_have_got_is_refused_when_it_is_replaced(tmp_path, name):
    learning, (model, processor) = trainer(tmp_path, eval_dataset=drawn_charts()), tiny()
    setattr(learning, name, processor if name == "processing_class" else adapter_for(model, processor))
    for call in (learning.train, learning.evaluate):
        with pytest.raises(
            ValueError, match=rf"trainer\.{name} was replaced, .*: create a new trainer with {name}=\.\.\."
        ):
            call()


def test_a_model_that_is_replaced_later_is_refused(tmp_path):
    learning, (model, _) = trainer(tmp_path, eval_dataset=drawn_charts().select(range(2))), tiny()
    own, learning.model = learning.model, model
    for call in (learning.train, learning.evaluate):
        with pytest.raises(
            ValueError, match=r"trainer\.model was replaced, .*: create a new trainer with model=\.\.\."
        ):
            call()
    learning.model = own
    assert learning.check().ok


class OwnOptimizer(ChartQATrainer):
    def create_optimizer(self, model=None):
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        return self.optimizer


class PreparedOptimizer(ChartQATrainer):
    def create_optimizer(self, model=None):
        optimizer = super().create_optimizer(model)
        optimizer.param_groups[0]["weight_decay"] = 0.5
        return optimizer


def test_an_own_optimizer_that_would_ignore_the_rates_of_parts_is_refused(tmp_path):
    learning = subclass_trainer(OwnOptimizer, tmp_path, learning_rates={"vision": 1e-5})
    with pytest.raises(ValueError, match=r"learning_rates would not be used by an own create_optimizer"):
        learning.train()
    assert learning.state.global_step == 0
    assert subclass_trainer(OwnOptimizer, tmp_path).check("train").ok
    prepared = subclass_trainer(PreparedOptimizer, tmp_path, learning_rates={"vision": 1e-5})
    prepared.train()
    assert {group["lr"] for group in prepared.optimizer.param_groups} != {prepared.args.learning_rate}
