"""Hyperparameter search, with Optuna and with a backend of the test in its place."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import optuna
import pytest
from transformers import integrations
from transformers import trainer as upstream
from transformers.trainer_utils import BestRun, HPSearchBackend

from chartqa_ft import ChartQATrainer, ChartQATrainingArguments
from chartqa_ft.training.search import search_objective

from ..support.common import arguments, drawn_charts, tiny


class Backend:
    """Runs its trials one after the other, as Optuna's does without pruning."""

    rates = (1e-3, 5e-2)

    def ensure_available(self):
        pass

    def run(self, trainer, n_trials, direction, **kwargs):
        runs = []
        for number, rate in enumerate(self.rates[:n_trials]):
            trainer.objective = None
            trainer.train(trial=SimpleNamespace(number=number, params={"rate": rate}))
            runs.append(BestRun(direction, trainer.compute_objective(trainer.evaluate()), {}))
            trainer.model = trainer.model_wrapped = None  # as the backend of Optuna does, to free their memory
        return runs


@pytest.fixture
def searching(tmp_path, monkeypatch):
    monkeypatch.setitem(upstream.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Backend)
    monkeypatch.setattr(integrations, "hp_params", lambda trial: trial.params)
    model, processor = tiny()
    return ChartQATrainer(
        model_init=lambda: copy.deepcopy(model),
        args=arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1, metric_for_best_model="loss"),
        train_dataset=drawn_charts(),
        eval_dataset=drawn_charts().select(range(4)),
        processing_class=processor,
    )


def test_each_trial_has_its_arguments_and_a_folder_of_its_own(searching, tmp_path):
    def space(trial):
        return {"learning_rate": trial.params["rate"], "per_device_train_batch_size": 2, "group_by_chart": False}

    before = searching.args.to_dict()
    runs = searching.hyperparameter_search(space, n_trials=2, backend="optuna")
    assert [run.run_id for run in runs] == ["minimize"] * 2
    assert runs[0].objective != runs[1].objective
    assert runs[0].objective == pytest.approx(5.5, abs=2)
    for number in range(2):
        folder = tmp_path / f"run-{number}"
        assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
        assert (folder / "checkpoint-2" / "chartqa_state.json").is_file()
        assert [path.name for path in (folder / "predictions").iterdir()] == ["eval-step-2.jsonl"]
    assert not list(tmp_path.glob("checkpoint-*"))
    assert searching.args.to_dict() == before
    assert searching._collators["train"].group_by_chart is False  # as the last trial wanted


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat, which is no training argument"),
        ({"num_train_epochs": 2}, "num_train_epochs, which max_steps=2 overrides"),
        ({"weight_decay": -1.0}, "weight_decay must be a number of at least 0, got -1.0"),
        ({"output_dir": "elsewhere"}, "output_dir, which trials cannot change"),
    ],
)
def test_an_argument_that_a_trial_cannot_use_is_refused(searching, space, message):
    with pytest.raises(ValueError, match=message):
        searching.hyperparameter_search(lambda trial: space, n_trials=1, backend="optuna")
    assert searching.state.global_step == 0


def test_a_search_without_model_init_is_refused(tmp_path):
    model, processor = tiny()
    with pytest.raises(ValueError, match="pass model_init, not model"):
        ChartQATrainer(model, arguments(tmp_path), processing_class=processor).hyperparameter_search()


def test_the_objective_is_that_of_the_best_model(tmp_path):
    args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="'minimize' would choose the worst eval_relaxed_accuracy"):
        search_objective(args, None, {"direction": "minimize"})
    assert search_objective(args, max, {"direction": "minimize"}) == (max, {"direction": "minimize"})


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("own", max)])
def test_optuna_returns_the_trial_that_a_training_with_its_values_repeats(tmp_path, metric, best):
    model, processor = tiny()
    records = drawn_charts().select(range(6))

    def start(folder, **changes):
        return ChartQATrainer(
            model_init=lambda: copy.deepcopy(model),
            args=arguments(folder, max_steps=2, metric_for_best_model=metric, **changes),
            train_dataset=records,
            eval_dataset=records,
            processing_class=processor,
            compute_metrics=lambda _: {"own": next(values)},
        )

    def space(trial):
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        return {"learning_rate": rate, "learning_rates": {"vision": trial.suggest_float("vision", 1e-6, 1e-4)}}

    values = iter([0.2, 0.9, 0.4])
    search = start(tmp_path / "search")
    before = search.args.to_dict()
    study = {"study_name": "rates", "storage": optuna.storages.InMemoryStorage()}
    run = search.hyperparameter_search(
        space, n_trials=3, backend="optuna", sampler=optuna.samplers.RandomSampler(seed=0), **study
    )
    trials = optuna.load_study(**study).trials
    objectives = [trial.value for trial in trials]
    assert len(set(objectives)) == 3
    assert run.objective == best(objectives)
    assert run.hyperparameters == trials[int(run.run_id)].params
    assert (run.run_id == "1") is (metric == "own" or objectives[1] == min(objectives))
    assert search.args.to_dict() == before
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == [f"run-{number}" for number in range(3)]

    if metric == "loss":
        found, values = run.hyperparameters, iter([0.0])
        again = start(tmp_path / "again", learning_rate=found["rate"], learning_rates={"vision": found["vision"]})
        again.train()
        assert again.evaluate()["eval_loss"] == run.objective


def test_frozen_parts_cannot_differ_between_trials(searching):
    with pytest.raises(ValueError, match="hp_space has freeze, which trials cannot change"):
        searching.hyperparameter_search(lambda trial: {"freeze": ["vision"]}, n_trials=1, backend="optuna")
    rates = {"learning_rates": {"projector": 1e-3}}
    with pytest.raises(ValueError, match=r"learning_rates has 'projector', which .* lacks: its parts are vision and"):
        searching.hyperparameter_search(lambda trial: rates, n_trials=1, backend="optuna")
