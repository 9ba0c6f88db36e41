"""Objects given to a trainer are used, stay as they are, or are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import GenerationConfig, TrainerCallback

from chartqa_ft import ChartQATrainer, adapter_for, answer_questions, default_lora_config

from ..support.common import arguments, drawn_charts, tiny, trainer


def test_the_arguments_of_the_user_stay_as_they_are(tmp_path):
    args = arguments(tmp_path, accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}})
    before = copy.deepcopy(args.to_dict())
    model, processor = tiny()
    learning = ChartQATrainer(model, args, train_dataset=drawn_charts(), processing_class=processor)
    learning.train()
    assert args.to_dict() == before
    assert (args.ddp_find_unused_parameters, learning.args.ddp_find_unused_parameters) == (None, False)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}


def test_a_peft_config_of_the_user_stays_as_it_is(tmp_path):
    model, processor = tiny()
    config = default_lora_config(model)
    before = copy.deepcopy(config.to_dict())
    ChartQATrainer(model, arguments(tmp_path), processing_class=processor, peft_config=config)
    assert config.to_dict() == before


def test_a_processor_that_is_not_that_of_the_adapter_is_refused(tmp_path):
    model, processor = tiny()
    adapter = adapter_for(model, processor)
    equal, larger = copy.deepcopy(processor), copy.deepcopy(processor)
    learning = ChartQATrainer(model, arguments(tmp_path), adapter=adapter, processing_class=equal)
    assert learning.processing_class is processor
    larger.image_processor.size = {"height": 128, "width": 128}
    more = copy.deepcopy(processor)
    more.tokenizer.add_tokens(["<new>"])
    for other in (larger, more, processor.tokenizer):
        with pytest.raises(ValueError, match="processing_class is not the processor of adapter"):
            ChartQATrainer(model, arguments(tmp_path), adapter=adapter, processing_class=other)


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({"tokenizer": 1}, TypeError, "no argument tokenizer: pass processing_class"),
        ({"compute_metric": print}, TypeError, "no argument compute_metric: did you mean compute_metrics"),
        ({"max_steps": 3}, TypeError, r"ChartQATrainingArguments\(max_steps=...\)"),
        ({"callbacks": TrainerCallback()}, ValueError, "callbacks must be a list"),
        ({"callbacks": [print]}, ValueError, "no TrainerCallback"),
        ({"train_dataset": "HuggingFaceM4/ChartQA"}, ValueError, "load_chartqa"),
        ({"train_dataset": lambda rows: rows}, ValueError, "makes its own data collator"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(tmp_path, own, error, message):
    model, processor = tiny()
    with pytest.raises(error, match=message):
        ChartQATrainer(model, arguments(tmp_path), processing_class=processor, **own)


def test_classes_of_callbacks_are_created(tmp_path):
    class Count(TrainerCallback):
        steps = 0

        def on_step_end(self, *args, **kwargs):
            Count.steps += 1

    trainer(tmp_path, max_steps=2, callbacks=(Count,)).train()
    assert Count.steps == 2


def test_generation_config_is_used(tmp_path):
    model, _ = tiny()
    ids = model.generation_config.eos_token_id, model.generation_config.decoder_start_token_id
    config = GenerationConfig(max_new_tokens=6, num_beams=1, min_new_tokens=2)
    records = drawn_charts().select(range(3))
    answering = trainer(tmp_path, model=model, eval_dataset=records, generation_config=config)
    assert answering.decoding() == {"max_new_tokens": 6, "num_beams": 1, "min_new_tokens": 2}
    answering.evaluate()
    assert answering.scores[0].decoding == answering.decoding()
    kept = answering.model.generation_config
    assert (kept.min_new_tokens, kept.eos_token_id, kept.decoder_start_token_id) == (2, *ids)
    assert config.to_diff_dict().keys() == {"max_new_tokens", "num_beams", "min_new_tokens", "transformers_version"}


def test_texts_that_end_answers_end_those_of_evaluations(tmp_path):
    records = drawn_charts().select(range(3))
    others = [[token] for text, token in tiny()[1].tokenizer.get_vocab().items() if text not in list("0123456789")]
    shared = {"max_new_tokens": 6, "min_new_tokens": 6, "bad_words_ids": others}
    found = []
    for number, settings in enumerate([{}, {"stop_strings": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}]):
        config = GenerationConfig(**shared, **settings)
        answering = trainer(tmp_path / str(number), model=tiny()[0], eval_dataset=records, generation_config=config)
        found.append([len(text) for text in answering.predict(records).predictions])
    assert found == [[6, 6, 6], [1, 1, 1]]


def test_a_function_of_allowed_tokens_gets_the_number_of_the_record(tmp_path):
    answering, records = trainer(tmp_path), drawn_charts().select(range(5))
    digits = [answering.adapter.tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(5)]
    settings = {"prefix_allowed_tokens_fn": lambda number, ids: [digits[number]], "max_new_tokens": 1}
    assert answering.predict(records, **settings).predictions.tolist() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token_id": 7}, r"set model.generation_config.eos_token_id"),
        ({"num_beams": 3}, "num_beams=3, and generation_num_beams is 2"),
        ({"max_length": 20}, "takes no max_length=20"),
        ({"num_return_sequences": 2, "num_beams": 2}, "num_return_sequences=2"),
        ({"min_length": 20}, "takes no min_length=20.*min_new_tokens"),
        (
            {"prompt_lookup_num_tokens": 3},
            "one question at a time: set per_device_eval_batch_size=1",
        ),
        ({"penalty_alpha": 0.5}, "takes no penalty_alpha=0.5"),
        ({"sequence_bias": {}}, "sequence_bias={} cannot be used"),
    ],
)
def test_a_generation_config_that_contradicts_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, generation_config=GenerationConfig(**config), generation_num_beams=2)


def test_settings_of_one_evaluation_do_not_reach_the_next(tmp_path):
    records = drawn_charts().select(range(2))
    answering = trainer(tmp_path, eval_dataset=records)
    plain = answering.decoding()
    answering.predict(records, num_beams=3)
    assert answering.decoding() == plain
    with pytest.raises(TypeError, match="unknown"):
        answering.evaluate(length_penalti=1.0)
    assert answering.decoding() == plain


def test_answering_restores_the_mode_of_each_module():
    model, processor = tiny()
    model.train()
    model.encoder.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    answer_questions(model, processor, drawn_charts()[0]["image"], ["How many?"], max_new_tokens=2)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert set(modes.values()) == {True, False}


def test_predictions_are_named_by_the_step_of_the_weights(tmp_path):
    scores = iter([0.9, 0.1, 0.5, 0.5])
    learning = trainer(
        tmp_path,
        eval_dataset=drawn_charts().select(range(4)),
        max_steps=2,
        learning_rate=5e-2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        compute_metrics=lambda prediction: {"relaxed_accuracy": next(scores)},
    )
    learning.train()
    folder = tmp_path / "predictions"
    last = (folder / "eval-step-2.jsonl").read_bytes()
    learning.evaluate()
    learning.predict(drawn_charts().select(range(2)))
    assert (folder / "eval-step-2.jsonl").read_bytes() == last
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["eval-step-1.jsonl", "eval-step-2.jsonl", "test-step-1.jsonl"]


def test_an_eval_subset_needs_no_source(tmp_path):
    records = drawn_charts().remove_columns("source")
    learning = trainer(tmp_path, eval_dataset=records, eval_subset=3, eval_strategy="steps", eval_steps=1)
    learning.train()
    assert [entry["eval_n"] for entry in learning.state.log_history if "eval_n" in entry] == [3]


def test_arguments_of_the_loader_reach_it(tmp_path):
    loader = trainer(tmp_path, dataloader_pin_memory=False, use_cpu=True).get_train_dataloader()
    assert (loader.pin_memory, loader.num_workers) == (False, 0)


def test_arguments_written_for_text_models_are_refused(tmp_path):
    noisy = trainer(tmp_path, neftune_noise_alpha=5.0, include_num_input_tokens_seen="all")
    assert [finding.name for finding in noisy.check("train").errors] == ["include_num_input_tokens_seen"]
    noisy.model.get_input_embeddings = lambda: noisy.model.encoder.embeddings.patch_embeddings.projection
    assert "neftune_noise_alpha" in [finding.name for finding in noisy.check("train").errors]


def test_a_model_of_model_init_is_trained_anew_by_each_call(tmp_path):
    model, processor = tiny()
    asked = []

    def init(trial):
        asked.append(trial)
        return copy.deepcopy(model)

    learning = ChartQATrainer(
        model_init=init,
        args=arguments(tmp_path, max_steps=2),
        train_dataset=drawn_charts(),
        processing_class=processor,
        peft_config=default_lora_config(model),
    )
    learning.train()
    first = {name: value.clone() for name, value in learning.model.state_dict().items() if "lora_B" in name}
    learning.train()
    again = learning.model.state_dict()
    assert asked == [None] * 3
    assert all(torch.equal(again[name], value) and value.any() for name, value in first.items())
    with pytest.raises(ValueError, match="returned None"):
        ChartQATrainer(model_init=lambda: None, args=arguments(tmp_path), processing_class=processor)
