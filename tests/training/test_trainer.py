"""The trainer around the exact parts: metrics and files of an evaluation, best checkpoint, refusals, what is saved."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, EarlyStoppingCallback, HfArgumentParser

from chartqa_ft import ChartQATrainer, load_checkpoint, read_predictions, relaxed_accuracy
from chartqa_ft.adapters import adapter_for
from chartqa_ft.data.splitting import stratified_subset
from chartqa_ft.evaluation.scoring import each_row_once, score_rows
from chartqa_ft.training.arguments import RECIPE_STEPS, ChartQATrainingArguments
from chartqa_ft.training.running_loss import RunningLoss, last_checkpoint

from ..support.common import arguments, drawn_charts, run, tiny, trainer


# ---------------------------------------------------------------------- evaluation
def test_evaluation_has_the_metrics_of_its_predictions_file(tmp_path):
    records = drawn_charts()
    evaluated = trainer(tmp_path, eval_dataset=records, per_device_eval_batch_size=5)
    metrics = evaluated.evaluate()
    rows = read_predictions(tmp_path / "predictions" / "eval-step-0.jsonl")
    assert [row["index"] for row in rows] == list(range(len(records)))
    for key in ("question", "answer", "source", "chart_id"):
        assert [row[key] for row in rows] == list(records[key])
    again = relaxed_accuracy(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        sources=[row["source"] for row in rows],
    )
    assert {key: metrics[f"eval_{key}"] for key in again} == again
    assert metrics["eval_n_human"] + metrics["eval_n_augmented"] == len(records)
    assert 0 <= metrics["eval_relaxed_accuracy"] <= 1
    assert metrics["eval_loss"] > 0


def test_an_absent_source_gives_no_key(tmp_path):
    records = drawn_charts().filter(lambda source: source == "human", input_columns="source")
    metrics = trainer(tmp_path, eval_dataset=records).evaluate()
    assert metrics["eval_n_human"] == len(records)
    assert not [key for key in metrics if "augmented" in key or "mean_of_splits" in key]
    assert not any(math.isnan(value) for value in metrics.values())


def test_a_dict_of_data_sets_is_evaluated_by_name(tmp_path):
    parts = {"easy": drawn_charts().select(range(4)), "hard": drawn_charts().select(range(4, 9))}
    both = trainer(tmp_path, eval_dataset=parts)
    metrics = both.evaluate()
    assert (metrics["eval_easy_n"], metrics["eval_hard_n"]) == (4, 5)
    assert both.evaluate("hard")["eval_n"] == 5
    assert (tmp_path / "predictions" / "eval_easy-step-0.jsonl").is_file()


def test_predict_answers_records_without_answers(tmp_path):
    with_answers = drawn_charts().select(range(5))
    without = with_answers.remove_columns("answer")
    answering = trainer(tmp_path)
    output, blind = answering.predict(with_answers), answering.predict(without)
    assert list(output.predictions) == list(blind.predictions)
    assert list(output.label_ids) == list(with_answers["answer"])
    assert "test_relaxed_accuracy" in output.metrics
    assert not [key for key in blind.metrics if "relaxed" in key or "loss" in key]
    rows = read_predictions(tmp_path / "predictions" / "test-step-0.jsonl")
    assert [row["correct"] for row in rows] == [None] * 5


def test_own_metrics_get_answers_and_references_as_text(tmp_path):
    seen = {}

    def lengths(prediction):
        seen["answers"], seen["references"] = prediction
        return {"mean_length": 3.5, "eval_kept": 1.0}

    records = drawn_charts().select(range(4))
    metrics = trainer(tmp_path, eval_dataset=records, compute_metrics=lengths).evaluate()
    assert metrics["eval_mean_length"] == 3.5
    assert metrics["eval_kept"] == 1.0
    assert seen["references"] == list(records["answer"])
    assert all(isinstance(answer, str) for answer in seen["answers"])


def test_loss_alone_without_generation(tmp_path):
    metrics = trainer(tmp_path, eval_dataset=drawn_charts(), predict_with_generate=False).evaluate()
    assert "eval_loss" in metrics
    assert not [key for key in metrics if "relaxed" in key]


def test_evaluations_while_training_take_the_subset_and_others_the_whole(tmp_path):
    records = drawn_charts()
    subset = trainer(
        tmp_path,
        eval_dataset=records,
        eval_subset=6,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
    )
    subset.train()
    logged = next(entry for entry in subset.state.log_history if "eval_n" in entry)
    assert logged["eval_n"] == 6
    chosen = stratified_subset(records, 6, seed=subset.args.seed)
    rows = read_predictions(tmp_path / "predictions" / "eval-step-1.jsonl")
    assert [row["question"] for row in rows] == list(chosen["question"])
    assert [records["question"][row["index"]] for row in rows] == list(chosen["question"])
    assert max(row["index"] for row in rows) > 6
    assert subset.evaluate()["eval_n"] == len(records)


def test_beams_and_lengths_of_one_evaluation(tmp_path):
    records = drawn_charts().select(range(4))
    model, _ = tiny()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    answering = trainer(tmp_path, model=model, eval_dataset=records)
    greedy = list(answering.predict(records).predictions)
    assert list(answering.predict(records, num_beams=4).predictions) != greedy
    assert list(answering.predict(records, max_new_tokens=1).predictions) != greedy
    assert list(answering.predict(records).predictions) == greedy


def test_streams_train_and_evaluate_as_their_data_set(tmp_path):
    records = drawn_charts().select(range(10))
    stream = records.to_iterable_dataset()
    plain = trainer(tmp_path / "a", eval_dataset=records, per_device_eval_batch_size=4)
    streamed = trainer(
        tmp_path / "b", records=stream, eval_dataset=stream, per_device_eval_batch_size=4, dataloader_num_workers=2
    )
    wanted, metrics = plain.evaluate(), streamed.evaluate()
    assert metrics["eval_n"] == 10
    same = [key for key in wanted if not key.endswith(("_time", "runtime", "second", "eval_loss"))]
    assert {key: metrics[key] for key in same} == {key: wanted[key] for key in same}
    assert metrics["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-6)
    assert streamed.train().training_loss > 0


# ---------------------------------------------------------------------- training
def test_training_learns_and_moves_every_parameter(tmp_path):
    model, _ = tiny()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    learning = trainer(
        tmp_path,
        model=model,
        eval_dataset=drawn_charts().select(range(6)),
        max_steps=30,
        learning_rate=3e-3,
        per_device_train_batch_size=8,
        random_padding=True,
    )
    start = learning.evaluate()["eval_loss"]
    learning.train()
    assert learning.evaluate()["eval_loss"] < start - 1
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


def test_best_checkpoint_is_that_of_relaxed_accuracy(tmp_path):
    scores = iter([0.2, 0.6, 0.4, 0.1])
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(4)),
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        compute_metrics=lambda prediction: {"relaxed_accuracy": next(scores)},
    )
    learning.train()
    assert learning.args.metric_for_best_model == "relaxed_accuracy"
    assert learning.args.greater_is_better is True
    assert learning.state.best_metric == 0.6
    assert learning.state.best_model_checkpoint.endswith("checkpoint-2")
    best = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(value, learning.model.state_dict()[key]) for key, value in best.items())


def test_early_stopping(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(4)),
        max_steps=6,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        compute_metrics=lambda prediction: {"relaxed_accuracy": next(scores)},
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    learning.train()
    assert learning.state.global_step == 3


def test_bfloat16_on_the_cpu_trains(tmp_path):
    learning = trainer(tmp_path, bf16=True, max_steps=2, eval_dataset=drawn_charts().select(range(4)))
    assert learning.args.precision == "bf16"
    exact = trainer(tmp_path / "b", max_steps=2)
    assert learning.train().training_loss == pytest.approx(exact.train().training_loss, rel=2e-2)
    assert learning.evaluate()["eval_n"] == 4


def test_a_lora_config_trains_and_saves_the_adapter_alone(tmp_path):
    from peft import LoraConfig

    model, processor = tiny()
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    records = drawn_charts().select(range(6))
    learning = ChartQATrainer(
        str(tmp_path / "base"),
        arguments(tmp_path / "lora", max_steps=3, learning_rate=1e-2),
        train_dataset=records,
        eval_dataset=records,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    learning.train()
    trained = [name for name, parameter in learning.model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    learning.save_model()
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    wanted = list(learning.predict(records).predictions)
    for merge in (False, True):
        model, processor, adapter = load_checkpoint(tmp_path / "lora", merge=merge)
        again = ChartQATrainer(model, arguments(tmp_path / "again"), processing_class=processor, adapter=adapter)
        assert list(again.predict(records).predictions) == wanted


def test_running_loss_goes_on_after_a_resume(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "logging_steps": 4, "random_padding": True}
    unbroken = trainer(tmp_path / "a", **settings)
    wanted = unbroken.train()
    resumed = trainer(tmp_path / "a", **settings)
    output = resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert output.training_loss == wanted.training_loss
    losses = [[entry["loss"] for entry in r.state.log_history if "loss" in entry] for r in (unbroken, resumed)]
    assert losses[0] == losses[1]
    for name, parameter in unbroken.model.state_dict().items():
        assert torch.equal(parameter, resumed.model.state_dict()[name]), name


# ---------------------------------------------------------------------- what is saved
def test_saved_files_hold_no_pickle_of_arguments_and_no_token(tmp_path):
    secret = "hf_averysecrettoken"
    learning = trainer(tmp_path, save_strategy="steps", save_steps=1, hub_token=secret)
    learning.train()
    learning.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        assert not (folder / "training_args.bin").exists()
        assert (folder / "model.safetensors").is_file()
        saved = json.loads((folder / "training_args.json").read_text())
        assert saved["learning_rate"] == 1e-3
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_the_prompt_is_saved_and_used_again(tmp_path):
    model, processor = tiny()
    prompt = "Question: {question} <s_answer>"
    learning = trainer(tmp_path, model=model, adapter=adapter_for(model, processor, prompt=prompt, max_length=60))
    learning.save_model()
    settings = json.loads((tmp_path / "chartqa_config.json").read_text())
    assert settings["prompt"] == prompt
    assert settings["metric_variant"] == "pix2struct"
    assert settings["versions"]["torch"] == torch.__version__
    _, _, adapter = load_checkpoint(tmp_path)
    assert (adapter.prompt, adapter.max_length) == (prompt, 60)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    found = adapter_for(*plain)
    assert (found.prompt, found.max_length) == (prompt, 60)
    again = ChartQATrainer(str(tmp_path), arguments(tmp_path / "again"), processing_class=plain[1])
    assert again.adapter.prompt == prompt
    _, _, other = load_checkpoint(tmp_path, prompt="{question} <s_answer>")
    assert other.prompt == "{question} <s_answer>"


def test_a_model_that_could_not_be_saved_is_refused_before_training(tmp_path):
    model, _ = tiny()
    model.config.num_beams = 4
    with pytest.raises(ValueError, match="this model could not be saved after training"):
        trainer(tmp_path, model=model)


def test_unfinished_checkpoints_are_passed_over(tmp_path, caplog):
    assert last_checkpoint(tmp_path) is None
    for step, finished in ((5, True), (20, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if finished:
            (tmp_path / f"checkpoint-{step}" / "chartqa_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-20")
    assert "checkpoint-100 was not written to its end" in caplog.text
    with pytest.raises(ValueError, match="no complete checkpoint in"):
        trainer(tmp_path / "empty").train(resume_from_checkpoint=True)


def test_missing_checkpoints_and_folders_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json or adapter_config\.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_checkpoint(tmp_path / "nowhere")


# ---------------------------------------------------------------------- arguments
def test_defaults_are_the_official_recipe(tmp_path):
    args = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert args.max_steps == RECIPE_STEPS == 40_000
    assert args.learning_rate == 5e-5
    assert args.lr_scheduler_type == "cosine"
    assert args.warmup_steps == 100
    assert args.max_grad_norm == 1.0
    assert args.weight_decay == 0.0
    assert args.per_device_train_batch_size == 8
    assert args.generation_num_beams == 4
    assert args.predict_with_generate is True
    assert args.precision == "fp32"
    epochs = ChartQATrainingArguments(output_dir=str(tmp_path), use_cpu=True, num_train_epochs=2)
    assert (epochs.max_steps, epochs.num_train_epochs) == (-1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remove_unused_columns": True}, "remove_unused_columns=True would drop"),
        ({"generation_max_length": 20}, "use generation_max_new_tokens"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics=True cannot"),
        ({"sortish_sampler": True}, "sortish_sampler"),
        ({"train_sampling_strategy": "group_by_length"}, "'group_by_length' is not supported"),
        ({"metric_for_best_model": "relaxed_accuracy", "predict_with_generate": False}, "needs predict_with_generate"),
        ({"generation_max_new_tokens": 0}, "must be at least 1, got 0"),
        ({"eval_subset": -1.0}, "eval_subset must be"),
        ({"eval_subset": 1.5}, "eval_subset must be"),
        ({"logging_nan_inf_filter": True}, "logging_nan_inf_filter=True would"),
        ({"save_total_limit": 1}, "save_total_limit=1 deletes the last whole checkpoint"),
        ({"prediction_loss_only": True}, "use predict_with_generate=False"),
        ({"include_for_metrics": ["inputs"]}, "include_for_metrics is not supported"),
        ({"hub_create_pr": True, "hub_strategy": "every_save"}, "would open a pull request for every save"),
        ({"hub_create_pr": True, "hub_model_id": "model"}, "needs hub_model_id='owner/name'"),
        ({"eval_subset": 2, "eval_dataset": [{"question": "?"}]}, "eval_subset needs a datasets.Dataset"),
        ({"predict_with_generate": False, "compute_metrics": print}, "it needs predict_with_generate=True"),
        ({"fp16": True, "bf16": True}, "exclude each other"),
        ({"fp16": True}, "fp16 does nothing on this device"),
        ({"load_best_model_at_end": True, "save_strategy": "best"}, "load_best_model_at_end needs evaluations"),
        ({"auto_find_batch_size": True}, "choose per_device_train_batch_size"),
    ],
)
def test_wrong_combinations_say_what_to_do(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **changes)


BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
}


def test_a_best_metric_that_no_evaluation_has_is_refused_before_training(tmp_path):
    records = drawn_charts().select(range(4))
    with pytest.raises(ValueError, match="no evaluation has metric_for_best_model='relaxed_acuracy'"):
        trainer(tmp_path, eval_dataset=records, metric_for_best_model="relaxed_acuracy", **BEST)
    parts = {"easy": records, "hard": records}
    with pytest.raises(ValueError, match="must say of which data set: easy_relaxed_accuracy, hard_relaxed_accuracy"):
        trainer(tmp_path, eval_dataset=parts, **BEST)
    learning = trainer(tmp_path, eval_dataset=parts, metric_for_best_model="eval_hard_relaxed_accuracy_human", **BEST)
    learning.train()
    assert learning.state.best_model_checkpoint.endswith("checkpoint-1")
    trainer(tmp_path / "without", eval_dataset=parts, eval_strategy="steps", eval_steps=1).train()


def test_precision_of_the_launcher_is_honoured_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert arguments(tmp_path).precision == "bf16"
    with pytest.raises(ValueError, match="accelerate was started with --mixed_precision bf16"):
        arguments(tmp_path, bf16=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="fp16 does nothing on this device"):
        arguments(tmp_path)


def test_flags_that_may_be_unset_work_bare_and_with_a_value(tmp_path):
    parser = HfArgumentParser(ChartQATrainingArguments)
    line = ["--output_dir", str(tmp_path), "--use_cpu"]
    (args,) = parser.parse_args_into_dataclasses([*line, "--bf16", "--group_by_chart", "False", "--random_padding"])
    assert (args.bf16, args.group_by_chart, args.random_padding) == (True, False, True)
    (args,) = parser.parse_args_into_dataclasses(line)
    assert (args.bf16, args.group_by_chart, args.random_padding) == (False, None, None)


def test_several_gpus_in_one_process_are_refused_with_the_line_to_use(tmp_path, monkeypatch):
    monkeypatch.setattr(ChartQATrainingArguments, "n_gpu", property(lambda self: 3))
    with pytest.raises(ValueError, match=r"accelerate launch --multi_gpu --num_processes 3"):
        arguments(tmp_path)


@pytest.mark.parametrize("name", ["compute_loss_func", "model_init", "preprocess_logits_for_metrics", "data_collator"])
def test_arguments_that_would_be_ignored_are_refused(tmp_path, name):
    model, processor = tiny()
    with pytest.raises(ValueError, match=f"takes no {name}"):
        ChartQATrainer(model, arguments(tmp_path), processing_class=processor, **{name: lambda *a: None})


def test_missing_parts_say_so(tmp_path):
    model, processor = tiny()
    with pytest.raises(ValueError, match="a loaded model needs its processor"):
        ChartQATrainer(model, arguments(tmp_path))
    bare = ChartQATrainer(model, arguments(tmp_path), processing_class=processor)
    with pytest.raises(ValueError, match="training needs a train_dataset"):
        bare.train()
    with pytest.raises(ValueError, match="evaluation needs an eval_dataset"):
        bare.evaluate()


# ---------------------------------------------------------------------- rows and running loss
def test_rows_are_counted_once_and_in_order():
    rows = [{"index": i, "x": x} for i, x in [(2, "c"), (-1, "filler"), (0, "a"), (2, "c"), (1, "b")]]
    assert [row["x"] for row in each_row_once(rows)] == ["a", "b", "c"]


def test_scores_weigh_tokens_and_not_rows():
    row = {"answer": "1", "source": None}
    rows = [
        {**row, "prediction": "1", "loss_sum": 6.0, "tokens": 3},
        {**row, "prediction": "2", "loss_sum": 1.0, "tokens": 1},
    ]
    metrics = score_rows(rows, variant="pix2struct")
    assert metrics["loss"] == 1.75
    assert metrics["relaxed_accuracy"] == 0.5
    assert [row["correct"] for row in rows] == [1.0, 0.0]
    assert score_rows([], variant="pix2struct") == {}


def test_rows_without_a_reference_are_left_out_and_zero_is_a_reference(caplog):
    rows = [{"answer": a, "source": "human", "prediction": "0"} for a in (0, "", None, "5")]
    metrics = score_rows(rows, variant="pix2struct")
    assert (metrics["n"], metrics["relaxed_accuracy"]) == (2, 0.5)
    assert [row["correct"] for row in rows] == [1.0, None, None, 0.0]
    assert "2 of 4 questions have no answer" in caplog.text


def test_year_flags_and_question_types_reach_the_metric():
    row = {"answer": "2016", "source": None, "prediction": "2015", "question_type": "Factoid"}
    for flag, verdict in (("YES", 0.0), ("NO", 1.0)):
        metrics = score_rows([{**row, "year_flags": [flag]}], variant="chartqapro")
        assert metrics["relaxed_accuracy"] == metrics["relaxed_accuracy_type_factoid"] == verdict


def test_own_metrics_may_be_numpy_numbers():
    row = {"answer": "1", "source": None, "prediction": "1"}
    metrics = score_rows([row], variant="pix2struct", compute_metrics=lambda p: {"m": np.float32(0.5)})
    assert type(metrics["m"]) is float


def test_running_loss_is_a_mean_over_tokens():
    class OneProcess:
        device = torch.device("cpu")

        @staticmethod
        def reduce(value, reduction):
            assert reduction == "sum"
            return value

    loss = RunningLoss(OneProcess())
    loss.add(torch.tensor(6.0), torch.tensor(3))
    loss.add(torch.tensor(2.0), torch.tensor(1))
    assert loss.since_last_log() == 2.0
    loss.add(torch.tensor(5.0), torch.tensor(1))
    assert loss.since_last_log() == 5.0
    assert loss.since_start() == 2.6
    assert loss.since_last_log() == 0.0


# ---------------------------------------------------------------------- the package
def test_import_is_lazy_and_every_public_name_loads():
    code = (
        "import sys, chartqa_ft; heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'scipy', 'peft'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "[getattr(chartqa_ft, name) for name in chartqa_ft.__all__]; print(len(chartqa_ft.__all__))"
    )
    import sys

    assert int(run([sys.executable, "-c", code], timeout=120).stdout) > 15
    import chartqa_ft

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        chartqa_ft.nothing  # noqa: B018


def test_rows_of_every_step_are_logged_at_debug_level(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, logger="chartqa_ft.training.trainer"):
        trainer(tmp_path, max_steps=2, per_device_train_batch_size=2).train()
    lines = [record.getMessage() for record in caplog.records if " rows " in record.getMessage()]
    assert len(lines) == 2
    assert lines[0].startswith("step 0 rank 0 rows [")
