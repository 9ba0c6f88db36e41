"""Download checkpoints: the whole checkpoint or an error that says what is missing. None of its code is run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from glob import escape
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..files import check_name_inside, read_json
from ..printable import printable_errors
from .answers import cached_digests, check_content, check_revision, check_sha, checked_answers, digests_of
from .errors import HubError, explained
from .retry import retrying

logger = logging.getLogger(__name__)

__all__ = ["fetch_checkpoint", "stems_of_weights"]

_CONFIGS = ("config.json", "adapter_config.json")
_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".spm", ".tiktoken")
_PICKLES = (".bin", ".bin.index.json")
# Weights that may be split into shards.
_INDEXED = ("model.safetensors", "pytorch_model.bin")
# The same weights a second time, in the format of their authors' own programs.
_OTHER_FORMATS = ("consolidated",)
# The only folder that a processor reads.
_FOLDERS = ("additional_chat_templates",)
_ADVICE = "download or save the checkpoint again"
_SHOWN = 5


@printable_errors()
def fetch_checkpoint(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Return the folder of a checkpoint: a local one, or a snapshot from the Hub in this machine's cache.

    From a Hub model, configuration, tokenizer, processor and weights are downloaded: pickles only if there are no
    safetensors, Python files only with `trust_remote_code`, and none of its folders (older checkpoints, exports).
    Interrupted downloads are retried and resumed. The snapshot is complete, while huggingface_hub alone may return one
    of which another program has downloaded a part. If the Hub is down, a complete snapshot in the cache is used, with
    a warning.

    Args:
        path_or_repo: a local folder, or the name of a model on the Hub.
        revision: branch, tag or commit of a Hub model.
        token: Hub token; `None` takes that of the login.
        trust_remote_code: download the code that comes with the checkpoint too.

    Returns:
        The path of the folder.

    Raises:
        FileNotFoundError: there is no such folder, or it is not a checkpoint.
        HubError: the Hub has no such model or revision, refuses access, cannot be reached, or has only a part of the
            checkpoint, or a file of it has another content than the Hub announces; or the cache has only a part of it
            and `HF_HUB_OFFLINE=1` forbids asking for the rest.
        ValueError: a file's name leads out of the folder, or `revision` cannot be one.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text("{}")
        >>> fetch_checkpoint(folder) == folder
        True
        >>> fetch_checkpoint("./no-such-folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder ./no-such-folder: check the path
    """
    folder = Path(path_or_repo)
    if folder.is_dir():
        if not _is_checkpoint(folder):
            raise FileNotFoundError(
                f"{folder} has no config.json or adapter_config.json: it is not a checkpoint. {_advice_on(folder)}"
            )
        _indexed(folder)
        return folder
    repo = str(path_or_repo)
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file: pass the folder of the checkpoint")
    if isinstance(path_or_repo, Path) or _is_path(repo):
        raise FileNotFoundError(f"there is no folder {path_or_repo}: check the path")
    check_revision(repo, revision)
    with explained("load", repo, revision=revision, token=token), checked_answers(repo):
        return _from_hub(repo, revision, token, trust_remote_code)


