"""Pushing a fine-tuned model to the Hub: what belongs to it, whole or not at all, in one commit."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import HubError, explained
from .model_files import (
    _ARGUMENTS_PICKLE,
    _PREDICTIONS,
    _SETTINGS,
    _SHARD,
    _matches,
    _read_json,
    check_files,
    files_of_checkpoint,
    files_of_model,
)
from .public import hub_name
from .retry import retrying

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

logger = logging.getLogger(__name__)

__all__ = ["push_checkpoint"]

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
