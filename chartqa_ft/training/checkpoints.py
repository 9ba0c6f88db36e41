"""Checkpoints on disk: the mark of a complete one, and what is wrong with the others.

`chartqa_state.json` is removed before a checkpoint is rewritten and written last. It lists the files that must be
there. Marks of earlier releases hold no list; their checkpoints are still used if the files that are there are whole.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..evaluation.results import SCORES_NAME
from ..files import PARTIAL_SUFFIX, check_name_inside, read_json, write_json
from ..hub.model_files import is_checkpoint_name
from ..models.chartqa_config import SETTINGS_NAME

logger = logging.getLogger(__name__)

__all__ = [
    "RUN_NAME",
    "STATE_NAME",
    "begin_checkpoint",
    "checkpoints_in",
    "find_damage",
    "hide_folders",
    "is_marked",
    "last_checkpoint",
    "mark_checkpoint",
    "missing_states",
]

STATE_NAME = "chartqa_state.json"
"""The file that is written last into a checkpoint, and so marks it as complete."""
RUN_NAME = "chartqa_run.json"
"""The file in an output folder that names the run whose checkpoints count, if there are also others."""
FORMAT = 2
"""Version of the mark. Version 1 has no version and no list of files."""

_TRAINER_STATE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
_STATES = (*_TORCH_FILES, _TRAINER_STATE, SCORES_NAME)
_UNCHECKED = (STATE_NAME, "README.md", "metrics.json", "predictions.jsonl", "assets/*", "*.py", f"*{PARTIAL_SUFFIX}")
"""Files that no resume reads, and that a push may write or leave out."""
_KINDS: dict[str, type] = {_TRAINER_STATE: dict, SCORES_NAME: list, "config.json": dict, "adapter_config.json": dict}
_INDEX = ".index.json"
_SAMPLE = 1 << 18
_SUMS = ("window", "total")


# ------------------------------------------------------------------ writing
def begin_checkpoint(folder: str | Path) -> None:
    """Remove the mark of a checkpoint that is about to be rewritten, and the states that could outlive it.

    An `optimizer.pt` of an earlier run would otherwise be taken for that of the new weights if none is saved now.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("chartqa_state.json", "optimizer.pt", "notes.txt"):
        ...     _ = (folder / name).write_text("{}")
        >>> begin_checkpoint(folder)
        >>> [path.name for path in folder.iterdir()]
        ['notes.txt']
    """
    folder = Path(folder)
    (folder / STATE_NAME).unlink(missing_ok=True)
    for pattern in _STATES:
        for path in folder.glob(pattern):
            path.unlink()


def mark_checkpoint(folder: str | Path, state: Mapping[str, Any]) -> None:
    """Mark a checkpoint as complete: write `state` and the list of its files, with sizes, as `chartqa_state.json`.

    Files with names that no trainer writes are not listed: a push leaves them out.
    """
    folder = Path(folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_checkpoint_name(name) and not any(fnmatchcase(name, one) for one in _UNCHECKED):
            files[name] = {"size": path.stat().st_size, "crc32": _sample(path)}
    write_json(folder / STATE_NAME, {**state, "format": FORMAT, "files": files}, indent=None)


def hide_folders(folder: str | Path) -> None:
    """Take the folders of this machine out of a copy of a checkpoint that is to be pushed.

    `trainer_state.json` names the best checkpoint by its path; resuming finds it in `output_dir` by its step.
    """
    folder = Path(folder)
    path, mark = folder / _TRAINER_STATE, folder / STATE_NAME
    state = read_json(path) if path.is_file() else {}
    best = state.get("best_model_checkpoint")
    if not isinstance(best, str) or best == Path(best).name:
        return
    write_json(path, {**state, "best_model_checkpoint": Path(best).name})
    content = read_json(mark) if mark.is_file() else {}
    if _TRAINER_STATE in content.get("files", {}):
        content["files"][_TRAINER_STATE] = {"size": path.stat().st_size, "crc32": _sample(path)}
        write_json(mark, content, indent=None)


def _sample(path: Path) -> int:
    """Return a checksum of the start and the end of a file, which is cheap for files of any size."""
    with open(path, "rb") as file:
        checksum = zlib.crc32(file.read(_SAMPLE))
        file.seek(max(file.tell(), path.stat().st_size - _SAMPLE))
        return zlib.crc32(file.read(_SAMPLE), checksum)


# ------------------------------------------------------------------ reading
def is_marked(folder: str | Path) -> bool:
    """Return whether a checkpoint has a mark, or was written by another trainer, which sets none."""
    folder = Path(folder)
    return (folder / STATE_NAME).exists() or not (folder / SETTINGS_NAME).exists()


def find_damage(folder: str | Path, *, needs_mark: bool = True) -> str | None:
    """Return what is wrong with a checkpoint, as the end of a sentence, or `None` if it is complete.

    No tensor is loaded: of weights the header is read, of the states of the optimizer the table of contents.

    Args:
        folder: the checkpoint.
        needs_mark: whether it is incomplete without its mark.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> find_damage(folder)
        'was not written to its end (chartqa_state.json is missing)'
        >>> _ = (folder / "trainer_state.json").write_text('{"global_step"')
        >>> mark_checkpoint(folder, {"window": [0.0, 0], "total": [0.0, 0]})
        >>> find_damage(folder)
        "is damaged: trainer_state.json is not valid JSON (Expecting ':' delimiter: line 1 column 15 (char 14))"
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "is not a folder"
    try:
        if (folder / STATE_NAME).exists():
            mark = _read(folder / STATE_NAME, dict)
            _check_mark(mark)
            listed = mark.get("files")
            names = sorted(listed) if listed is not None else _files_in(folder)
            for name, entry in (listed or {}).items():
                _check_listed(_inside(folder, name, STATE_NAME), entry, name)
        elif needs_mark:
            return f"was not written to its end ({STATE_NAME} is missing)"
        else:
            mark, names = {}, [*_files_in(folder), _TRAINER_STATE]
        for name in names:
            _check_content(folder / name, name)
        _check_steps(folder, mark)
    except (_Damage, OSError) as error:
        return f"is damaged: {error}"
    return None


