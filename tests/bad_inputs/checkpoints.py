"""Damaged checkpoints and settings files: full models, PEFT weights, and states to resume from."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from chartqa_ft import answer_questions, default_lora_config, load_checkpoint

from .case import QUESTION, Call, Steps, adapter, add, new_trainer, picture, record, train
from .objects import _based

GROUP = "configurations"
Damage = Callable[[Path], Any]


@cache
def _full() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bad_full_"))
    train(folder).save_model(str(folder / "saved"))
    return folder / "saved"


@cache
def _peft() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bad_peft_"))
    model, processor = _based(folder)
    run = train(
        folder, model=model, processing_class=processor, peft_config=default_lora_config(model, r=4), learning_rate=0.1
    )
    run.save_model(str(folder / "saved"))
    return folder / "saved"


@cache
def _resumable() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bad_resume_"))
    train(folder, max_steps=2, save_strategy="steps", save_steps=1)
    return folder / "out" / "checkpoint-1"


def answered(source: Path, damage: Damage, folder: Path, **options: Any) -> tuple[Any, ...]:
    """What a damaged copy of a checkpoint is: its answer, the ids of a record, and the logits of its answer."""
    Steps.done = 0  # the checkpoint itself was trained
    shutil.copytree(source, folder / "model")
    damage(folder / "model")
    model, processor, own = load_checkpoint(folder / "model", **options)
    batch = own.encode([record()])
    with torch.no_grad():
        logits = model(**own.model_inputs(batch)).logits[own.label_mask(batch["labels"])]
    answers = answer_questions(model, processor, [picture()], [QUESTION], adapter=own, max_new_tokens=4)
    return answers, batch["decoder_input_ids"].tolist(), [round(value, 3) for value in logits.flatten()[:50].tolist()]


@cache
def usual(source: Path) -> tuple[Any, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return answered(source, lambda _: None, Path(folder))


def edit(name: str, **changes: Any) -> Damage:
    """Change keys of a JSON file; `...` takes a key away."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        for key, value in changes.items():
            content.pop(key, None)
            if value is not ...:
                content[key] = value
        (folder / name).write_text(json.dumps(content))

    return damage


def replace(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
    )


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        weights = load_file(folder / name)
        change(weights)
        save_file(weights, folder / name, {"format": "pt"})

    return damage


BROKEN: dict[str, Callable[[str], Damage]] = {
    "missing": without,
    "empty": lambda name: replace(name, b""),
    "cut": cut,
    "zeros": lambda name: lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size)),
}
BROKEN_JSON: dict[str, Callable[[str], Damage]] = {
    **BROKEN,
    "a list": lambda name: replace(name, "[]"),
    "a text": lambda name: replace(name, "hello"),
    "null": lambda name: replace(name, "null"),
    "UTF-16": lambda name: lambda folder: (folder / name).write_bytes((folder / name).read_text().encode("utf-16")),
    "a byte order mark": lambda name: (
        lambda folder: (folder / name).write_text("\ufeff" + (folder / name).read_text())
    ),
    "a web page": lambda name: replace(name, "<html>"),
    "a pointer of Git LFS": lambda name: replace(name, "version https://git-lfs.github.com/spec/v1\n"),
    "brackets 100,000 deep": lambda name: replace(name, "[" * 100_000),
}


def some(kinds: dict[str, Callable[[str], Damage]], number: int) -> dict[str, Callable[[str], Damage]]:
    """The first kinds of damage, and a third of the others: file by file another third."""
    names = list(kinds)
    return {name: kinds[name] for name in (*names[:2], *names[2 + number % 3 :: 3])}


def _add(
    source: Callable[[], Path], what: str, name: str, damage: Damage, *names: str, same: bool = False, **options: Any
) -> None:
    add(
        GROUP,
        f"load_checkpoint: {what}{name}",
        lambda folder: answered(source(), damage, folder, **options),
        *names,
        right=(lambda got: got == usual(source())) if same else None,
    )


