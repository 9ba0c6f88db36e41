"""Push a fine-tuned model to the Hub: all files that belong to it, or none, in one commit."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_json
from ..printable import printable_errors
from .card.from_folder import facts_of_folder
from .card.render import CARD_NAME, write_card
from .errors import Action, HubError, explained
from .model_files import ARGUMENTS_PICKLE, check_files, files_of_checkpoint, files_of_model, is_stale
from .public import hub_name
from .retry import retrying

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

logger = logging.getLogger(__name__)

__all__ = ["push_checkpoint"]


@printable_errors()
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
    """Push the model in a folder, full or PEFT, to a repository on the Hub, which is created if it is missing.

    Everything goes into one commit, so that nobody ever sees half a model. The same commit deletes what an earlier
    push left that would be taken for a part of this model. Large files that the Hub already stores are not sent again.
    Local files are not changed. If the folder has no `README.md`, a card is pushed that says what its files say about
    the model, with the scores of `metrics.json`; a card of your own belongs into the folder.

    Args:
        folder: the folder that `save_pretrained` or the trainer has written; see `files_of_model` for the files that
            are pushed.
        repo_id: `owner/name`, or only the name for a repository of your own.
        token: a token with write permission; `None` takes that of the login.
        private: whether a new repository is private; `None` leaves it to the owner's settings.
        revision: the branch to commit to, created from `main` if it is missing.
        create_pr: open a pull request against `revision` instead of committing to it.
        exist_ok: `False` refuses a repository that exists already.
        commit_message: first line of the commit message.
        predictions: push `predictions.jsonl` too.
        checkpoint: folder of a trainer's checkpoint to push with its states of the run, which are pickles; see
            `files_of_checkpoint`.
        path_in_repo: the repository's folder for it, `last-checkpoint` or `checkpoint-<step>`.
        keep: folder that error messages name as the place of the files, where `folder` is a temporary copy.

    Returns:
        The commit, or the last one if nothing has changed: `commit_url`, `pr_url`, `oid`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder does not contain a whole model, a file to push is a link or contains a secret; the
            message names it. Nothing was sent.
        HubError: the Hub did not accept the push.

    Example:
        >>> push_checkpoint("out", "alice/unichart-chartqa", private=True)  # doctest: +SKIP
        CommitInfo(commit_url='https://huggingface.co/alice/unichart-chartqa/commit/...', ...)
        >>> push_checkpoint("no-such-folder", "alice/unichart-chartqa")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder no-such-folder to push
    """
    from huggingface_hub import HfApi

    files = files_of_model(folder, predictions=predictions)
    if checkpoint is not None:
        if path_in_repo != "last-checkpoint" and not fnmatchcase(path_in_repo, "checkpoint-[0-9]*"):
            raise ValueError(f"path_in_repo must be last-checkpoint or checkpoint-<step>, got {path_in_repo!r}")
        files |= {f"{path_in_repo}/{name}": path for name, path in files_of_checkpoint(checkpoint).items()}
    check_files(files, token=token)
    _warn_of_local_base(files)
    kept = folder if keep is None else keep
    action: Action = "propose" if create_pr else "push"
    with (
        tempfile.TemporaryDirectory() as written,
        explained(action, repo_id, keep=kept, revision=revision, token=token),
    ):
        if CARD_NAME not in files:
            facts = facts_of_folder(folder, repo_id, revision=revision, token=token)
            files[CARD_NAME] = write_card(written, facts)
            check_files({CARD_NAME: files[CARD_NAME]}, token=token)
        api = HfApi(token=token)
        repo_id = make_repository(api, repo_id, private, exist_ok)
        if revision is not None and revision != "main" and not revision.startswith("refs/"):
            retrying(
                lambda: api.create_branch(repo_id, branch=revision, exist_ok=True),
                what=f"creating the branch {revision} of {repo_id}",
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
    if "adapter_config.json" not in files:
        return
    base = read_json(files["adapter_config.json"], kind=object)
    base = base.get("base_model_name_or_path") if isinstance(base, dict) else None
    if base and hub_name(str(base)) is None:
        logger.warning(
            "the base model of these PEFT weights is the folder %s, which is not on the Hub: nobody else can load "
            "them, and their adapter_config.json shows the folder's name. Push the base model first and train from "
            "there, or push the merged model (push_to_hub(merge=True), --push_merged).",
            base,
        )


def make_repository(api: HfApi, repo_id: str, private: bool | None, exist_ok: bool = True) -> str:
    """Create a repository if it is missing and return its full name, `owner/name`.

    Args:
        api: the client to use.
        repo_id: `owner/name`, or only the name for a repository of your own.
        private: whether a new repository is private; `None` leaves it to the owner's settings.
        exist_ok: `False` refuses a repository that exists already.

    Raises:
        HubError: the repository exists and is public although `private` is true. Other errors are those of
            huggingface_hub.

    Example:
        >>> from huggingface_hub import HfApi
        >>> make_repository(HfApi(), "unichart-chartqa", private=True)  # doctest: +SKIP
        'alice/unichart-chartqa'
    """
    created = retrying(
        lambda: api.create_repo(repo_id, private=private, exist_ok=exist_ok), what=f"creating the repository {repo_id}"
    )
    if private and not retrying(lambda: api.repo_info(created.repo_id), what=f"looking at {repo_id}").private:
        raise HubError(
            f"{created.repo_id} was not pushed: it exists already and everybody can read it, although private=True "
            f"was asked for. Make it private in its settings ({created}/settings), or choose another name."
        )
    return created.repo_id


def _commit(
    api: HfApi, repo_id: str, files: dict[str, Path], *, folders: Iterable[str], **settings: Any
) -> CommitInfo:
    """Make one commit that adds `files` and deletes what is stale, in the root and in `folders`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = api.list_repo_files(repo_id, revision=settings["revision"])
    stale = [path for path in there if path not in files and is_stale(path, folders)]
    if leaked := [path for path in stale if path.endswith(ARGUMENTS_PICKLE)]:
        logger.warning(
            "%s is deleted from %s: such a file may contain a token in plain text, and the repository's history keeps "
            "it. If the token is yours, revoke it (https://huggingface.co/settings/tokens).",
            ", ".join(leaked),
            repo_id,
        )
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    return api.create_commit(repo_id, operations + [CommitOperationDelete(path) for path in stale], **settings)
