"""Hyperparameter search, with Optuna and with a backend of the test in its place."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import optuna
import pytest
import torch
from transformers import Seq2SeqTrainingArguments, TrainerCallback, integrations
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
    assert searching._collators["train"].group_by_chart is True  # as the arguments before say
    assert searching.data_collator is searching._collators["train"]


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


@pytest.mark.parametrize("name", ["learning_rate", "optim", "adam_beta1", "weight_decay"])
def test_what_an_own_optimizer_does_not_read_cannot_be_searched(searching, name):
    searching.optimizer_cls_and_kwargs = (torch.optim.SGD, {"lr": 0.01})
    value = getattr(searching.args, name)
    if name == "weight_decay":  # of the groups of parameters, which upstream makes for any optimizer
        assert len(searching.hyperparameter_search(lambda trial: {name: value}, n_trials=1, backend="optuna")) == 1
        return
    with pytest.raises(ValueError, match=f"hp_space has {name}, which optimizer_cls_and_kwargs does not read"):
        searching.hyperparameter_search(lambda trial: {name: value}, n_trials=1, backend="optuna")


def test_a_search_without_model_init_is_refused(tmp_path):
    model, processor = tiny()
    with pytest.raises(ValueError, match="pass model_init, not model"):
        ChartQATrainer(model, arguments(tmp_path), processing_class=processor).hyperparameter_search()


def test_the_objective_is_that_of_the_best_model(tmp_path):
    args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    charts = {"eval_dataset": drawn_charts()}
    with pytest.raises(ValueError, match="'minimize' would choose the worst eval_relaxed_accuracy"):
        search_objective(args, None, {"direction": "minimize"}, **charts)
    assert search_objective(args, max, {"direction": "minimize"}, **charts) == (max, {"direction": "minimize"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_dataset": None}, "scores each trial on eval_dataset: pass one"),
        (
            {"eval_dataset": {"easy": drawn_charts(), "hard": drawn_charts()}},
            "must say of which data set: easy_relaxed_accuracy",
        ),
        ({"metric": "relaxed_acuracy"}, "relaxed_acuracy"),
    ],
)
def test_a_search_without_an_objective_is_refused_before_its_first_trial(tmp_path, changes, message):
    args = ChartQATrainingArguments(str(tmp_path), use_cpu=True, metric_for_best_model=changes.pop("metric", None))
    with pytest.raises(ValueError, match=message):
        search_objective(args, None, {}, **{"eval_dataset": drawn_charts(), **changes})


def test_a_missing_objective_names_the_metrics_of_the_evaluation(tmp_path):
    args = ChartQATrainingArguments(str(tmp_path), use_cpu=True, metric_for_best_model="own")
    objective, _ = search_objective(args, None, {}, eval_dataset=drawn_charts(), own_metrics=True)
    with pytest.raises(ValueError, match="has no eval_own: set metric_for_best_model to one of eval_loss, or pass"):
        objective({"eval_loss": 1.0})


def test_a_trial_starts_from_the_arguments_before_the_search_and_takes_values_as_they_are(searching):
    searching.args.weight_decay = 0
    spaces = [
        {"learning_rate": 1e-3, "learning_rates": '{"vision": 1e-6}', "lr_scheduler_type": "constant"},
        {"warmup_steps": 0.5, "weight_decay": 0.01},
        {"learning_rates": {"language": 1e-4}},
    ]
    seen = []

    def space(trial):
        return spaces[trial.number]

    searching.add_callback(Seen(seen))
    searching._before_search = before = copy.deepcopy(searching.args)
    Backend.rates, rates = (1, 2, 3), Backend.rates
    try:
        searching.hyperparameter_search(space, n_trials=3, backend="optuna")
    finally:
        Backend.rates = rates
    names = ("learning_rate", "learning_rates", "lr_scheduler_type", "warmup_steps", "weight_decay")
    default = {name: getattr(before, name) for name in names}
    assert seen == [
        {**default, **spaces[0], "learning_rates": {"vision": 1e-6}},
        {**default, **spaces[1]},
        {**default, **spaces[2]},
    ]


class Seen(TrainerCallback):
    """Notes the arguments at the beginning of each training."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, args, state, control, **kwargs):
        names = ("learning_rate", "learning_rates", "lr_scheduler_type", "warmup_steps", "weight_decay")
        self.seen.append({name: getattr(args, name) for name in names})


def test_the_model_of_a_trial_is_made_with_the_arguments_of_that_trial(searching):
    """Upstream makes it before it sets them: the seed of a trial would be that of the trial before."""
    spaces = [{"seed": 7, "activation_checkpointing": True}, {"seed": 8}, {"activation_checkpointing": True}]
    spaces = [{searching_name(name): value for name, value in space.items()} for space in spaces]
    made, first = [], searching.model_init

    def model_init():
        made.append(torch.initial_seed())
        return first()

    searching.model_init = model_init
    states = []
    searching.add_callback(Checkpointing(states))
    Backend.rates, rates = (1, 2, 3), Backend.rates
    try:
        searching.hyperparameter_search(lambda trial: spaces[trial.number], n_trials=3, backend="optuna")
    finally:
        Backend.rates = rates
    assert made == [7, 8, searching.args.seed]
    assert states == [True, False, True]


def searching_name(name):
    """The name of an argument before transformers 5.23."""
    return name if hasattr(Seq2SeqTrainingArguments, name) else name.replace("activation", "gradient")


class Checkpointing(TrainerCallback):
    """Notes whether the model recomputes its activations."""

    def __init__(self, states):
        self.states = states

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.states.append(any(getattr(part, "gradient_checkpointing", False) for part in model.modules()))


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


def test_the_settings_of_accumulation_hold_for_trials(tmp_path, monkeypatch):
    """Upstream adds `num_steps` to them for the first accelerator, and refuses it for that of a trial."""
    monkeypatch.setitem(upstream.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Backend)
    monkeypatch.setattr(integrations, "hp_params", lambda trial: trial.params)
    model, processor = tiny()
    searching = ChartQATrainer(
        model_init=lambda: copy.deepcopy(model),
        args=arguments(
            tmp_path,
            max_steps=1,
            gradient_accumulation_steps=2,
            accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        ),
        train_dataset=drawn_charts(),
        eval_dataset=drawn_charts().select(range(2)),
        processing_class=processor,
    )
    runs = searching.hyperparameter_search(
        lambda trial: {"learning_rate": trial.params["rate"]}, n_trials=2, backend="optuna"
    )
    assert len(runs) == 2
    assert searching.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] is True
    assert searching.args.gradient_accumulation_steps == 2
