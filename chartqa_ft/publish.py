"""Pushing a fine-tuned model to the Hub: what belongs to it, whole or not at all, in one commit."""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .card_facts import hub_name
from .hub_errors import HubError, explained, find_token, known_tokens, retrying

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

logger = logging.getLogger(__name__)

__all__ = ["check_files", "files_of_checkpoint", "files_of_model", "push_checkpoint", "stage"]

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
_STALE = (
    *(
        name
        for stem, suffix in (
            ("model", "safetensors"),
            ("adapter_model", "safetensors"),
            ("pytorch_model", "bin"),
            ("adapter_model", "bin"),
            ("tf_model", "h5"),
            ("flax_model", "msgpack"),
        )
        for name in (f"{stem}.{suffix}", f"{stem}{_SHARD}.{suffix}", f"{stem}.{suffix}.index.json")
    ),
    "assets/training_curve.png",
    "assets/sample_[0-9].png",
    _PREDICTIONS,
    *_SETTINGS,
)
"""Names that saving and pushing give: what an earlier push may have left that would be taken for a part of this model,
for its results, or for a picture of its card. Files with other names are somebody's own."""
_ARGUMENTS_PICKLE = "training_args.bin"
_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, by the format's own limit."""
_LARGEST_TEXT = 64 << 20
"""Bytes up to which a file is searched for tokens; larger ones are states of optimizers."""
_COPIED = 1 << 20
"""Bytes up to which `stage` copies a file: small ones are written anew in place, large ones only deleted."""


def push_checkpoint(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    exist_ok: bool = True,
    commit_message: str = "Upload the model",
    predictions: bool = False,
    checkpoint: str | Path | None = None,
    path_in_repo: str = "last-checkpoint",
    keep: str | Path | None = None,
) -> CommitInfo:
    """Push the model in a folder, full or PEFT adapter, to a repository on the Hub, which is made where missing.

    Everything goes in one commit, so that nobody ever sees half a model. The same commit deletes what an earlier push
    left and what would be taken for a part of this one. Large files that the Hub has stored are not sent again.

    Args:
        folder: as `save_pretrained` or the trainer leaves it; see `files_of_model` for what is taken from it.
        repo_id: `owner/name`, or a name alone for one's own.
        token: with write permission; `None` takes the one that is logged in.
        private: whether a new repository is; `None` leaves it to the owner's settings.
        revision: branch to commit to, made from `main` where it is missing.
        create_pr: open a pull request, against `revision`, instead of a commit.
        exist_ok: `False` refuses a repository that exists.
        commit_message: first line of the commit.
        predictions: push `predictions.jsonl` too.
        checkpoint: folder of a checkpoint of the trainer, to push with the states of its optimizer.
        path_in_repo: folder of the repository for it, `last-checkpoint` or `checkpoint-<n>`.
        keep: folder that errors name for what is kept; `folder` where it is not a copy to be deleted.

    Returns:
        The commit, or the last one where nothing was to change: `commit_url`, `pr_url`, `oid`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no whole model, or a file with a token in it; the message names it. Nothing was sent.
        HubError: the Hub did not take it.
    """
    from huggingface_hub import HfApi

    files = files_of_model(folder, predictions=predictions)
    if checkpoint is not None:
        if path_in_repo != "last-checkpoint" and not fnmatchcase(path_in_repo, "checkpoint-[0-9]*"):
            raise ValueError(f"path_in_repo must be last-checkpoint or checkpoint-<step>, got {path_in_repo!r}")
        files |= {f"{path_in_repo}/{name}": path for name, path in files_of_checkpoint(checkpoint).items()}
    check_files(files, token=token)
    _warn_of_local_base(files)
    kept, action = (folder if keep is None else keep), ("propose" if create_pr else "push")
    with explained(action, repo_id, keep=kept, revision=revision, token=token):
        api = HfApi(token=token)
        repo_id = make_repository(api, repo_id, private, exist_ok)
        if revision not in (None, "main") and not revision.startswith("refs/"):
            retrying(
                lambda: api.create_branch(repo_id, branch=revision, exist_ok=True),
                what=f"making the branch {revision} of {repo_id}",
            )
        commit = retrying(
            lambda: _commit(
                api,
                repo_id,
                files,
                folders=(path_in_repo,) if checkpoint is not None else (),
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
            ),
            what=f"the push to {repo_id}",
            repeatable=not create_pr,
        )
    logger.info("pushed to %s", commit.pr_url or commit.commit_url)
    return commit


def _warn_of_local_base(files: dict[str, Path]) -> None:
    config = _read_json(files["adapter_config.json"]) if "adapter_config.json" in files else {}
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if base and hub_name(str(base)) is None:
        logger.warning(
            "the base model of this adapter is the folder %s, which is not on the Hub: nobody else can load the "
            "adapter, and its adapter_config.json shows the folder's name. Push the base model first and train from "
            "there, or push the merged model (push_to_hub(merge=True), --push_merged).",
            base,
        )


def make_repository(api: HfApi, repo_id: str, private: bool | None, exist_ok: bool = True) -> str:
    """Make it where it is missing; returns `owner/name`.

    Raises:
        HubError: it exists and is public, and `private` is true. Other errors are those of huggingface_hub.
    """
    made = retrying(
        lambda: api.create_repo(repo_id, private=private, exist_ok=exist_ok), what=f"making the repository {repo_id}"
    )
    if private and not retrying(lambda: api.repo_info(made.repo_id), what=f"looking at {repo_id}").private:
        raise HubError(
            f"{made.repo_id} was not pushed: it exists already and everybody can read it, although private=True was "
            f"asked for. Make it private in its settings ({made}/settings), or take another name."
        )
    return made.repo_id


def _commit(
    api: HfApi, repo_id: str, files: dict[str, Path], *, folders: Iterable[str], **settings: Any
) -> CommitInfo:
    """One commit that adds `files` and deletes what is stale, in the root and in `folders`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = api.list_repo_files(repo_id, revision=settings["revision"])
    stale = [path for path in there if path not in files and _is_stale(path, folders)]
    if leaked := [path for path in stale if path.endswith(_ARGUMENTS_PICKLE)]:
        logger.warning(
            "%s is deleted from %s: such a file may hold a token in plain text, and the repository's history keeps "
            "it. If the token is one of yours, revoke it (https://huggingface.co/settings/tokens).",
            ", ".join(leaked),
            repo_id,
        )
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    return api.create_commit(repo_id, operations + [CommitOperationDelete(path) for path in stale], **settings)


def _is_stale(path: str, folders: Iterable[str]) -> bool:
    inside = any(path.startswith(f"{folder}/") for folder in folders)
    return inside or path.rpartition("/")[2] == _ARGUMENTS_PICKLE or _matches(path, _STALE)


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
def stage(folder: str | Path, target: str | Path) -> Path:
    """Set the files of a checkpoint aside, for an upload that goes on while the trainer deletes old checkpoints.

    Large files become hard links, which cost no space, or copies where the file system cannot; small ones are copied.
    A large file must not be written anew in place meanwhile: those of checkpoints never are.

    Args:
        folder: the checkpoint; `training_args.bin` is left out.
        target: a folder to make, best on the same file system; what it held before is deleted.

    Returns:
        `target`.
    """
    folder, target = Path(folder), Path(target)
    if target.exists():
        shutil.rmtree(target)
    for path in sorted(folder.rglob("*")):
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