def _is_path(name: str) -> bool:
    """Return whether a text can only be a path, of this system or of Windows: no name on the Hub looks like it."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or name[1:2] == ":"


def _is_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


def _advice_on(folder: Path) -> str:
    """Return what to pass instead of a folder that is no checkpoint."""
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and _is_checkpoint(path))
    if inner:
        shown = ", ".join(inner[:_SHOWN]) + (" and others" if len(inner) > _SHOWN else "")
        return f"Pass the path of one of its subfolders that are: {shown}"
    held = "it is empty" if not any(folder.iterdir()) else "it holds other files"
    return f"Check the path ({held}): pass the folder that save_model or save_pretrained wrote"


def _from_hub(repo: str, revision: str | None, token: str | bool | None, code: bool) -> Path:
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    what = f"the download of {repo}"
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repo, revision)
    folder = _cached_or_none(repo, revision)
    attempts = 4 if folder is None else 2  # no long wait if the cache has it
    try:
        info = retrying(
            lambda: HfApi(token=token).model_info(repo, revision=revision, files_metadata=True),
            attempts=attempts,
            what=what,
        )
        commit = check_sha(repo, info.sha)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        digests = digests_of(info.siblings or ())
        _refuse_leaving(names, repo)
    except (KeyError, TypeError, AttributeError) as error:  # huggingface_hub expects every field
        raise HubError(
            f"{repo} was not loaded: the Hub's answer about it lacks something, or has it in another form "
            f"({type(error).__name__}). Check HF_ENDPOINT and the proxy, if you use one."
        ) from error
    except Exception as error:
        if folder is None or not _is_down(error):
            raise
        logger.warning(
            "the Hub cannot be asked for %s; using commit %s of it from this machine's cache", repo, folder.name
        )
        return folder
    wanted = _wanted(names, code)
    if not set(wanted) & set(_CONFIGS):
        held = f"it contains {', '.join(sorted(names)[:8])}" if names else "it is empty"
        raise HubError(
            f"{repo} was not loaded: it has no config.json or adapter_config.json, so it is not a checkpoint "
            f"({held}). Check the name and the revision."
        )

    def download() -> Path:
        folder = Path(snapshot_download(repo, revision=revision, token=token, allow_patterns=[*map(escape, wanted)]))
        # It is an older commit, or incomplete, if the Hub failed inside: then downloading each file says why.
        folder = folder.with_name(commit)
        for name in wanted:
            if not (folder / name).is_file():
                hf_hub_download(repo, name, revision=commit, token=token)
        return folder

    folder = retrying(download, what=what)
    check_content(repo, folder, {name: digests[name] for name in wanted if name in digests})
    missing = _missing(folder)
    if missing:
        raise HubError(
            f"{repo} was not loaded: the Hub's copy of it lacks {_listed(missing)}. Ask its author to push it "
            "again, or use another revision."
        )
    return folder


def _is_down(error: Exception) -> bool:
    """Return whether the Hub gave no answer about this model, so that the copy in the cache may still be right."""
    if isinstance(error, ValueError):
        return False
    response = getattr(error, "response", None)
    return response is None or response.status_code in (408, 429) or response.status_code >= 500


# --------------------------------------------------------------------------------------------------------- the cache


def _from_cache(repo: str, revision: str | None) -> Path:
    """Return the cached snapshot without asking the Hub.

    Raises:
        LocalEntryNotFoundError: there is none.
        HubError: it is not complete.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[*_CONFIGS]))
    try:
        names = [file.path for file in get_cached_repo_tree(repo, revision=folder.name)]
    except CachedRepoTreeNotFoundError:  # cached by a program that keeps no list of the files
        names = []
    _refuse_leaving(names, repo)
    missing = [name for name in _wanted(names, code=False) if not (folder / name).is_file()] or _missing(folder)
    if missing:
        raise HubError(
            f"{repo} was not loaded: this machine's cache has only a part of it and lacks {_listed(missing)}, and "
            "HF_HUB_OFFLINE=1 forbids asking the Hub for the rest. Unset HF_HUB_OFFLINE and try again."
        )
    check_content(repo, folder, cached_digests(folder, os.listdir(folder)), remove=False)
    return folder


def _cached_or_none(repo: str, revision: str | None) -> Path | None:
    try:
        return _from_cache(repo, revision)
    except (OSError, ValueError) as error:
        logger.debug("%s is not complete in the cache: %s", repo, error)
        return None


# ----------------------------------------------------------------------------------------------------------- files


def _wanted(names: Iterable[str], code: bool) -> list[str]:
    """Return the names of the files of a repository that belong to the checkpoint."""
    names = [name for name in names if "/" not in name or name.partition("/")[0] in _FOLDERS or name.endswith(".py")]
    suffixes = (*_SUFFIXES, ".py") if code else _SUFFIXES
    wanted = [name for name in names if name.endswith(suffixes) and not name.endswith(_PICKLES)]
    stem, pickled = stems_of_weights("adapter_config.json" in names)
    safe = [name for name in names if name.endswith(".safetensors") and not name.startswith(_OTHER_FORMATS)]
    if any(name.startswith(stem) for name in safe):
        return [*wanted, *safe]
    return [*wanted, *safe, *(name for name in names if name.startswith(pickled) and name.endswith(_PICKLES))]


def stems_of_weights(is_peft: bool) -> tuple[str, str]:
    """Return how the names of weight files begin: of safetensors, and of pickles.

    Example:
        >>> stems_of_weights(is_peft=False)
        ('model', 'pytorch_model')
    """
    return ("adapter_model", "adapter_model") if is_peft else ("model", "pytorch_model")


def _missing(folder: Path) -> list[str]:
    """Return the names of the files that a checkpoint needs and this folder lacks."""
    if not any((folder / name).is_file() for name in _CONFIGS):
        return ["config.json"]
    shards = _indexed(folder)
    if shards:
        return [name for name in shards if not (folder / name).is_file()]
    stem, pickled = stems_of_weights((folder / "adapter_config.json").is_file())
    found = [*folder.glob(f"{stem}*.safetensors"), *folder.glob(f"{pickled}*.bin")]
    return [] if found else [f"{stem}.safetensors"]


def _indexed(folder: Path) -> list[str]:
    """Return the shards that the index of the weights names; none if there is no index."""
    for name in _INDEXED:
        path = folder / f"{name}.index.json"
        if path.is_file() and not (folder / name).is_file():
            index = read_json(path, advice=_ADVICE)
            try:
                shards = sorted({check_name_inside(shard, where=str(path)) for shard in index["weight_map"].values()})
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is damaged (it has no weight_map): {_ADVICE}") from error
            return shards
    return []


def _refuse_leaving(names: Iterable[str], where: str) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
            raise ValueError(f"{where} names the file {name!r}, which leads out of the checkpoint's folder")
        if not name.isprintable():  # progress bars of huggingface_hub show names as they are
            raise ValueError(f"{where} names the file {name!r}, which has characters that cannot be printed")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
