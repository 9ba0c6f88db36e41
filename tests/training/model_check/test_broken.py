"""`check_model` sees what is wrong: models and adapters are broken on purpose, and the line of the fault fails.

`make test` tries one fault for each line, `make families` all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from transformers import PreTrainedModel

import chartqa_ft.training.saving as trainer_saving
import chartqa_ft.training.trainer as trainer_module
from chartqa_ft import check_model, default_lora_config
from chartqa_ft.training.model_check import cost
from chartqa_ft.training.model_check.report import TITLES

from ...support.families import records
from ...support.family_cases import CHOSEN, ready

torch.set_num_threads(1)

LAST = {"peft_gradients", "saving", "cost"}
Broken = Callable[[Any, Any, Any], Any]
CASES: dict[str, tuple[str, set[str], Broken]] = {}
"""Name -> (family, the lines that must fail, what breaks it)."""


def breaks(family: str, *lines: str) -> Callable[[Broken], Broken]:
    """Register a function of (model, adapter, monkeypatch) that breaks one of them, and may return another model."""

    def register(function: Broken) -> Broken:
        CASES[f"{function.__name__}-{family}"] = (family, set(lines), function)
        return function

    return register


def replace_method(monkeypatch: Any, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace a method of an object or a class by `change(original, ...)`."""
    original = getattr(owner, name)
    if isinstance(owner, type):
        monkeypatch.setattr(owner, name, lambda self, *args, **kwargs: change(original, self, *args, **kwargs))
    else:
        monkeypatch.setattr(owner, name, functools.partial(change, original), raising=False)


# ------------------------------------------------------------------ 1. the training batch
@breaks("llava", "training_batch", "training_logits")
def labels_on_the_prompt(model, adapter, monkeypatch):
    def encode(original, examples, **kwargs):
        batch = original(examples, **kwargs)
        if "labels" in batch:
            for row, labels in enumerate(batch["labels"]):
                before = int((labels != -100).int().argmax()) - 1
                labels[before] = batch["input_ids"][row, before]
        return batch

    replace_method(monkeypatch, adapter, "encode", encode)


@breaks("llava", "training_batch")
@breaks("florence2", "training_batch")
def another_end_token(model, adapter, monkeypatch):
    replace_method(monkeypatch, adapter, "end", lambda original, *args: [*original(*args)[:-1], other])
    other = adapter.tokenizer.convert_tokens_to_ids("7")
    adapter.eos_token_ids |= {other}


@breaks("unichart", "training_batch")
def no_end_token(model, adapter, monkeypatch):
    replace_method(monkeypatch, adapter, "end", lambda original, *args: original(*args)[:-1])


@breaks("llava", "training_batch", "prompt_tokens")
@breaks("unichart", "training_batch", "prompt_tokens")
def lost_question(model, adapter, monkeypatch):
    replace_method(monkeypatch, adapter, "question_text", lambda original, question: original(""))


@breaks("pix2struct", "training_batch")
def question_is_not_drawn(model, adapter, monkeypatch):
    replace_method(monkeypatch, adapter, "with_header", lambda original, image, header: original(image, "Which?"))


@breaks("llava", "training_batch")
def answers_of_other_rows(model, adapter, monkeypatch):
    def encode(original, examples, **kwargs):
        answers = [example["answer"] for example in examples]
        moved = [{**example, "answer": answers[row - 1]} for row, example in enumerate(examples)]
        return original(moved if len(moved) == 3 else examples, **kwargs)

    replace_method(monkeypatch, adapter, "encode", encode)


@breaks("llava", "training_batch")
def model_ignores_the_chart(model, adapter, monkeypatch):
    tower = model.get_encoder(modality="image")
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: (
            tuple(torch.zeros_like(value) for value in args),
            {key: torch.zeros_like(v) if torch.is_tensor(v) else v for key, v in kwargs.items()},
        ),
        with_kwargs=True,
    )


@breaks("llava", "training_batch")
def generation_does_not_stop_at_the_end_token(model, adapter, monkeypatch):
    adapter.eos_token_ids = {adapter.tokenizer.convert_tokens_to_ids("Q")}


@breaks("llava", "training_batch", "prompt_tokens", "training_logits", "shared_charts")
def mask_leaves_out_a_token_of_the_prompt(model, adapter, monkeypatch):
    def encode(original, examples, **kwargs):
        batch = original(examples, **kwargs)
        batch["attention_mask"][:, 2] = 0
        return batch

    replace_method(monkeypatch, adapter, "encode", encode)


