"""Checkpoints on disk: the mark of a complete one, and what is wrong with the others.

`chartqa_state.json` is removed before a checkpoint is rewritten and written last. It lists the files that must be
there, with sizes and checksums. Marks of earlier releases hold no list; their checkpoints are still used if the files
that are there are whole.
"""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Iterable, Mapping
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
from .checksums import block_sums, end_sum
from .lineage import Lineage

logger = logging.getLogger(__name__)

__all__ = [
    "STATE_NAME",
    "begin_checkpoint",
    "checkpoints_in",
    "find_damage",
    "hide_folders",
    "is_marked",
    "last_checkpoint",
    "mark_checkpoint",
    "missing_states",
    "run_of",
    "step_of",
]

STATE_NAME = "chartqa_state.json"
"""The file that is written last into a checkpoint, and so marks it as complete."""
FORMAT = 3
"""Version of the mark. Version 1 has no version and no list of files, version 2 no checksum of itself."""

_TRAINER_STATE = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
_STATES = (*_TORCH_FILES, _TRAINER_STATE, SCORES_NAME)
_UNCHECKED = (STATE_NAME, "README.md", "metrics.json", "predictions.jsonl", "assets/*", "*.py", f"*{PARTIAL_SUFFIX}")
"""Files that no resume reads, and that a push may write or leave out."""
_KINDS: dict[str, type] = {_TRAINER_STATE: dict, SCORES_NAME: list, "config.json": dict, "adapter_config.json": dict}
_INDEX = ".index.json"
_SUMS = ("window", "total")
_CHECKSUM = "checksum"
_NOT_SUMMED = (_CHECKSUM, "world_size")
"""Entries of the mark beside its checksum: a resume compares the number of processes with its own."""


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
    """Mark a checkpoint as complete: write `state` and the list of its files as `chartqa_state.json`.

    The list has the size and the checksums of each file that a resume reads. Files with names that no trainer writes
    are not listed: a push leaves them out.
    """
    folder = Path(folder)
    names = {path: path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()}
    listed = {
        path: name
        for path, name in names.items()
        if is_checkpoint_name(name) and not any(fnmatchcase(name, pattern) for pattern in _UNCHECKED)
    }
    entries = _entries(listed)
    _write_mark(folder, {**state, "format": FORMAT, "files": {name: entries[path] for path, name in listed.items()}})


def _entries(paths: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Return what the mark says about files."""
    paths = list(paths)
    blocks = block_sums(paths)
    return {
        path: {
            "size": path.stat().st_size,
            "crc32": end_sum(path),
            **({"blocks": blocks[path]} if path in blocks else {}),
        }
        for path in paths
    }


def _write_mark(folder: Path, mark: Mapping[str, Any]) -> None:
    write_json(folder / STATE_NAME, {**mark, _CHECKSUM: _mark_sum(mark)}, indent=None)


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
        content["files"][_TRAINER_STATE] = _entries([path])[path]
        _write_mark(folder, content)


def _mark_sum(mark: Mapping[str, Any]) -> int:
    content = {key: value for key, value in mark.items() if key not in _NOT_SUMMED}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


# ------------------------------------------------------------------ reading
def is_marked(folder: str | Path) -> bool:
    """Return whether a checkpoint has a mark, or was written by another trainer, which sets none."""
    folder = Path(folder)
    return (folder / STATE_NAME).exists() or not (folder / SETTINGS_NAME).exists()


def find_damage(folder: str | Path, *, needs_mark: bool = True, quick: bool = False) -> str | None:
    """Return what is wrong with a checkpoint, as the end of a sentence, or `None` if it is complete.

    Every byte of files up to 4 GiB is compared with its checksum, at about 2 GB a second and core. Of larger files,
    and with `quick` of all, only the first and the last 256 KiB are.

    Args:
        folder: the checkpoint.
        needs_mark: whether it is incomplete without its mark.
        quick: whether to read no file to its end.

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
            version = mark.get("format", 1)
            if isinstance(version, int) and version > FORMAT:
                return f"was saved by a newer release of chartqa_ft (format {version}, not {FORMAT}): install that"
            _check_mark(mark)
            listed = mark.get("files")
            names = sorted(listed) if listed is not None else _files_in(folder)
            for name, entry in (listed or {}).items():
                _check_listed(_inside(folder, name, STATE_NAME), entry, name)
            if not quick:
                _check_blocks(folder, listed or {})
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
    """Return the files of a checkpoint without a list, and those that the others need."""
    found = {path.name for path in folder.iterdir() if path.is_file() and path.name not in _UNCHECKED}
    if any(name.startswith("adapter_model.") for name in found):
        found.add("adapter_config.json")
    return sorted(found)


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
    if (mark.get("format") == FORMAT or _CHECKSUM in mark) and mark.get(_CHECKSUM) != _mark_sum(mark):
        raise _Damage(f"{STATE_NAME} has other bytes than were written")
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
    if end_sum(path) != entry.get("crc32"):
        raise _Damage(f"{name} has other bytes than were written")


def _check_blocks(folder: Path, listed: Mapping[str, Any]) -> None:
    written = {folder / name: entry["blocks"] for name, entry in listed.items() if "blocks" in entry}
    for path, sums in block_sums(written).items():
        if sums != written[path]:
            raise _Damage(f"{path.relative_to(folder).as_posix()} has other bytes than were written")


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
    named = step_of(folder)
    for other in (mark.get("step", step), step if named < 0 else named):
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
    folders = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted((path for path in folders if path.is_dir() and step_of(path) >= 0), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """Return the step in the name of a checkpoint, or -1.

    Example:
        >>> step_of(Path("out/checkpoint-20")), step_of(Path("out/best"))
        (20, -1)
    """
    named = folder.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
    return int(named) if named != folder.name and named.isdecimal() else -1


def run_of(folder: Path) -> str | None:
    """Return the identity of the run in the mark of a checkpoint; `None` if there is none, or no readable mark."""
    try:
        return read_json(folder / STATE_NAME).get("run")
    except (OSError, ValueError):
        return None


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
    lineage = Lineage.read(output_dir)
    passed: list[str] = []
    found = None
    for path in checkpoints_in(output_dir):
        reason = find_damage(path, quick=True)  # most are passed over for less than their bytes
        if reason is None and not lineage.has(read_json(path / STATE_NAME).get("run"), step_of(path)):
            reason = "is of an earlier run"
        reason = reason or find_damage(path)
        if reason is None:
            found = str(path)
            break
        passed.append(f"{path} {reason}")
    if passed:
        logger.warning("%s. Skipped; it is safe to delete what is not needed", "; ".join(passed))
    return found
