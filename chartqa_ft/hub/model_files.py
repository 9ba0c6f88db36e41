"""Which files of a folder are pushed as a model or a checkpoint, and whether they are whole and free of secrets.

Only files with a name that saving uses are pushed, and no link is followed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..files import file_inside, parse_json, read_json
from .credentials import find_token, known_tokens
from .secret_files import find_in_file, find_named

__all__ = [
    "ARGUMENTS_PICKLE",
    "check_files",
    "files_of_checkpoint",
    "files_of_model",
    "is_checkpoint_name",
    "is_stale",
    "stage",
]

logger = logging.getLogger(__name__)

ARGUMENTS_PICKLE = "training_args.bin"
"""Never pushed: it may hold the token of the run, and it is a pickle."""
_PREDICTIONS = "predictions.jsonl"
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
_FULL_MODEL_SETTINGS = ("config.json",)
_PICTURES = ("assets/training_curve.png", "assets/sample_[1-9].png")
"""The pictures of a card. Other files in `assets/` are the user's own."""
_TEXTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", *_PICTURES)
_STATES = (
    "trainer_state.json",
    "chartqa_state.json",
    "chartqa_scores.json",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "rng_state_[0-9]*.pth",
    "pytorch_model_fsdp.bin",
    *(
        f"{folder}_[0-9]*/{name}"
        for folder in ("pytorch_model_fsdp", "optimizer")
        for name in ("*.distcp", ".metadata")
    ),
    "latest",
    "global_step[0-9]*/*.pt",
)
"""What a trainer's checkpoint holds besides the model: the states of a run, also of FSDP and DeepSpeed."""
_SHARD = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]"
_WEIGHT_FILES = (
    ("model", "safetensors"),
    ("adapter_model", "safetensors"),
    ("pytorch_model", "bin"),
    ("adapter_model", "bin"),
    ("tf_model", "h5"),
    ("flax_model", "msgpack"),
)
_SAFETENSORS = (
    *(
        f"{stem}{ending}"
        for stem in ("model", "adapter_model")
        for ending in (".safetensors", ".safetensors.index.json")
    ),
    f"model{_SHARD}.safetensors",
    f"adapter_model{_SHARD}.safetensors",
)
_STALE = (
    *(
        name
        for stem, suffix in _WEIGHT_FILES
        for name in (f"{stem}.{suffix}", f"{stem}{_SHARD}.{suffix}", f"{stem}.{suffix}.index.json")
    ),
    *_PICTURES,
    _PREDICTIONS,
    *_SETTINGS,
)
"""File names that saving and pushing use. If an earlier push left one, it would be taken for a part of this model, its
results or its card. Files with other names belong to somebody else."""
_LARGEST_HEADER = 100_000_000
"""Bytes. The safetensors format allows no larger header."""
_LARGEST_COPY = 1 << 20
"""Bytes up to which `stage` copies a file: small files may be rewritten in place, large ones are only deleted."""
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
"""JSON files whose keys are words of a vocabulary, and say nothing about their values."""
_SAVE_AGAIN = "save the model again"


