"""Which files of a folder make up a model or a checkpoint, and whether they may be pushed."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .public import find_token, known_tokens

_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_SETTINGS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "chartqa_config.json",
    "training_args.json",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.spm",
    "*.tiktoken",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "metrics.json",
)
_OF_FULL_MODELS = ("config.json", "generation_config.json")
_TEXTS = ("README.md", "LICENSE", "LICENSE.*", "NOTICE", "assets/*")
_ASSETS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".json", ".csv", ".md", ".txt")
_PREDICTIONS = "predictions.jsonl"
_SHARD = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]"
_ARGUMENTS_PICKLE = "training_args.bin"
_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, by the format's own limit."""
_LARGEST_TEXT = 64 << 20
"""Bytes up to which a file is searched for tokens; larger ones are states of optimizers."""
_COPIED = 1 << 20
"""Bytes up to which `stage` copies a file: small ones are written anew in place, large ones only deleted."""


def _matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches, whose `*` does not go across folders."""
    return any(path.count("/") == pattern.count("/") and fnmatchcase(path, pattern) for pattern in patterns)


# ------------------------------------------------------------------ what is pushed
def files_of_model(folder: str | Path, *, predictions: bool = False) -> dict[str, Path]:
    """What belongs to the model in a folder: path in the repository -> file.

    That is its weights as safetensors, the files of its processor, `chartqa_config.json`, `training_args.json`,
    `metrics.json`, `README.md`, a licence and `assets/`; of a folder with an adapter, the adapter's weights alone.
    Never pickles, code, logs or checkpoints.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no weights, no config beside them, or both an adapter and a full model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to push")
    paths = [folder / name for name in _weights(folder)]
    wanted = {*_SETTINGS, *_TEXTS, *([_PREDICTIONS] if predictions else [])}
    if (folder / "adapter_config.json").is_file():  # loading takes the base model's
        wanted -= {*_OF_FULL_MODELS}
    for path in sorted([*folder.glob("*"), *folder.glob("assets/*"), *folder.glob("additional_chat_templates/*")]):
        name = path.relative_to(folder).as_posix()
        is_asset = "/" not in name or not name.startswith("assets/") or path.suffix.lower() in _ASSETS
        if path.is_file() and is_asset and _matches(name, wanted):
            paths.append(path)
    if predictions and folder / _PREDICTIONS not in paths:
        raise ValueError(f"there is no {_PREDICTIONS} in {folder}: evaluate first, or push without predictions")
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _weights(folder: Path) -> list[str]:
    """Names of the files with the weights."""
    full = (folder / "config.json").is_file() and any(
        (folder / f"model.safetensors{ending}").is_file() for ending in ("", ".index.json")
    )
    if (folder / "adapter_config.json").is_file():
        config, single = "adapter_config.json", "adapter_model.safetensors"
        if full and (folder / single).is_file():
            raise ValueError(
                f"{folder} holds both a PEFT adapter ({config}, {single}) and a full model (config.json and its "
                "weights), and cannot say which of them is meant: save again, or move one of them elsewhere"
            )
    else:
        config, single = "config.json", "model.safetensors"
    index = f"{single}.index.json"
    if (folder / single).is_file():
        names = [single]
    elif (folder / index).is_file():
        shards = set(_read_json(folder / index, "weight_map").values())
        if bad := [name for name in shards if Path(name).name != name or not name.endswith(".safetensors")]:
            raise ValueError(f"{folder / index} names {bad[0]!r}, which is no file of weights beside it")
        names = [index, *sorted(shards)]
    else:
        pickles = sorted(path.name for path in folder.glob("*.bin") if path.name != _ARGUMENTS_PICKLE)
        why = f", and {pickles[0]} is a pickle, which is never pushed: load and save the model" if pickles else ""
        raise ValueError(f"{folder} holds no weights: {single} or its shards are missing{why}")
    if not (folder / config).is_file():
        raise ValueError(f"{folder} holds weights without {config}: save the model again")
    return names


def files_of_checkpoint(folder: str | Path) -> dict[str, Path]:
    """All files of a trainer's checkpoint, to resume from: name -> file; never `training_args.bin`, nor code.

    Raises:
        FileNotFoundError: there is no such folder, or it is no checkpoint of a trainer.
    """
    folder = Path(folder)
    if not (folder / "trainer_state.json").is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint of a trainer: it has no trainer_state.json")
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _ARGUMENTS_PICKLE and path.suffix not in (".py", ".pyc", ".part")
    }


# ------------------------------------------------------------------ whether it is whole
def check_files(files: dict[str, Path], *, token: str | bool | None = None) -> None:
    """Check, without loading any tensor, that weights and JSON files are whole and that no file holds a token.

    Args:
        files: path in the repository -> file.
        token: the one in use; that of the login is known without.

    Raises:
        ValueError: the message names the file.
    """
    tokens = known_tokens(token)
    tensors: dict[str, set[str]] = {}
    for name, path in files.items():
        if not path.is_file():
            raise ValueError(f"{path} is missing, which the index beside it names: save the model again")
        if path.suffix == ".safetensors":
            header = _safetensors_header(path)
            tensors[name] = set(header)
            text = json.dumps(header.get("__metadata__", {}))
        elif path.stat().st_size > _LARGEST_TEXT:
            continue
        else:
            text = path.read_bytes().decode("utf-8", errors="replace")
            if path.suffix == ".json":
                _read_json(path)
        if find_token(text, *tokens):
            raise ValueError(f"{path} holds a token of the Hub, which everybody could use: take it out of the file")
    for name, path in files.items():
        if name.endswith(".safetensors.index.json"):
            for tensor, shard in _read_json(path, "weight_map").items():
                if tensor not in tensors.get((Path(name).parent / shard).as_posix(), ()):
                    raise ValueError(f"{path.parent / shard} lacks the weight {tensor}: save the model again")


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The header, after checking it and the length of the file, by the format's description: 8 bytes, little-endian,
    with the length of the JSON that follows; the tensors' bytes follow without gaps to the end of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(_LARGEST_HEADER, size - 8):
            raise ValueError(f"{path} is damaged (no header of safetensors): save the model again")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{path} is damaged (its header cannot be read): save the model again") from error
    if size != expected:
        raise ValueError(f"{path} is damaged ({size} bytes instead of {expected}): save the model again")
    return header


def _read_json(path: Path, key: str | None = None) -> Any:
    try:
        content = json.loads(path.read_bytes())
        return content if key is None else {str(name): str(value) for name, value in content[key].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error or type(error).__name__}): save the model again") from error


# ------------------------------------------------------------------ beside the training
def stage(folder: str | Path, target: str | Path, names: Iterable[str] | None = None) -> Path:
    """Set the files of a checkpoint aside, for an upload that goes on while the trainer deletes old checkpoints.

    Large files become hard links, which cost no space, or copies where the file system cannot; small ones are copied.
    A large file must not be written anew in place meanwhile: those of checkpoints never are.

    Args:
        folder: the checkpoint; `training_args.bin` is left out.
        target: a folder to make, best on the same file system; what it held before is deleted.
        names: paths of the files to set aside, relative to `folder`; `None`: all.

    Returns:
        `target`.
    """
    folder, target = Path(folder), Path(target)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for path in sorted(folder.rglob("*") if names is None else [folder / name for name in names]):
        if not path.is_file() or path.name == _ARGUMENTS_PICKLE:
            continue
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size <= _COPIED or not _link(path, copy):
            shutil.copy2(path, copy)
    return target


def _link(path: Path, copy: Path) -> bool:
    try:
        os.link(path.resolve(), copy)
    except OSError:
        return False
    return True
