"""A checkpoint's folder on this machine: whole, or a plain word about what is missing; nothing in it is run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from glob import escape
from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import HubError, explained
from .retry import retrying

logger = logging.getLogger(__name__)

__all__ = ["fetch_checkpoint", "stems_of_weights"]

_CONFIGS = ("config.json", "adapter_config.json")
_SUFFIXES = (".json", ".jinja", ".txt", ".model")
_PICKLES = (".bin", ".bin.index.json")
# Weights that may be in shards.
_INDEXED = ("model.safetensors", "pytorch_model.bin")
# The same weights once more, as their authors' own programs want them.
_NOT_OURS = ("consolidated",)
# The one folder that a processor reads beside the files next to `config.json`.
_FOLDERS = ("additional_chat_templates",)


def fetch_checkpoint(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """The folder of a checkpoint: the given one, or a snapshot of the Hub's in this machine's cache.

    Of a Hub model come configuration, tokenizer, processor and weights: pickles only where there are no safetensors,
    Python files only with `trust_remote_code`, and nothing of its folders (older checkpoints, exports). What breaks on
    the way is tried again and goes on where it stopped. The snapshot is whole: huggingface_hub alone may return one
    of which other programs fetched a part. While the Hub is down a whole one in the cache is taken, with a warning.

    Args:
        path_or_repo: a local folder, or the name of a model on the Hub.
        revision: branch, tag or commit of a Hub model.
        token: Hub token; `None` takes the one that is logged in.
        trust_remote_code: fetch the code that comes with the checkpoint too.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no checkpoint.
        HubError: the Hub has no such model or revision, refuses it, cannot be reached, or holds half a checkpoint; or
            the cache holds a part of it and `HF_HUB_OFFLINE=1` forbids asking for the rest.
        ValueError: a file's name leads out of the folder.
    """
    folder = Path(path_or_repo)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in _CONFIGS):
            raise FileNotFoundError(f"{folder} has no config.json or adapter_config.json: it is no checkpoint")
        _indexed(folder)
        return folder
    repo = str(path_or_repo)
    if isinstance(path_or_repo, Path) or repo.startswith((".", "/", "~")) or repo.count("/") > 1:
        raise FileNotFoundError(f"there is no folder {path_or_repo}")
    with explained("load", repo, revision=revision, token=token):
        return _from_hub(repo, revision, token, trust_remote_code)


def _from_hub(repo: str, revision: str | None, token: str | bool | None, code: bool) -> Path:
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    what = f"fetching {repo}"
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repo, revision)
    folder = _cached_or_none(repo, revision)
    attempts = 4 if folder is None else 2  # nobody waits for what can be had at once
    try:
        info = retrying(lambda: HfApi(token=token).model_info(repo, revision=revision), attempts=attempts, what=what)
    except Exception as error:
        if folder is None or not _is_down(error):
            raise
        logger.warning(
            "the Hub cannot be asked for %s; taking commit %s of it from this machine's cache", repo, folder.name
        )
        return folder
    names = [sibling.rfilename for sibling in info.siblings or ()]
    _refuse_leaving(names, repo)
    wanted = _wanted(names, code)
    if not set(wanted) & set(_CONFIGS):
        held = f"it holds {', '.join(sorted(names)[:8])}" if names else "it is empty"
        raise HubError(
            f"{repo} was not loaded: it has no config.json or adapter_config.json, so it is no checkpoint ({held}). "
            "Check the name and the revision."
        )

    def download() -> Path:
        folder = Path(snapshot_download(repo, revision=revision, token=token, allow_patterns=[*map(escape, wanted)]))
        # An older commit or a part, if the Hub failed inside: each file then says why it does not come.
        folder = folder.with_name(info.sha)
        for name in wanted:
            if not (folder / name).is_file():
                hf_hub_download(repo, name, revision=info.sha, token=token)
        return folder

    folder = retrying(download, what=what)
    missing = _missing(folder)
    if missing:
        raise HubError(
            f"{repo} was not loaded: the Hub's own copy of it lacks {_listed(missing)}. Ask its author to push it "
            "again, or take another revision."
        )
    return folder


def _is_down(error: Exception) -> bool:
    """Whether the Hub gave no answer about this model: such a failure says nothing against the copy in the cache."""
    if isinstance(error, ValueError):
        return False
    response = getattr(error, "response", None)
    return response is None or response.status_code in (408, 429) or response.status_code >= 500


# --------------------------------------------------------------------------------------------------------- the cache


def _from_cache(repo: str, revision: str | None) -> Path:
    """The cached snapshot without asking the Hub.

    Raises:
        LocalEntryNotFoundError: there is none.
        HubError: there is a part of one.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[*_CONFIGS]))
    try:
        names = [file.path for file in get_cached_repo_tree(repo, revision=folder.name)]
    except CachedRepoTreeNotFoundError:  # what other programs cached, without a list of what there is
        names = []
    _refuse_leaving(names, repo)
    missing = [name for name in _wanted(names, code=False) if not (folder / name).is_file()] or _missing(folder)
    if missing:
        raise HubError(
            f"{repo} was not loaded: this machine's cache holds a part of it and lacks {_listed(missing)}, and "
            "HF_HUB_OFFLINE=1 forbids asking the Hub for the rest. Unset HF_HUB_OFFLINE and do the same again."
        )
    return folder