class _Damage(ValueError):
    """A file of a checkpoint that is missing or not whole."""


def _files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in _UNCHECKED)


def _read(path: Path, kind: type) -> Any:
    try:
        return read_json(path, kind=kind)
    except ValueError as error:
        reason = error.__cause__
        if reason is None:
            name = "a JSON array" if kind is list else "a JSON object"
            raise _Damage(f"{path.name} does not hold {name}") from error
        raise _Damage(f"{path.name} is not valid JSON ({reason or type(reason).__name__})") from error


def _check_mark(mark: dict[str, Any]) -> None:
    """Check the mark itself. One of the first version may be empty."""
    for key in _SUMS:
        sums = mark.get(key, [0, 0] if "format" not in mark else None)
        if not (isinstance(sums, list) and len(sums) == 2 and all(isinstance(x, (int, float)) for x in sums)):
            raise _Damage(f"{STATE_NAME} lacks the sums {key!r}")
    if "format" in mark and not isinstance(mark.get("files"), dict):
        raise _Damage(f"{STATE_NAME} lacks the list of files")


def _inside(folder: Path, name: str, where: str) -> Path:
    """Return the path of a file that another file of the checkpoint names, and which must be in the checkpoint.

    Links are followed, since the cache of the Hub, which a run may be resumed from, consists of them.
    """
    try:
        return folder / check_name_inside(name, where=where)
    except ValueError as error:
        raise _Damage(str(error)) from error


def _check_listed(path: Path, entry: Any, name: str) -> None:
    if not path.is_file():
        raise _Damage(f"{name} is missing")
    if not isinstance(entry, dict):
        raise _Damage(f"{STATE_NAME} says nothing about the size of {name}")
    size = path.stat().st_size
    if size != entry.get("size"):
        raise _Damage(f"{name} has {size} bytes, and {entry.get('size')} were written")
    if _sample(path) != entry.get("crc32"):
        raise _Damage(f"{name} has other bytes than were written")