# ------------------------------------------------------------------ what is pushed
def files_of_model(folder: str | Path, *, predictions: bool = False) -> dict[str, Path]:
    """Return the files of a folder that belong to the model, by their path in the repository.

    These are the weights as safetensors, the processor's files, `chartqa_config.json`, `training_args.json`,
    `metrics.json`, `README.md` with its pictures (`assets/training_curve.png`, `assets/sample_1.png`, ...) and a
    license. For a PEFT checkpoint, only the PEFT weights, without `config.json`. Files with other names are never
    pushed: pickles, code, logs, checkpoints and files of yours.

    Args:
        folder: the folder that `save_pretrained` or the trainer has written.
        predictions: include `predictions.jsonl`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder has no weights, no config for them, or both PEFT weights and a full model;
            `predictions.jsonl` is missing; or one of these files is a link.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("config.json", "model.safetensors", "optimizer.pt", "README.md"):
        ...     _ = (folder / name).write_text("{}")
        >>> list(files_of_model(folder))
        ['model.safetensors', 'README.md', 'config.json']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to push")
    paths = [folder / name for name in _weights(folder)]
    wanted = {*_SETTINGS, *_TEXTS, *([_PREDICTIONS] if predictions else [])}
    if (folder / "adapter_config.json").is_file():  # loading takes those of the base model
        wanted -= {*_FULL_MODEL_SETTINGS}
    for path in sorted([*folder.glob("*"), *folder.glob("assets/*"), *folder.glob("additional_chat_templates/*")]):
        if path.is_file() and _matches(path.relative_to(folder).as_posix(), wanted):
            paths.append(path)
    if predictions and folder / _PREDICTIONS not in paths:
        raise ValueError(f"there is no {_PREDICTIONS} in {folder}: evaluate first, or push without predictions")
    return {name: _no_link(folder, name) for name in (path.relative_to(folder).as_posix() for path in paths)}


def _no_link(folder: Path, name: str) -> Path:
    """Return the path of a file to push, which is neither a link nor in a linked folder.

    Raises:
        ValueError: it is one.
    """
    try:
        return file_inside(folder, name, where=str(folder))
    except FileNotFoundError:
        return folder / name  # `check_files` says what lacks it
    except ValueError as error:
        raise ValueError(
            f"{error}: a push sends no linked file, which could be any file of this machine. Put a copy in its place "
            f"(cp -rL {folder} <new folder> copies a whole folder), or remove it"
        ) from error


def _weights(folder: Path) -> list[str]:
    """Return the names of the files with the weights, the index of shards included."""
    full = (folder / "config.json").is_file() and any(
        (folder / f"model.safetensors{ending}").is_file() for ending in ("", ".index.json")
    )
    if (folder / "adapter_config.json").is_file():
        config, single = "adapter_config.json", "adapter_model.safetensors"
        if full and (folder / single).is_file():
            raise ValueError(
                f"{folder} contains both PEFT weights ({config}, {single}) and a full model (config.json and its "
                "weights), and it is unclear which to push: save again, or move one of them elsewhere"
            )
    else:
        config, single = "config.json", "model.safetensors"
    index = f"{single}.index.json"
    if (folder / single).is_file():
        names = [single]
    elif (folder / index).is_file():
        shards = set(_weight_map(folder / index).values())
        if bad := [name for name in shards if Path(name).name != name or not name.endswith(".safetensors")]:
            raise ValueError(f"{folder / index} names {bad[0]!r}, which is not a file of weights beside it")
        names = [index, *sorted(shards)]
    else:
        pickles = sorted(path.name for path in folder.glob("*.bin") if path.name != ARGUMENTS_PICKLE)
        why = f", and {pickles[0]} is a pickle, which is never pushed: load and save the model" if pickles else ""
        raise ValueError(f"{folder} contains no weights: {single} or its shards are missing{why}")
    if not (folder / config).is_file():
        raise ValueError(f"{folder} contains weights without {config}: {_SAVE_AGAIN}")
    return names


def files_of_checkpoint(folder: str | Path) -> dict[str, Path]:
    """Return the files of a trainer's checkpoint that are needed to resume from it, by their name.

    These are the files of the model and the states of the run: `trainer_state.json`, the optimizer, the schedule, the
    random generators. The states are pickles, in which torch reads nothing but numbers (`weights_only=True`). Files
    with other names are left out, `training_args.bin` and code among them.

    Raises:
        FileNotFoundError: there is no such folder, or it is not a checkpoint of a trainer.
        ValueError: one of these files is a link.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("trainer_state.json", "optimizer.pt", "training_args.bin"):
        ...     _ = (folder / name).write_text("{}")
        >>> list(files_of_checkpoint(folder))
        ['optimizer.pt', 'trainer_state.json']
    """
    folder = Path(folder)
    if not (folder / "trainer_state.json").is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint of a trainer: it has no trainer_state.json")
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: _no_link(folder, name) for name in names if is_checkpoint_name(name)}


def is_checkpoint_name(name: str) -> bool:
    """Return whether a file of this name belongs to a trainer's checkpoint.

    Args:
        name: path of the file in the checkpoint, with `/`.

    Example:
        >>> is_checkpoint_name("optimizer.pt"), is_checkpoint_name("model-00001-of-00002.safetensors")
        (True, True)
        >>> is_checkpoint_name(".env"), is_checkpoint_name("training_args.bin")
        (False, False)
    """
    return _matches(name, (*_STATES, *_SETTINGS, *_TEXTS, *_SAFETENSORS))


def is_stale(path: str, folders: Iterable[str] = ()) -> bool:
    """Return whether a file in a repository would be taken for a part of the model that is pushed now.

    Args:
        path: the file's path in the repository.
        folders: folders of the repository that the push replaces as a whole.

    Example:
        >>> is_stale("model-00002-of-00002.safetensors"), is_stale("notes.md"), is_stale("old/training_args.bin")
        (True, False, True)
    """
    inside = any(path.startswith(f"{folder}/") for folder in folders)
    return inside or path.rpartition("/")[2] == ARGUMENTS_PICKLE or _matches(path, _STALE)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns matches; their `*` does not cross folders."""
    return any(path.count("/") == pattern.count("/") and fnmatchcase(path, pattern) for pattern in patterns)