def _models() -> None:
    optional = {"generation_config.json": False, "training_args.json": True, "chartqa_config.json": False}
    files = (
        "config.json",
        "chartqa_config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "processor_config.json",
        "training_args.json",
    )
    for number, file in enumerate(files):
        for how, make in (BROKEN_JSON if number == 0 else some(BROKEN_JSON, number)).items():
            _add(
                _full,
                "",
                f"{file} {how}",
                make(file),
                file,
                "bad_",
                "config.json" if file == "config.json" else file,
                same=file in optional
                or how == "a byte order mark"
                or (file, how) == ("tokenizer_config.json", "missing"),
            )
    for how, make in BROKEN.items():
        _add(_full, "", f"model.safetensors {how}", make("model.safetensors"), "model.safetensors", "weights", "bad_")
    weights = "model.safetensors"

    def drop(part: str) -> Callable[[dict[str, torch.Tensor]], None]:
        return lambda found: [found.pop(key) for key in [key for key in found if part in key][:1]] and None

    for part in ("decoder", "encoder", "bias"):
        _add(_full, "weights without a tensor of ", part, tensors(weights, drop(part)), "weight", "tensor", "missing")
    first = lambda found: next(key for key in found if found[key].ndim == 2 and found[key].is_floating_point())  # noqa: E731
    _add(
        _full,
        "weights with ",
        "a tensor of another shape",
        tensors(weights, lambda found: found.update({first(found): torch.zeros(2, 2)})),
        "shape",
        "size",
        "tensor",
        "weight",
    )
    _add(
        _full,
        "weights with ",
        "NaN",
        tensors(weights, lambda found: found.update({first(found): torch.full_like(found[first(found)], math.nan)})),
        "nan",
        "finite",
    )
    _add(
        _full,
        "weights with ",
        "infinity",
        tensors(weights, lambda found: found.update({first(found): torch.full_like(found[first(found)], math.inf)})),
        "inf",
        "finite",
    )
    _add(
        _full,
        "weights with ",
        "a tensor too many",
        tensors(weights, lambda found: found.update(stray=torch.zeros(2))),
        "stray",
        same=True,
    )
    _add(
        _full,
        "weights with ",
        "another prefix",
        tensors(weights, lambda found: [found.update({f"x.{key}": found.pop(key)}) for key in list(found)]),
        "weight",
        "missing",
        "tensor",
    )
    _add(
        _full,
        "weights with ",
        "no tensor at all",
        tensors(weights, lambda found: found.clear()),
        "weight",
        "missing",
        "tensor",
    )
    for changes in (
        {"model_type": ...},
        {"model_type": "nothing"},
        {"model_type": "bert"},
        {"architectures": ["Nothing"]},
        {"decoder": ...},
        {"encoder": {}},
        {"pad_token_id": "x"},
        {"dtype": "nothing"},
    ):
        same = next(iter(changes)) == "architectures"
        _add(
            _full,
            "config.json with ",
            str(changes).replace("Ellipsis", "nothing"),
            edit("config.json", **changes),
            "config",
            *changes,
            same=same,
        )
    for changes in (
        {"eos_token_id": 10**6},
        {"eos_token_id": ...},
        {"eos_token_id": "x"},
        {"eos_token_id": -1},
        {"num_beams": 0},
        {"num_beams": "x"},
        {"nothing": 1},
    ):
        same = changes in (
            {"num_beams": 0},
            {"nothing": 1},
            {"num_beams": "x"},
        ) or changes == {"eos_token_id": ...}
        _add(
            _full,
            "generation_config.json with ",
            str(changes).replace("Ellipsis", "nothing"),
            edit("generation_config.json", **changes),
            "generation_config",
            *changes,
            same=same,
        )
    settings: tuple[dict[str, Any], ...] = (
        {"prompt": 5},
        {"prompt": "no field"},
        {"prompt": ""},
        {"max_length": "x"},
        {"max_length": 0},
        {"max_length": 1.5},
        {"max_length": math.nan},
        {"adapter": "nothing"},
        {"adapter": "causal"},
        {"compat": "no"},
        {"metric_variant": "nothing"},
        {"metric_variant": "Lenient"},
        {"metric_variant": ["lenient"]},
        {"metric_variant": "relaxed"},
        {"image": []},
        {"font_path": "/no/such/font.ttf"},
        {"versions": "x"},
        {"image": "x"},
        {"nothing": 1},
        {"prompt": ...},
        {"adapter": ...},
        {"compat": ...},
        {"prompt": None},
    )
    for changes in settings:
        key, value = next(iter(changes.items()))
        same = value in (..., None, "relaxed") or key in ("font_path", "nothing")
        _add(
            _full,
            "chartqa_config.json with ",
            str(changes).replace("Ellipsis", "nothing"),
            edit("chartqa_config.json", **changes),
            f"{key}",
            same=bool(same),
        )