# ------------------------------------------------------------------ 2. the prompts
@breaks("trocr", "prompt_tokens", "training_logits", "batched_answers")
def decoder_without_its_start_token(model, adapter, monkeypatch):
    adapter.start = []


@breaks("llava", "prompt_tokens")
def prompt_without_its_first_token(model, adapter, monkeypatch):
    def encode(original, examples, **kwargs):
        names = ("input_ids", "attention_mask", "labels")
        return {key: v[:, 1:] if key in names else v for key, v in original(examples, **kwargs).items()}

    replace_method(monkeypatch, adapter, "encode", encode)


@breaks("qwen2_5_vl", "prompt_tokens")
@breaks("pix2struct", "prompt_tokens")
def other_pixels(model, adapter, monkeypatch):
    def encode(original, examples, **kwargs):
        names = ("pixel_values", "flattened_patches")
        return {key: v * 0.5 if key in names else v for key, v in original(examples, **kwargs).items()}

    replace_method(monkeypatch, adapter, "encode", encode)


# ------------------------------------------------------------------ 3. training logits
@breaks("llava", "training_logits")
def another_model_in_training_mode(model, adapter, monkeypatch):
    def hook(module, args):
        return (args[0] + 0.01 * args[0].roll(1, dims=-1),) if module.training else None

    model.get_output_embeddings().register_forward_pre_hook(hook)


@breaks("unichart", "training_logits")
def generation_scales_logits(model, adapter, monkeypatch):
    generate = model.generate

    def scaled(*args, logits_processor=(), **kwargs):
        return generate(*args, logits_processor=[lambda ids, scores: scores * 1.01, *logits_processor], **kwargs)

    monkeypatch.setattr(model, "generate", scaled, raising=False)


@breaks("llava", "training_logits")
def generation_never_writes_an_answer(model, adapter, monkeypatch):
    answer = adapter.encode(records(3))["labels"][0]
    model.generation_config.suppress_tokens = [int(answer[answer != -100][0])]


@breaks("trocr", "training_logits")
def labels_moved_once_more(model, adapter, monkeypatch):
    replace_method(monkeypatch, adapter, "label_mask", lambda original, labels: original(labels).roll(-1, dims=1))


# ------------------------------------------------------------------ 4. answers in a batch
@breaks("kosmos2", "batched_answers")
def left_padding(model, adapter, monkeypatch):
    monkeypatch.setattr(type(adapter), "pads_prompts", True)


@breaks("llava", "batched_answers")
@breaks("qwen3_vl", "batched_answers")
def generation_ignores_the_attention_mask(model, adapter, monkeypatch):
    def call_arguments(original, *args):
        calls = original(*args)
        return {**calls, "attention_mask": torch.ones_like(calls["attention_mask"])}

    replace_method(monkeypatch, adapter, "call_arguments", call_arguments)


@breaks("unichart", "batched_answers")
def prompts_padded_to_one_length(model, adapter, monkeypatch):
    longest = lambda original, batch: [max(original(batch))] * len(original(batch))  # noqa: E731
    replace_method(monkeypatch, adapter, "prompt_lengths", longest)


# ------------------------------------------------------------------ 5. gradients
@breaks("llava", "gradients")
@breaks("pix2struct", "gradients")
def mean_of_batch_means(model, adapter, monkeypatch):
    monkeypatch.setattr(trainer_module, "loss_of_batch", lambda losses, count, processes: losses.mean())


@breaks("unichart", "gradients")
def rows_of_a_batch_weigh_less(model, adapter, monkeypatch):
    def loss(original, losses, count, processes):
        return original(losses, count, processes) / max(count, 1) * losses.numel() ** 0.5

    replace_method(monkeypatch, trainer_module, "loss_of_batch", loss)


# ------------------------------------------------------------------ 6. shared charts
@breaks("llava", "shared_charts")
def packed_questions_see_each_other(model, adapter, monkeypatch):
    def packed(original, batch):
        found = original(batch)
        length = found["input_ids"].shape[1]
        if found["attention_mask"].dim() == 4:
            found["attention_mask"] = torch.ones(length, length).tril().bool().expand_as(found["attention_mask"])
        return found

    replace_method(monkeypatch, adapter, "packed", packed)


@breaks("unichart", "shared_charts")
def rows_get_the_chart_of_another(model, adapter, monkeypatch):
    def model_inputs(original, batch, **kwargs):
        if "chart_index" in batch:
            batch = {**batch, "chart_index": batch["chart_index"].flip(0)}
        return original(batch, **kwargs)

    replace_method(monkeypatch, adapter, "model_inputs", model_inputs)