# ------------------------------------------------------------------ whether it is whole
def check_files(
    files: dict[str, Path], *, token: str | bool | None = None, arguments: Mapping[str, Any] | None = None
) -> None:
    """Check, without loading any tensor, that weights and JSON files are whole and that no file contains a secret.

    All files are searched to their end, except for the tensors of safetensors files; see `find_in_file`.

    Args:
        files: files by their path in the repository, as `files_of_model` returns them.
        token: the token in use. That of the login, and those in the environment, are known anyway.
        arguments: the arguments of the run, whose secrets are looked for too.

    Raises:
        ValueError: a file is missing, damaged or contains a secret; the message names it.

    Example:
        >>> import tempfile
        >>> card = Path(tempfile.mkdtemp()) / "README.md"
        >>> _ = card.write_text("log in with hf_" + "a" * 34)
        >>> check_files({"README.md": card})
        Traceback (most recent call last):
        ...
        ValueError: ...README.md contains a secret (a token, a key or a password), which everybody could use: ...
    """
    tokens = known_tokens(token, arguments=arguments)
    tensors: dict[str, set[str]] = {}
    own_code: set[str] = set()
    for name, path in files.items():
        if not path.is_file():
            raise ValueError(f"{path} is missing, although the index beside it names it: {_SAVE_AGAIN}")
        if path.suffix == ".safetensors":
            header = _safetensors_header(path)
            tensors[name] = set(header)
            has_secret = find_token(json.dumps(header, ensure_ascii=False), *tokens)
        else:
            has_secret = find_in_file(path, *tokens)
            if path.suffix == ".json":
                content = read_json(path, kind=object, advice=_SAVE_AGAIN)
                has_secret |= path.name not in _VOCABULARIES and find_named(content) is not None
                own_code |= _own_code(content)
        if has_secret:
            raise ValueError(
                f"{path} contains a secret (a token, a key or a password), which everybody could use: remove it from "
                "the file"
            )
    if own_code:
        logger.warning(
            "the model needs its own code (%s), which is never pushed: add these files to the repository yourself, or "
            "nobody can load the model from it",
            ", ".join(f"{name}.py" for name in sorted(own_code)),
        )
    for name, path in files.items():
        if name.endswith(".safetensors.index.json"):
            for tensor, shard in _weight_map(path).items():
                if tensor not in tensors.get((Path(name).parent / shard).as_posix(), ()):
                    raise ValueError(f"{path.parent / shard} lacks the weight {tensor}: {_SAVE_AGAIN}")


def _own_code(content: Any) -> set[str]:
    """Return the modules beside a file of settings that hold its classes; others name a repository."""
    classes = content.get("auto_map") if isinstance(content, dict) else None
    entries = classes.values() if isinstance(classes, dict) else ()
    names = [name for entry in entries for name in (entry if isinstance(entry, (list, tuple)) else [entry])]
    return {name.partition(".")[0] for name in names if isinstance(name, str) and "--" not in name}


def _safetensors_header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file after checking it and the length of the file.

    By the format's description, 8 bytes (little-endian) give the length of the JSON header that follows; the tensors'
    bytes follow without gaps to the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(_LARGEST_HEADER, size - 8):
            raise ValueError(f"{path} is damaged (no safetensors header): {_SAVE_AGAIN}")
        try:
            header = parse_json(file.read(length).decode("utf-8"))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{path} is damaged (its header cannot be read): {_SAVE_AGAIN}") from error
    if size != expected:
        raise ValueError(f"{path} is damaged ({size} bytes instead of {expected}): {_SAVE_AGAIN}")
    return header


def _weight_map(index: Path) -> dict[str, str]:
    """Return the tensors that an index of shards names, each with the file that holds it."""
    found = read_json(index, advice=_SAVE_AGAIN).get("weight_map")
    if not isinstance(found, dict):
        raise ValueError(f"{index} is damaged (it has no weight_map): {_SAVE_AGAIN}")
    return {str(tensor): str(shard) for tensor, shard in found.items()}


# ------------------------------------------------------------------ pushes while training goes on
def stage(folder: str | Path, target: str | Path, names: Iterable[str] | None = None) -> Path:
    """Set the files of a checkpoint aside for an upload, because the trainer may delete the checkpoint meanwhile.

    Large files become hard links, which take no space, or copies where the file system has no links. Small files are
    copied. Large files must not be rewritten in place meanwhile; those of checkpoints never are.

    Args:
        folder: the checkpoint.
        target: the folder to create, best on the same file system. If it exists, its content is deleted. Nobody else
            can read it.
        names: paths of the files to set aside, relative to `folder`; `None` takes all that belong to a checkpoint, see
            `is_checkpoint_name`.

    Returns:
        The path of `target`.

    Raises:
        ValueError: one of the files is a link.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "checkpoint-1"
        >>> folder.mkdir()
        >>> _ = (folder / "config.json").write_text("{}")
        >>> [path.name for path in stage(folder, folder.parent / "aside").iterdir()]
        ['config.json']
    """
    folder, target = Path(folder), Path(target)
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(mode=0o700)
    if names is None:
        there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names = filter(is_checkpoint_name, there)
    for name in sorted(names):
        path, copy = _no_link(folder, name), target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size <= _LARGEST_COPY or not _link(path, copy):
            shutil.copy2(path, copy)
    return target


def _link(path: Path, copy: Path) -> bool:
    try:
        os.link(path, copy)
    except OSError:
        return False
    return True