def _peft_files() -> None:
    for how, make in some(BROKEN_JSON, 1).items():
        _add(
            _peft,
            "",
            f"adapter_config.json {how}",
            make("adapter_config.json"),
            "adapter_config.json",
            "config.json",
            same=how == "a byte order mark",
        )
    for how, make in BROKEN.items():
        _add(
            _peft,
            "",
            f"adapter_model.safetensors {how}",
            make("adapter_model.safetensors"),
            "adapter_model.safetensors",
            "weights",
            "bad_",
        )
    for changes in (
        {"base_model_name_or_path": ...},
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": "/no/such/folder"},
        {"peft_type": ...},
        {"peft_type": "NOTHING"},
        {"peft_type": "IA3"},
        {"r": 8},
        {"r": "x"},
        {"r": ...},
        {"lora_alpha": math.nan},
        {"target_modules": ["nothing"]},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]},
        {"layers_to_transform": [0], "layers_pattern": "layers"},
        {"use_dora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"modules_to_save": ["nothing"]},
        {"modules_to_save": ["layernorm_embedding"]},
        {"trainable_token_indices": [1, 2]},
        {"rank_pattern": {"q_proj": 2}},
        {"nothing": 1},
        {"revision": 5},
    ):
        same = changes in ({"nothing": 1}, {"revision": 5})
        key = next(iter(changes))
        _add(
            _peft,
            "adapter_config.json with ",
            str(changes).replace("Ellipsis", "nothing"),
            edit("adapter_config.json", **changes),
            "adapter_config",
            key,
            "size mismatch" if key == "nothing" else key,
            "weights",
            "base model",
            "peft_config",
            same=same,
        )
    weights = "adapter_model.safetensors"
    _add(
        _peft,
        "PEFT weights without ",
        "a tensor",
        tensors(weights, lambda found: found.pop(next(iter(found)))),
        "weight",
        "missing",
        "lora",
    )
    _add(
        _peft,
        "PEFT weights with ",
        "no tensor at all",
        tensors(weights, lambda found: found.clear()),
        "weight",
        "missing",
        "lora",
    )
    _add(
        _peft,
        "PEFT weights with ",
        "other names",
        tensors(weights, lambda found: [found.update({f"x.{key}": found.pop(key)}) for key in list(found)]),
        "weight",
        "missing",
        "lora",
    )
    _add(
        _peft,
        "PEFT weights with ",
        "another shape",
        tensors(weights, lambda found: found.update({next(iter(found)): torch.zeros(3, 3)})),
        "shape",
        "size",
        "weight",
    )
    _add(
        _peft,
        "PEFT weights with ",
        "NaN",
        tensors(
            weights,
            lambda found: found.update({next(iter(found)): torch.full_like(found[next(iter(found))], math.nan)}),
        ),
        "nan",
        "finite",
    )
    _add(
        _peft,
        "PEFT weights with ",
        "a tensor too many",
        tensors(weights, lambda found: found.update(stray=torch.zeros(2))),
        "stray",
        "weight",
    )

    def beside(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
        def change(found: dict[str, torch.Tensor]) -> None:
            name = next(name for name in found if "q_proj.lora_A" in name)
            found[name.replace(old, new)] = found[name].clone()

        return change

    for old, new, what in (
        ("q_proj", "nothing", "of a module that does not exist"),
        ("lora_A", "lora_C", "of another method"),
        ("layers.0", "layers.7", "of a layer that does not exist"),
        ("q_proj.lora_A", "q_proj", "of the base model"),
    ):
        _add(_peft, "PEFT weights with ", f"a tensor {what}", tensors(weights, beside(old, new)), "place", "shape")
    for folder_of in (_full, _peft):
        for file, key in (("tokenizer_config.json", "eos_token"), ("processor_config.json", "image_processor")):
            where = "PEFT: " if folder_of is _peft else ""
            _add(folder_of, where, f"{file} without {key}", edit(file, **{key: ...}), file, same=False)


def _arguments() -> None:
    for options in (
        {"revision": "main"},
        {"prompt": "no field"},
        {"prompt": 5},
        {"image_cost": {"nothing": 1}},
        {"image_cost": {"max_pixels": 100_000}},
        {"image_cost": 5},
        {"compat": "no"},
        {"merge": "no"},
        {"trainable": "no"},
        {"dtype": "nothing"},
        {"nothing": 1},
        {"device_map": "nothing"},
        {"attn_implementation": "nothing"},
        {"merge": True},
    ):
        key = next(iter(options))
        _add(
            _full,
            "",
            f"{options}",
            lambda _: None,
            key,
            "max_pixels" if "max_pixels" in str(options) else key,
            "nothing" if "nothing" in str(options) else key,
            same=options == {"merge": True},
            **options,
        )
    for name, value in {
        "None": None,
        "an empty text": "",
        "a number": 5,
        "a file": __file__,
        "a missing folder": "/no/such/model",
        "a path of Windows": "C:\\models\\a",
        "a path of Windows with slashes": "C:/models/a",
        "a path of Windows without a drive": "models\\a",
        "a path of a network share": "\\\\server\\models",
        "a folder without files": "",
        "a list": ["a"],
        "blanks": "  ",
        "a model": None,
    }.items():
        add(
            GROUP,
            f"load_checkpoint: {name} as the path",
            lambda folder, value=value, name=name: load_checkpoint(
                str(folder) if name == "a folder without files" else adapter() if name == "a model" else value
            ),
            "path_or_repo",
            "no checkpoint",
            "path",
            "/no/such/model",
            "folder" if name == "None" else "path_or_repo",
            "no name of a model",
            __file__,
            "bad_",
        )

    def holding(*names: str) -> Call:
        def call(folder: Path) -> Any:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("{}")
            return load_checkpoint(folder)

        return call

    for what, files, said in (
        ("weights without a configuration", ["model.safetensors"], "pass the folder"),
        ("checkpoints of a run", ["checkpoint-5/config.json", "checkpoint-10/config.json"], "checkpoint-10"),
        ("a folder of PEFT weights", ["chart/adapter_config.json"], "chart"),
    ):
        add(GROUP, f"load_checkpoint: a folder with {what} as the path", holding(*files), said)


def _resumes() -> None:
    """A resume that cannot be exact says so."""
    files = (
        "trainer_state.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "model.safetensors",
        "config.json",
        "chartqa_state.json",
        "training_args.json",
    )
    for number, file in enumerate(files):
        for how in (("missing", "cut"), ("empty", "zeros"))[number % 2]:
            make = BROKEN[how]
            add(
                GROUP,
                f"resume: {file} {how}",
                lambda folder, file=file, make=make: _resumed(folder, file, make(file)),
                file,
                "checkpoint-1",
                "running_loss",
                right=lambda got: got,
                said=("checkpoint-1",),
            )
    for changes in (
        {"global_step": "x"},
        {"global_step": 10**6},
        {"log_history": "x"},
        {"max_steps": 5},
    ):
        add(
            GROUP,
            f"resume: trainer_state.json with {changes}",
            lambda folder, changes=changes: _resumed(
                folder, "trainer_state.json", edit("trainer_state.json", **changes)
            ),
            "trainer_state.json",
            "checkpoint-1",
            *changes,
            right=lambda got: got,
            said=("checkpoint-1",),
        )


def _resumed(folder: Path, file: str, damage: Damage) -> bool:
    """Whether a resume from a damaged checkpoint ends in the weights of the unbroken run."""
    place = folder / "out" / "checkpoint-1"
    shutil.copytree(_resumable(), place)
    if (place / file).exists():
        damage(place)
    trainer = new_trainer(folder, max_steps=2, save_strategy="no")
    Steps.done = 0
    trainer.train(resume_from_checkpoint=str(place))
    Steps.done = 0
    want = load_file(_resumable().parent / "checkpoint-2" / "model.safetensors")
    own = trainer.model.state_dict()
    return all(torch.equal(own[name].cpu(), weight) for name, weight in want.items())


_models()
_peft_files()
_arguments()
_resumes()