def _check_content(path: Path, name: str) -> None:
    """Check that a file is whole as far as its format shows."""
    if not path.is_file():
        raise _Damage(f"{name} is missing")
    if name.endswith(".safetensors"):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise _Damage(f"{name} is not whole ({error})") from error
    elif any(fnmatchcase(name, pattern) for pattern in _TORCH_FILES):
        try:
            zipfile.ZipFile(path).close()
        except zipfile.BadZipFile as error:
            raise _Damage(f"{name} is not whole ({error})") from error
    elif name.endswith(".json"):
        content = _read(path, dict if name.endswith(_INDEX) else _KINDS.get(name, object))
        if name.endswith(_INDEX):
            named = content.get("weight_map", {})
            if not isinstance(named, dict):
                raise _Damage(f"{name} has no weight_map")
            for shard in sorted(set(map(str, named.values()))):
                if not _inside(path.parent, shard, name).is_file():
                    raise _Damage(f"{shard} is missing, which {name} names")


def _check_steps(folder: Path, mark: Mapping[str, Any]) -> None:
    """Check that `trainer_state.json` can be loaded and is of the step of the checkpoint."""
    if not (folder / _TRAINER_STATE).is_file():
        return
    try:
        step: Any = TrainerState.load_from_json(str(folder / _TRAINER_STATE)).global_step
    except (TypeError, AttributeError) as error:
        raise _Damage(f"{_TRAINER_STATE} is not the state of a trainer ({error})") from error
    named = folder.name.rpartition("-")[2] if folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-") else ""
    for other in (mark.get("step", step), int(named) if named.isdecimal() else step):
        if step != other:
            raise _Damage(f"{_TRAINER_STATE} is of step {step}, not {other}")


def missing_states(folder: str | Path, *, ranks: range, world_size: int, scaler: bool, sharded: bool) -> list[str]:
    """Return what an exact resume from a complete checkpoint lacks, as phrases; empty if it lacks nothing.

    Args:
        folder: the checkpoint.
        ranks: the ranks whose random state must be there.
        world_size: number of ranks that resume.
        scaler: whether the loss is scaled (fp16).
        sharded: whether DeepSpeed or FSDP keep the states of the optimizer, in folders of their own.
    """
    folder = Path(folder)
    missing = []
    if not sharded and not any((folder / name).is_file() for name in ("optimizer.pt", "optimizer.bin")):
        missing.append("it has no state of the optimizer (optimizer.pt; save_only_model=True saves none)")
    if not sharded and not (folder / "scheduler.pt").is_file():
        missing.append("it has no state of the learning-rate schedule (scheduler.pt)")
    if scaler and not (folder / "scaler.pt").is_file():
        missing.append("it has no state of the loss scaling (scaler.pt)")
    names = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in ranks]
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        missing.append(f"it has no random state ({', '.join(lost)})")
    mark = read_json(folder / STATE_NAME) if (folder / STATE_NAME).is_file() else {}
    saved = mark.get("world_size", world_size)
    if saved != world_size:
        missing.append(f"it was saved by {saved} processes, and there are {world_size}")
    return missing


# ------------------------------------------------------------------ choosing
def checkpoints_in(output_dir: str | Path) -> list[Path]:
    """Return the folders of checkpoints in an output folder, complete or not, the newest first."""
    numbered = [
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.rpartition("-")[2].isdecimal()
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def last_checkpoint(output_dir: str | Path) -> str | None:
    """Return the newest complete checkpoint in a folder, or `None`.

    A process that is killed while saving, or a full disk, leaves an incomplete checkpoint. Those are skipped with a
    warning, and so are checkpoints of an earlier run in the same folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> last_checkpoint(folder) is None
        True
        >>> _ = write_json(folder / "checkpoint-20" / "chartqa_state.json", {})
        >>> Path(last_checkpoint(folder)).name
        'checkpoint-20'
    """
    run = read_json(Path(output_dir) / RUN_NAME).get("run") if (Path(output_dir) / RUN_NAME).is_file() else None
    passed: list[str] = []
    found = None
    for path in checkpoints_in(output_dir):
        reason = find_damage(path)
        if reason is None and run is not None and read_json(path / STATE_NAME).get("run") != run:
            reason = "is of an earlier run"
        if reason is None:
            found = str(path)
            break
        passed.append(f"{path} {reason}")
    if passed:
        logger.warning("%s. Skipped; it is safe to delete what is not needed", "; ".join(passed))
    return found