@breaks("qwen2_5_vl", "shared_charts")
def shared_charts_train_no_vision(model, adapter, monkeypatch):
    shared = SimpleNamespace(now=False)
    model.register_forward_pre_hook(
        lambda *args: setattr(shared, "now", "chart_index" in args[2]), with_kwargs=True, prepend=True
    )

    def hook(module, args, output):
        if shared.now:
            output.pooler_output = output.pooler_output.detach()

    model.get_encoder(modality="image").register_forward_hook(hook)


# ------------------------------------------------------------------ 7. LoRA
@breaks("llava", "peft_gradients")
def a_target_that_is_not_used(model, adapter, monkeypatch):
    # The output of LLaVA's last vision block is not read.
    return get_peft_model(model, LoraConfig(target_modules=r".*vision.*layers\.[12]\.mlp\.fc1"))


@breaks("unichart", "peft_gradients")
def a_target_without_a_gradient(model, adapter, monkeypatch):
    model = get_peft_model(model, default_lora_config(model))
    layer = model.get_submodule("base_model.model.decoder.model.decoder.layers.0.fc1")
    layer.register_forward_hook(lambda module, args, output: output.detach())
    return model


@breaks("llava", "peft_gradients")
def a_base_weight_that_is_trained_and_not_saved(model, adapter, monkeypatch):
    model = get_peft_model(model, default_lora_config(model))
    model.get_parameter("base_model.model.model.language_model.norm.weight").requires_grad_(True)
    return model


# ------------------------------------------------------------------ 8. saving
@breaks("llava", "saving")
@breaks("unichart", "saving")
def save_drops_a_weight(model, adapter, monkeypatch):
    def save(original, self, folder, *, state_dict=None, **kwargs):
        state = self.state_dict() if state_dict is None else state_dict
        return original(self, folder, state_dict=dict(list(state.items())[2:]), **kwargs)

    replace_method(monkeypatch, PreTrainedModel, "save_pretrained", save)


@breaks("unichart", "saving")
def save_rounds_the_weights(model, adapter, monkeypatch):
    def save(original, self, folder, **kwargs):
        state = {name: value.bfloat16().float() for name, value in self.state_dict().items()}
        return original(self, folder, **{**kwargs, "state_dict": state})

    replace_method(monkeypatch, PreTrainedModel, "save_pretrained", save)


@breaks("llava", "saving")
def merge_that_differs(model, adapter, monkeypatch):
    replace_method(monkeypatch, LoraLinear, "get_delta_weight", lambda original, *args: original(*args) * 1.1)


@breaks("llava", "saving")
def saved_prompt_is_lost(model, adapter, monkeypatch):
    monkeypatch.setattr(trainer_saving, "save_settings", lambda *args, **kwargs: None)


# ------------------------------------------------------------------ 9. cost
@breaks("unichart", "cost")
def a_small_machine(model, adapter, monkeypatch):
    step = SimpleNamespace(total_bytes=2**10, peak_bytes=2**9, compute_seconds=1.0)
    monkeypatch.setattr(cost, "measure_step", lambda *args, **kwargs: step)


def tried(which: str) -> list[str]:
    """The cases of a test run: in `make test` the first one of each line of the report, else (`make families`) all."""
    firsts = [next(name for name, (_, lines, _) in CASES.items() if line in lines) for line in TITLES]
    return [name for name in CASES if which != "quick" or name in firsts]


@pytest.mark.parametrize("name", tried(CHOSEN))
def test_the_line_of_a_fault_fails(name, monkeypatch):
    family, lines, break_it = CASES[name]
    model, adapter = ready(family)
    model = break_it(model, adapter, monkeypatch) or model
    # The last three take as long as the others, and what breaks the others does not reach them.
    measured = [line for line in TITLES if lines & LAST or line not in LAST]
    report = check_model(
        model, adapter.processor, records(3), adapter=adapter, max_new_tokens=3, num_beams=2, lines=measured
    )
    assert {line.name for line in report.failed} == lines, str(report)
    assert report.exit_code == 1


def test_all_faults_are_tried_somewhere_and_each_line_fails_in_make_test():
    assert tried("all") == list(CASES)
    quick = [CASES[name][1] for name in tried("quick")]
    assert set().union(*quick) == set(TITLES)
    assert len(quick) <= len(TITLES)
