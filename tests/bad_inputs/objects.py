"""Bad objects given to the trainer, the collator, answer_questions and the LoRA configurations."""

# ruff: noqa: E501, PLW0108

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import peft
import torch
from PIL import Image
from transformers import DefaultDataCollator, EarlyStoppingCallback, GenerationConfig, TrainerCallback

from chartqa_ft import (
    ChartQACollator,
    ChartQATrainer,
    ChartQATrainingArguments,
    adapter_for,
    add_tokens,
    answer_questions,
    default_lora_config,
    set_image_cost,
    synthetic_chartqa,
    tiny_unichart,
)
from tests.support.common import tiny
from tests.support.families import build

from .case import (
    QUESTION,
    Steps,
    adapter,
    add,
    charts,
    model_and_adapter,
    new_trainer,
    no_rows,
    picture,
    same_loss,
    train,
)

GROUP = "configurations"
NAN = math.nan


@cache
def _family(name: str) -> tuple[Any, Any]:
    return build(name)


# --------------------------------------------------------------------------------------------------------------- trainer
class _OwnCollator:
    """Makes what the trainer's own collator makes, and counts its calls."""

    calls = 0

    def __call__(self, rows: Any) -> Any:
        _OwnCollator.calls += 1
        return ChartQACollator(adapter())([dict(row) for row in rows])


def ids_metric(prediction: Any) -> dict[str, float]:
    """The usual `compute_metrics` of sequence-to-sequence examples."""
    tokenizer = adapter().tokenizer
    predictions, labels = prediction
    texts = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    return {"same": float(np.mean([a == b for a, b in zip(texts, tokenizer.batch_decode(labels), strict=True)]))}