def _cached_or_none(repo: str, revision: str | None) -> Path | None:
    try:
        return _from_cache(repo, revision)
    except (OSError, ValueError) as error:
        logger.debug("no whole %s in the cache: %s", repo, error)
        return None


# ----------------------------------------------------------------------------------------------------------- files


def _wanted(names: Iterable[str], code: bool) -> list[str]:
    """Which files of a repository make the checkpoint."""
    names = [name for name in names if "/" not in name or name.partition("/")[0] in _FOLDERS or name.endswith(".py")]
    suffixes = (*_SUFFIXES, ".py") if code else _SUFFIXES
    wanted = [name for name in names if name.endswith(suffixes) and not name.endswith(_PICKLES)]
    stem, pickled = stems_of_weights("adapter_config.json" in names)
    safe = [name for name in names if name.endswith(".safetensors") and not name.startswith(_NOT_OURS)]
    if any(name.startswith(stem) for name in safe):
        return [*wanted, *safe]
    return [*wanted, *safe, *(name for name in names if name.startswith(pickled) and name.endswith(_PICKLES))]


def stems_of_weights(is_peft: bool) -> tuple[str, str]:
    """How the names of the weights begin: in safetensors, and as a pickle."""
    return ("adapter_model", "adapter_model") if is_peft else ("model", "pytorch_model")


def _missing(folder: Path) -> list[str]:
    """What a checkpoint cannot do without and this folder does not hold."""
    if not any((folder / name).is_file() for name in _CONFIGS):
        return ["config.json"]
    shards = _indexed(folder)
    if shards:
        return [name for name in shards if not (folder / name).is_file()]
    stem, pickled = stems_of_weights((folder / "adapter_config.json").is_file())
    found = [*folder.glob(f"{stem}*.safetensors"), *folder.glob(f"{pickled}*.bin")]
    return [] if found else [f"{stem}.safetensors"]


def _indexed(folder: Path) -> list[str]:
    """The shards that the index of the weights names, none without an index."""
    for name in _INDEXED:
        path = folder / f"{name}.index.json"
        if path.is_file() and not (folder / name).is_file():
            try:
                shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
                _refuse_leaving(shards, str(path))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is damaged or not to be trusted: {error}") from error
            return shards
    return []


def _refuse_leaving(names: Iterable[str], where: str) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
            raise ValueError(f"{where} names the file {name!r}, which leads out of the checkpoint's folder: refused")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