def logits_metric(prediction: Any) -> dict[str, float]:
    """The usual `compute_metrics` of classification examples."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def _yielding(prediction: Any) -> Any:
    yield "x", 0.5


async def _awaited(prediction: Any) -> dict[str, float]:
    return {"x": 0.5}


def _kept_after(folder: Path, **settings: Any) -> tuple[bool, bool, bool]:
    """Whether an error names its argument and the checkpoint, which is whole, and the answers are written."""
    from chartqa_ft.training import last_checkpoint

    try:
        train(folder, eval_strategy="steps", eval_steps=1, max_steps=3, **settings)
    except ValueError as error:
        message = str(error)
    step = folder / "out" / "checkpoint-1"
    named = any(name in message for name in ("compute_metrics", "metric_for_best_model"))
    answers = folder / "out" / "predictions" / "eval-step-1.jsonl"
    return named and str(step) in message, last_checkpoint(folder / "out") == str(step), answers.is_file()


def _trainer_objects() -> None:
    def add_trained(name: str, make: Any, *names: str, right: Any = None, **settings: Any) -> None:
        add(GROUP, f"trainer: {name}", lambda folder: train(folder, **settings, **make()), *names, right=right)

    processor = adapter().processor
    llava_model, llava_processor = _family("llava")
    for name, value in {
        "the tokenizer": processor.tokenizer,
        "the image processor": processor.image_processor,
        "a text": "processor",
        "the class of the processor": type(processor),
        "the model": model_and_adapter()[0],
        "a processor of another family": llava_processor,
        "None": None,
        "a dict": {},
        "an adapter": adapter(),
    }.items():
        add_trained(
            f"{name} as processing_class",
            lambda value=value: {"processing_class": value},
            "processing_class",
            "processor",
        )
    for name, value in {
        "a text": "decoder-prompt",
        "the class": type(adapter()),
        "a dict": {},
        "the processor": processor,
        "an adapter of another family": adapter_for(llava_model, llava_processor),
        "a number": 5,
    }.items():
        add_trained(f"{name} as adapter", lambda value=value: {"adapter": value}, "adapter")
    other = tiny()[1]
    add_trained(
        "an adapter beside another processor",
        lambda: {"adapter": adapter(), "processing_class": llava_processor},
        "processing_class",
        "adapter",
    )
    add_trained(
        "an adapter beside a processor like its own",
        lambda: {"adapter": adapter(), "processing_class": other},
        "processing_class",
        right=same_loss,
        train_sampling_strategy="sequential",
    )
    model = tiny()[0]
    for name, value in {
        "None": None,
        "the class": type(model),
        "its encoder": model.encoder,
        "its decoder": model.decoder,
        "a linear layer": torch.nn.Linear(2, 2),
        "a path that is missing": "/no/such/model",
        "an empty text": "",
        "a number": 5,
        "the processor": processor,
        "its config": model.config,
        "its weights": model.state_dict(),
    }.items():
        add_trained(
            f"{name} as model", lambda value=value: {"model": value}, "model", "generat", "/no/such/model", "path"
        )
    for name, value in {
        "a text": "early",
        "a number": 5,
        "a function": print,
        "the class of a callback": EarlyStoppingCallback,
        "no list": TrainerCallback(),
        "early stopping without a best": EarlyStoppingCallback(),
    }.items():
        add_trained(
            f"{name} as callbacks",
            lambda name=name, value=value: {"callbacks": value if name == "no list" else [value]},
            "callback",
            "metric_for_best_model",
            "load_best_model_at_end",
        )
    for name, value in {
        "of ids": ids_metric,
        "of logits": logits_metric,
        "that returns None": lambda *_: None,
        "that returns a number": lambda *_: 0.5,
        "a text": "accuracy",
        "a metric object": {"accuracy": 1},
        "without arguments": lambda: {},
        "with two arguments": lambda predictions, labels: {},
        "with names only": lambda *, prediction: {},
        "that yields": _yielding,
        "that is to be awaited": _awaited,
    }.items():
        add_trained(
            f"compute_metrics {name}",
            lambda value=value: {"compute_metrics": value},
            "compute_metrics",
            eval_strategy="steps",
            eval_steps=1,
        )
    # What it returns is known only when it is called: the training ends with its step and its answers saved.
    for name, value in {
        "texts": lambda *_: {"x": "y"},
        "a dict in the dict": lambda *_: {"x": {"y": 1.0}},
        "None in the dict": lambda *_: {"x": None},
        "an array": lambda *_: {"x": np.zeros(2)},
        "names that are numbers": lambda *_: {1: 0.5},
        "a list": lambda prediction: list(prediction.predictions),
        "nothing, by an error": lambda prediction: {"x": prediction.predictions[99]},
        "another name than that of the best": lambda *_: {"y": 0.5},
    }.items():
        more = {"metric_for_best_model": "x"} if "best" in name else {}
        add(
            GROUP,
            f"trainer: compute_metrics that returns {name}",
            lambda folder, value=value, more=more: _kept_after(folder, compute_metrics=value, **more),
            right=lambda got: got == (True, True, True),
        )
    for name, value in {
        "numbers of NumPy": lambda *_: {"x": np.float32(0.5)},
        "numbers in arrays": lambda *_: {"x": np.array(0.5)},
        "a tensor": lambda *_: {"x": torch.tensor(0.5)},
        "its prefix": lambda *_: {"eval_x": 0.5},
    }.items():
        add(
            GROUP,
            f"trainer: compute_metrics that returns {name}",
            lambda folder, value=value: new_trainer(folder, compute_metrics=value).evaluate()["eval_x"],
            right=lambda got: got == 0.5 and type(got) is float,
        )
    for name, value in {
        "optimizer_cls_and_kwargs of an unknown name": (torch.optim.SGD, {"nothing": 1}),
        "optimizer_cls_and_kwargs without a learning rate it needs": (torch.optim.Adam, {"lr": -1}),
        "optimizer_cls_and_kwargs of no optimizer": (dict, {}),
    }.items():
        add_trained(name, lambda value=value: {"optimizer_cls_and_kwargs": value}, "optimizer_cls_and_kwargs")
    for name, value in {
        "data_collator": DefaultDataCollator(),
        "preprocess_logits_for_metrics": lambda logits, labels: logits,
        "optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": "x"}),
    }.items():
        add_trained(name, lambda name=name, value=value: {name: value}, name, "lr")
    add_trained(
        "data_collator of its own",
        lambda: {"data_collator": _OwnCollator()},
        "data_collator",
        right=lambda _: _OwnCollator.calls > 0,
    )
    add_trained(
        "compute_loss_func",
        lambda: {"compute_loss_func": lambda outputs, labels, **_: outputs.logits.sum() * 0 + 5},
        "compute_loss_func",
        right=lambda trainer: trainer.state.log_history[0]["loss"] == 5,
    )
    add(GROUP, "trainer: model_init", lambda folder: _init(folder), "model_init", right=same_loss)

    def with_optimizer(folder: Path, **more: Any) -> Any:
        model, processor = tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        before = torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])
        trainer = train(folder, model=model, processing_class=processor, optimizers=(optimizer, None), **more)
        trained = [weight for name, weight in trainer.model.named_parameters() if "lora_B" in name]
        after = torch.cat([weight.detach().flatten() for weight in model.parameters() if weight.numel()])
        return any(weight.abs().max() > 0 for weight in trained) if more else not torch.equal(before, after)

    add(GROUP, "trainer: an optimizer of its own", with_optimizer, "optimizers", right=bool)
    add(
        GROUP,
        "trainer: an optimizer of its own beside peft_config",
        lambda folder: with_optimizer(folder, peft_config=default_lora_config(tiny()[0])),
        "optimizers",
        right=bool,
    )
    add(
        GROUP,
        "trainer: an optimizer of another model",
        lambda folder: train(folder, optimizers=(torch.optim.SGD(tiny()[0].parameters(), lr=0.5), None)),
        "optimizer",
    )
    add(
        GROUP,
        "trainer: an optimizer of no weights of the model",
        lambda folder: train(folder, optimizers=(torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5), None)),
        "optimizer",
    )
    for name, value in {"a text": "adam", "the class": torch.optim.SGD, "a list": [], "a number": 5}.items():
        add(
            GROUP,
            f"trainer: {name} as optimizers",
            lambda folder, value=value: train(folder, optimizers=(value, None)),
            "optimizer",
        )
        add(
            GROUP,
            f"trainer: {name} as optimizers itself",
            lambda folder, value=value: train(folder, optimizers=value),
            "optimizers",
        )
    for name in ("train_data", "tokenizer", "eval_data", "lora_config", "max_length", "prompt", "metrics"):
        add(
            GROUP,
            f"trainer: an argument {name} that does not exist",
            lambda folder, name=name: ChartQATrainer(
                tiny()[0],
                ChartQATrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none"),
                charts(),
                processing_class=processor,
                **{name: None},
            ),
            name,
        )
    config = GenerationConfig(num_beams=3, max_new_tokens=2)
    add(
        GROUP,
        "trainer: a generation_config in the arguments",
        lambda folder: _beams(folder, generation_config=config),
        "generation_config",
        right=lambda got: got == 3,
    )
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        name = str(kind).removeprefix("torch.")
        add_trained(
            f"a model held in {name}",
            lambda kind=kind: {"model": tiny()[0].to(kind)},
            name,
            right=lambda trainer: math.isfinite(trainer.state.log_history[0]["loss"]),
        )
    add_trained(
        "a model of mixed types",
        lambda: {"model": _mixed()},
        "bfloat16",
        "dtype",
        right=lambda trainer: math.isfinite(trainer.state.log_history[0]["loss"]),
    )
    add_trained(
        "a model whose decoder has another type",
        lambda: {"model": _mixed("decoder", torch.float64)},
        "float64",
        right=lambda trainer: math.isfinite(trainer.state.log_history[0]["loss"]),
    )
    add_trained(
        "a model of mixed types under autocast",
        lambda: {"model": _mixed()},
        right=lambda trainer: math.isfinite(trainer.state.log_history[0]["loss"]),
        bf16=True,
    )
    add_trained("a model on the meta device", lambda: {"model": tiny()[0].to("meta")}, "meta")
    add_trained(
        "a model without trainable weights",
        lambda: {"model": tiny()[0].requires_grad_(False)},
        "trainable",
        "requires_grad",
    )
    add_trained(
        "a model without trainable weights, from model_init",
        lambda: {"model": None, "model_init": lambda: tiny()[0].requires_grad_(False)},
        "requires_grad",
    )
    add_trained(
        "PEFT weights that are loaded for answers",
        lambda: {"model": peft.get_peft_model(tiny()[0], default_lora_config(tiny()[0])).requires_grad_(False)},
        "trainable",
    )
    add_trained("a model with NaN in its weights", lambda: {"model": _broken(NAN)}, "nan", "finite")
    add_trained("a model with infinity in its weights", lambda: {"model": _broken(math.inf)}, "inf", "finite")
    add_trained(
        "settings of generation in the model's config",
        lambda: {"model": _configured()},
        "num_beams",
        "generation_config",
        right=lambda trainer: True,
        save_strategy="steps",
        save_steps=1,
    )
    add(
        GROUP,
        "trainer: add_adapter of transformers",
        _added_adapter,
        "add_adapter",
        "peft_config",
        "PEFT",
        right=lambda got: got is not None,
    )

    for name, value in {
        "a missing folder": "no/such",
        "an empty folder": None,
        "False as a text": "False",
        "a number": 5,
        "an empty text": "",
        "a file": __file__,
        "True without checkpoints": True,
    }.items():
        add(
            GROUP,
            f"resume: {name}",
            lambda folder, value=value: new_trainer(folder).train(
                resume_from_checkpoint=str(folder) if value is None else value
            ),
            "checkpoint",
            "no/such",
        )
    for name, value in {
        "a missing name": "val",
        "a number": 5,
        "an empty list": [],
        "an empty stream": datasets.IterableDataset.from_generator(no_rows),
        "a dict of an empty list": {"val": []},
        "the class of data sets": datasets.Dataset,
        "a record": charts()[0],
    }.items():
        add(
            GROUP,
            f"trainer.evaluate: {name}",
            lambda folder, value=value: new_trainer(folder).evaluate(value),
            "eval_dataset",
            "'val'",
        )
    add(
        GROUP,
        "trainer.evaluate: a missing name of a dict",
        lambda folder: new_trainer(folder, eval_dataset={"test": charts(2)}).evaluate("val"),
        "'val'",
    )
    for options in (
        {"num_beam": 2},
        {"max_length": 5},
        {"num_return_sequences": 2},
        {"num_beams": 0},
        {"num_beams": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": "ten"},
        {"num_beams": 1.5},
        {"temperature": 0.5},
        {"nothing": 1},
    ):
        (key,) = options
        add(
            GROUP,
            f"trainer.evaluate: {key}={options[key]!r}",
            lambda folder, options=options: new_trainer(folder).evaluate(**options),
            key,
        )
        add(
            GROUP,
            f"trainer.predict: {key}={options[key]!r}",
            lambda folder, options=options: new_trainer(folder).predict(charts(2), **options),
            key,
        )
    for name, value in {
        "None": None,
        "an empty list": [],
        "a path": "a.json",
        "a record": charts()[0],
        "a dict of sets": {"a": charts(2)},
        "a number": 5,
        "an empty data set": charts(0),
        "a generator": (row for row in charts(2)),
        "the class of data sets": datasets.Dataset,
        "a list of texts": ["a.png"],
        "an empty dict": {},
        "a dict of columns": charts(2)[:],
    }.items():
        add(
            GROUP,
            f"trainer.predict: {name}",
            lambda folder, value=value: new_trainer(folder).predict(value),
            "test_dataset",
        )
    add(
        GROUP,
        "trainer: neither records nor a use",
        lambda folder: new_trainer(folder, train_dataset=None, eval_dataset=None).train(),
        "train_dataset",
    )


def _init(folder: Path) -> Any:
    from tests.support.common import arguments

    model, processor = tiny()
    trainer = ChartQATrainer(
        None,
        arguments(folder, train_sampling_strategy="sequential", log_level="error", generation_max_new_tokens=3),
        train_dataset=charts(),
        processing_class=processor,
        model_init=lambda: model,
    )
    trainer.add_callback(Steps())
    trainer.train()
    return trainer


def _beams(folder: Path, **settings: Any) -> int:
    trainer = new_trainer(folder, **settings)
    seen: list[int] = []
    usual = trainer.adapter.generate
    trainer.adapter.generate = lambda *args, **options: [seen.append(options["num_beams"]), usual(*args, **options)][1]
    trainer.prediction_step(trainer.model, next(iter(trainer.get_eval_dataloader())), False)
    return seen[0]


def _mixed(part: str = "encoder", dtype: torch.dtype = torch.bfloat16) -> Any:
    model = tiny()[0]
    getattr(model, part).to(dtype)
    return model


@torch.no_grad()
def _broken(value: float) -> Any:
    model = tiny()[0]
    next(model.parameters()).view(-1)[0] = value
    return model


def _configured() -> Any:
    model = tiny()[0]
    model.config.num_beams = 4
    return model


def _added_adapter(folder: Path) -> Any:
    from chartqa_ft import load_checkpoint

    model, processor = tiny()
    model.add_adapter(default_lora_config(model))
    trainer = train(folder, model=model, processing_class=processor, save_strategy="steps", save_steps=1)
    return load_checkpoint(folder / "out" / "checkpoint-1")[0] if trainer else None


# ------------------------------------------------------------------------------------------------- collator and adapter
def _collators() -> None:
    processor, model = adapter().processor, model_and_adapter()[0]
    for name, value in {
        "the processor": processor,
        "the tokenizer": processor.tokenizer,
        "the model": model,
        "None": None,
        "the class": type(adapter()),
        "a text": "decoder-prompt",
    }.items():
        add(GROUP, f"ChartQACollator: {name} as adapter", lambda _, value=value: ChartQACollator(value), "adapter")
    for argument, values in {
        "random_padding": (True, "random", 1, ""),
        "seed": (-1, 1.5, "a", None),
        "with_answers": ("no", None),
        "group_by_chart": ("no", 5),
        "keep_rows": ("no",),
        "raw_charts": ("no",),
        "chart_cache": ("/tmp", True),
        "pack_questions": (True, "no"),
        "max_length": (5,),
    }.items():
        for value in values:
            changes = {argument: value, **({"random_padding": "seeded"} if argument == "seed" else {})}
            add(
                GROUP,
                f"ChartQACollator: {argument}={value!r}",
                lambda _, changes=changes: ChartQACollator(adapter(), **changes)(list(charts(2))),
                argument,
            )
    for argument, values in {
        "prompt": ("", "no field", 5, ["{question}"], "{Question}", "{question} {question}", "{question"),
        "max_length": (0, -1, 1.5, NAN, "ten", True, 3, 10**9),
        "on_long_answer": ("cut", None, True, ""),
        "nothing": (1,),
    }.items():
        for value in values:
            right = (lambda got: got == ["7"]) if value in (10**9, "{question} {question}") else None
            add(
                GROUP,
                f"adapter_for: {argument}={value!r}",
                lambda _, argument=argument, value=value: _taught_by(
                    adapter_for(model, processor, **{argument: value})
                ),
                argument,
                right=right,
            )
    for name, value in {
        "None": None,
        "a text": "model",
        "its class": type(model),
        "its encoder": model.encoder,
        "a linear layer": torch.nn.Linear(2, 2),
    }.items():
        add(GROUP, f"adapter_for: {name} as model", lambda _, value=value: adapter_for(value, processor), "model")
    for name, value in {
        "None": None,
        "a text": "processor",
        "the tokenizer": processor.tokenizer,
        "the image processor": processor.image_processor,
        "a processor of another family": _family("llava")[1],
        "the class": type(processor),
    }.items():
        add(GROUP, f"adapter_for: {name} as processor", lambda _, value=value: adapter_for(model, value), "processor")
    for value in (
        {"max_pixels": 0},
        {"max_pixels": -5},
        {"max_pixels": NAN},
        {"max_pixels": "many"},
        {"nothing": 1},
        {"max_pixels": 10, "min_pixels": 10**6},
    ):
        add(
            GROUP,
            f"set_image_cost: {value}",
            lambda _, value=value: set_image_cost(*build("qwen2_5_vl"), **value),
            *(value or ("cost", "setting", "pixels")),
        )
    add(
        GROUP,
        "set_image_cost: pixels for a model without them",
        lambda _: set_image_cost(*tiny(), max_pixels=100_000),
        "max_pixels",
    )
    for value in ("<a>", [], [""], [5], None, ["<s>"], ["a b"], ["<x>", "<x>"]):
        right = {
            "[]": lambda got: not got,
            "['<s>']": lambda got: True,
            "['a b']": lambda got: True,
            "['<x>', '<x>']": lambda got: len(set(got)) == 1,
        }.get(repr(value))
        add(
            GROUP,
            f"add_tokens: {value!r}",
            lambda _, value=value: list(add_tokens(*copy.deepcopy(tiny()), value)),
            "token",
            right=right,
        )


def _taught_by(own: Any) -> list[str]:
    return own.decode(own.encode([{**charts()[0], "answer": "7"}])["labels"])


# ------------------------------------------------------------------------------------------------------ answer_questions
def _answers() -> None:
    model, own = model_and_adapter()
    processor = own.processor

    def asked(images: Any = None, questions: Any = None, **options: Any) -> Any:
        options = {"max_new_tokens": 3, **options}
        return answer_questions(
            options.pop("model", model),
            options.pop("processor", processor),
            [picture()] if images is None else images,
            [QUESTION] if questions is None else questions,
            **options,
        )

    usual = asked()
    for argument, values in {
        "batch_size": (0, -1, 1.5, NAN, "8", None, True),
        "num_beams": (0, -1, 1.5, NAN, "4", None),
        "max_new_tokens": (0, -1, 1.5, NAN, "ten", None, 10**6),
        "prompt": ("", "Answer:", 5, "{Question}", ["{question}"]),
        "adapter": ("x", processor, 5),
        "progress": ("yes",),
        "max_length": (5,),
        "num_return_sequences": (2,),
        "temperature": (0.5,),
        "top_p": (0.5,),
        "min_new_tokens": (50,),
        "nothing": (1,),
        "max_tokens": (5,),
        "beams": (2,),
        "repetition_penalty": (0, -1.0, NAN),
        "do_sample": ("no",),
        "generation_config": (GenerationConfig(),),
        "logits_processor": ("x", 5),
        "return_dict_in_generate": (True,),
    }.items():
        for value in values:
            right = (
                (lambda got: got == usual)
                if (argument, value) in (("batch_size", True), ("progress", "yes"), ("max_new_tokens", 10**6))
                else None
            )
            right = (lambda got: len(got) == 1) if value == 10**6 else right
            add(
                GROUP,
                f"answer_questions: {argument}={str(value)[:30]}",
                lambda _, argument=argument, value=value: asked(**{argument: value}),
                argument,
                *(("`penalty`",) if argument == "repetition_penalty" else ()),
                right=right,
                said=("do_sample",) if argument in ("temperature", "top_p") else (),
            )
    for name, (images, questions, right) in {
        "two images for one question": ([picture(), picture()], [QUESTION], None),
        "one image in a list for two questions": ([picture()], [QUESTION] * 2, None),
        "no images": ([], [QUESTION], None),
        "no questions": ([picture()], [], None),
        "nothing": ([], [], lambda got: got == []),
        "a text as questions": ([picture()], QUESTION, None),
        "a dict as questions": ([picture()], {QUESTION: 1}, lambda got: got == usual),
        "a number as questions": ([picture()], 5, None),
        "None among the questions": ([picture()] * 2, [QUESTION, None], None),
        "None among the images": ([picture(), None], [QUESTION] * 2, None),
        "a number as images": (5, [QUESTION], None),
        "a generator of images": ((picture() for _ in range(1)), [QUESTION], None),
        "a generator of questions": ([picture()], (QUESTION for _ in range(1)), None),
        "a tensor as images": (torch.zeros(3, 40, 48), [QUESTION], None),
        "a folder as images": ("/tmp", [QUESTION], None),
        "a missing file": ("/no/such.png", [QUESTION], None),
        "a set of images": ({"a.png"}, [QUESTION], None),
        "bytes as images": (b"abc", [QUESTION], None),
        "an image class": (Image.Image, [QUESTION], None),
    }.items():
        may = right or ((lambda got: got == usual) if "generator" in name else None)
        add(
            GROUP,
            f"answer_questions: {name}",
            lambda _, images=images, questions=questions: asked(images, questions),
            "images",
            "questions",
            "record",
            right=may,
        )
    for name, value in {
        "None": None,
        "a path": "/no/such",
        "the class": type(model),
        "its decoder": model.decoder,
    }.items():
        add(
            GROUP,
            f"answer_questions: {name} as model",
            lambda _, value=value: answer_questions(value, processor, [picture()], [QUESTION]),
            "model",
        )
    for name, value in {
        "None": None,
        "the tokenizer": processor.tokenizer,
        "the image processor": processor.image_processor,
        "a processor of another family": _family("llava")[1],
    }.items():
        add(
            GROUP,
            f"answer_questions: {name} as processor",
            lambda _, value=value: answer_questions(model, value, [picture()], [QUESTION]),
            "processor",
        )

    def flags(_: Path) -> Any:
        own_model = tiny()[0].train()
        own_model.encoder.eval()
        before = [module.training for module in own_model.modules()]
        answer_questions(own_model, processor, [picture()], [QUESTION], max_new_tokens=2)
        return before == [module.training for module in own_model.modules()]

    add(GROUP, "answer_questions: parts of the model in another mode", flags, right=bool)


# ------------------------------------------------------------------------------------------------------------------ LoRA
LORA_NAMES = {
    "r": ("`r`",),
    "rank_pattern": ("`r`",),
    "lora_dropout": ("dropout",),
    "new_tokens": ("processor", "token ids"),
    "modules_to_save": ("ModulesToSave",),
}


def _lora() -> None:
    model = tiny()[0]

    def trained(folder: Path, **changes: Any) -> Any:
        fresh, processor = tiny()
        return train(
            folder,
            model=fresh,
            processing_class=processor,
            peft_config=default_lora_config(fresh, **changes),
            save_strategy="steps",
            save_steps=1,
        )

    for argument, values in {
        "r": (0, 1.5, "8", None),
        "lora_alpha": (NAN, "x"),
        "lora_dropout": (1.5, NAN),
        "target_modules": ("nothing", [], "[", ["q_proj", "nothing"]),
        "modules_to_save": (["nothing"], "nothing"),
        "exclude_modules": (".*",),
        "bias": ("some", None),
        "init_lora_weights": ("nothing",),
        "task_type": ("NOTHING",),
        "layers_to_transform": ([99], "x"),
        "rank_pattern": ({"nothing": 4}, {"q_proj": 0}),
        "alpha_pattern": ({"nothing": 4},),
        "new_tokens": ("<a>", ["<a>"], [10**6], [1.5]),
        "nothing": (1,),
        "vision": ("no",),
        "use_dora": ("no",),
        "trainable_token_indices": ([10**6], [-1]),
        "target_parameters": (["nothing"],),
    }.items():
        for value in values:
            add(
                GROUP,
                f"default_lora_config: {argument}={value!r}",
                lambda folder, argument=argument, value=value: trained(folder, **{argument: value}),
                argument,
                *LORA_NAMES.get(argument, ()),
                *(("nothing",) if "nothing" in str(value).lower() else ()),
            )
    for name, value in {
        "None": None,
        "a text": "model",
        "a linear layer": torch.nn.Linear(2, 2),
        "the processor": adapter().processor,
    }.items():
        add(GROUP, f"default_lora_config: {name} as model", lambda _, value=value: default_lora_config(value), "model")
    add(
        GROUP,
        "default_lora_config: a model with PEFT weights",
        lambda _: default_lora_config(peft.get_peft_model(tiny()[0], default_lora_config(model))),
        "peft",
    )
    kinds: dict[str, Any] = {
        "a dict": {"r": 8},
        "a text": "lora",
        "the class": peft.LoraConfig,
        "a list": [default_lora_config(model)],
        "True": True,
        "prefix tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="SEQ_2_SEQ_LM"),
        "prompt tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        "P-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        "adaption prompts": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=1, task_type="CAUSAL_LM"),
        "X-LoRA": lambda: peft.XLoraConfig(hidden_size=32, adapters={}),
        "a base config": lambda: peft.PeftConfig(),
        "AdaLoRA without total_step": lambda: peft.AdaLoraConfig(target_modules=["q_proj"]),
    }
    for name, value in kinds.items():
        build_config = value if callable(value) and not isinstance(value, type) else (lambda value=value: value)
        add(
            GROUP,
            f"peft_config: {name}",
            lambda folder, build_config=build_config: train(folder, peft_config=build_config()),
            "peft_config",
            "tuning",
            "prompt",
            "X_LORA",
            "XLora",
            "total_step",
            "PeftConfig",
        )
    add(
        GROUP,
        "peft_config: beside a model with PEFT weights",
        lambda folder: train(
            folder,
            model=peft.get_peft_model(tiny()[0], default_lora_config(model)),
            peft_config=default_lora_config(model),
        ),
        "peft_config",
    )
    add(
        GROUP,
        "peft_config: a second adapter beside the first",
        _second_adapter,
        "adapter",
        "second",
        right=lambda got: got,
    )
    add(GROUP, "peft_config: an adapter with a name of its own", _named_adapter, "adapter", right=lambda got: got)
    add(GROUP, "peft_config: LoRA on a tied lm_head", _tied, "lm_head", "tied", "embed", right=lambda got: got)


def _saved_alike(folder: Path, model: Any, processor: Any, **changes: Any) -> bool:
    """Train, save, load: the same logits."""
    from chartqa_ft import load_checkpoint

    model.get_base_model().save_pretrained(folder / "base") if hasattr(model, "get_base_model") else None
    trainer = train(folder, model=model, processing_class=processor, learning_rate=0.1, max_steps=2, **changes)
    trainer.save_model(str(folder / "saved"))
    batch = trainer.adapter.encode(list(charts(2)))
    own = trainer.model.eval()
    loaded = load_checkpoint(folder / "saved")[0]
    with torch.no_grad():
        a = own(**trainer.adapter.model_inputs(batch)).logits
        b = loaded(**trainer.adapter.model_inputs(batch)).logits
    return bool(torch.allclose(a, b, atol=1e-4))


def _based(folder: Path) -> tuple[Any, Any]:
    """A base model that has a folder of its own, as PEFT weights need it."""
    from chartqa_ft import load_checkpoint

    model, processor = tiny()
    model.save_pretrained(folder / "own")
    processor.save_pretrained(folder / "own")
    loaded, processor, _ = load_checkpoint(folder / "own")
    return loaded, processor


def _second_adapter(folder: Path) -> bool:
    model, processor = _based(folder)
    config = default_lora_config(model)
    model = peft.get_peft_model(model, config)
    model.add_adapter("second", config)
    model.set_adapter("second")
    return _saved_alike(folder, model, processor)


def _named_adapter(folder: Path) -> bool:
    model, processor = _based(folder)
    model = peft.get_peft_model(model, default_lora_config(model), adapter_name="chart")
    return _saved_alike(folder, model, processor)


def _tied(folder: Path) -> bool:
    from chartqa_ft import load_checkpoint

    model, processor = _based(folder)
    trainer = train(
        folder,
        model=model,
        processing_class=processor,
        learning_rate=0.1,
        max_steps=2,
        peft_config=default_lora_config(model, target_modules=["lm_head"]),
    )
    trainer.save_model(str(folder / "saved"))
    batch = trainer.adapter.encode(list(charts(2)))
    merged = load_checkpoint(folder / "saved", merge=True)[0]
    with torch.no_grad():
        a = trainer.model.eval()(**trainer.adapter.model_inputs(batch)).logits
        b = merged(**trainer.adapter.model_inputs(batch)).logits
    return bool(torch.allclose(a, b, atol=1e-3))


def _others() -> None:
    for options in (
        {"n_charts": 0},
        {"n_charts": -1},
        {"n_charts": 1.5},
        {"n_charts": "ten"},
        {"n_charts": 2, "seed": "a"},
        {"n_charts": 2, "nothing": 1},
    ):
        key = list(options)[-1]
        add(
            GROUP,
            f"synthetic_chartqa: {key}={options[key]!r}",
            lambda _, options=options: synthetic_chartqa(**{"seed": 0, **options}),
            key,
        )
    for value in ("large", "", None, 5):
        add(
            GROUP,
            f"tiny_unichart: {value!r}",
            lambda _, value=value: tiny_unichart(value),
            "size",
            "kind",
            "'test'",
            "preset",
        )


_trainer_objects()
_collators()
_answers()
_lora()
_others()
