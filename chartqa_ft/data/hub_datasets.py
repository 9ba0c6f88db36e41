"""Load datasets of the Hub: exactly the requested revision, from the Hub or from the local cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import read_regular
from ..hub.answers import check_revision, checked_answers
from ..hub.errors import HubError, explained
from ..hub.retry import retrying
from .columns import LayoutError
from .data_files import check_card, check_resolved

logger = logging.getLogger(__name__)

# Arguments that do not change the records of a dataset; with any other one, the cache entry is a different one.
_NEUTRAL = {"token", "cache_dir", "name", "num_proc"}


class MissingDatasetError(HubError, FileNotFoundError):
    """The Hub has no such dataset, or this user has no access to it."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: int | None = None) -> None:
        HubError.__init__(self, message, status=status, retry_after=retry_after)


def load_hub_dataset(name: str, *, revision: str | None, streaming: bool, **load_kwargs: Any) -> Mapping[str, Any]:
    """Load all splits with `datasets.load_dataset`; failures are retried and then explained.

    If the Hub cannot be reached, `datasets` alone takes the newest copy in its cache, whatever its revision. This
    function takes the copy of the commit that `revision` pointed to when the Hub was last asked, or fails.

    Args:
        name: `owner/name` on the Hub.
        revision: Branch, tag or commit; None means `main`.
        streaming: Read over the network instead of downloading first; offline, read from the cache.
        **load_kwargs: Passed to `load_dataset`.

    Raises:
        MissingDatasetError: There is no such dataset, or this user has no access to it.
        HubError: The Hub refused access or cannot be reached, the dataset is not in the cache while offline, or its
            card names data files outside its repository.
        LayoutError: The dataset is a script, which is never run.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    token = load_kwargs.get("token")
    check_revision(name, revision)
    try:
        with explained("load", name, repo_type="dataset", revision=revision, token=token), checked_answers(name):
            if constants.HF_HUB_OFFLINE and (folder := _find_in_cache(name, revision, load_kwargs)):
                return _read_from_cache(folder, name, streaming, load_kwargs)
            return _load_from_hub(name, revision, streaming, load_kwargs)
    except HubError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError) and not isinstance(error.__cause__, GatedRepoError):
            raise MissingDatasetError(str(error), status=error.status, retry_after=error.retry_after) from error
        raise


def explained_reading(records: Iterable[Any], name: str) -> Iterator[Any]:
    """Yield the records of a stream; errors while reading are explained as in `load_hub_dataset`."""
    records = iter(records)
    while True:
        with explained("load", name, repo_type="dataset"), checked_answers(name):
            try:
                record = next(records)
            except StopIteration:
                return
        yield record


def _load_from_hub(name: str, revision: str | None, streaming: bool, load_kwargs: dict[str, Any]) -> Mapping[str, Any]:
    import datasets
    from huggingface_hub import HfApi, constants

    if streaming:  # a cache without tables, so that `datasets` cannot take a copy of another revision from it
        load_kwargs = {**load_kwargs, "cache_dir": str(Path(datasets.config.HF_DATASETS_CACHE) / "streams")}
    what = f"loading the dataset {name}"
    if not constants.HF_HUB_OFFLINE:
        check_card(name, revision, load_kwargs.get("token"))
    try:
        loaded = retrying(
            lambda: datasets.load_dataset(name, revision=revision, streaming=streaming, **load_kwargs), what=what
        )
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError):
        if constants.HF_HUB_OFFLINE:
            raise MissingDatasetError(
                f"{name} was not loaded: HF_HUB_OFFLINE=1 forbids asking the Hub, and revision {revision or 'main'!r} "
                "of the dataset is not in the local cache. Load it once online (without streaming, which stores "
                "nothing) and without HF_HUB_OFFLINE."
            ) from None
        # `datasets` hides the reason: ask the Hub again, which raises it.
        token = load_kwargs.get("token")
        retrying(lambda: HfApi(token=token).dataset_info(name, revision=revision), what=what)
        raise
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise LayoutError(
            f"{name} is a loading script, and code from the Hub is never run ({error}). Use the Hub's own copy of it "
            "in Parquet, if there is one: revision='refs/convert/parquet'."
        ) from error
    check_resolved(loaded, name)
    used, wanted = commit_of(loaded), _known_commit(name, revision)
    if used is None or used == wanted or (wanted is None and not constants.HF_HUB_OFFLINE):
        return loaded
    # The Hub could not be reached, and `datasets` took what it found in its cache.
    folder = _find_in_cache(name, revision, load_kwargs)
    if folder is None:
        raise HubError(
            f"{name} was not loaded: the Hub cannot be reached, and the local cache does not hold revision "
            f"{revision or 'main'!r} of the dataset, but commit {used}. Load it once online and without "
            "HF_HUB_OFFLINE, or pass that commit as revision."
        )
    logger.warning("The Hub cannot be reached for %s; using commit %s from the local cache.", name, wanted)
    return _read_from_cache(folder, name, streaming, load_kwargs)


# --------------------------------------------------------------------------------------------------------- the cache


def commit_of(loaded: Any) -> str | None:
    """Return the commit that a loaded dataset comes from: `datasets` names the folder in its cache after it."""
    splits = loaded.values() if isinstance(loaded, Mapping) else [loaded]
    files = [file["filename"] for split in splits for file in getattr(split, "cache_files", None) or ()]
    commit = Path(files[0]).parent.name if files else ""
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _known_commit(name: str, revision: str | None) -> str | None:
    """Return the commit that `revision` pointed to when the Hub was last asked for it."""
    from huggingface_hub import constants

    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    if revision and ".." in revision:
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    path = folder / (revision or "main")
    try:
        commit = read_regular(path, 1024).decode(errors="replace").strip()
    except OSError:
        return None
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _find_in_cache(name: str, revision: str | None, load_kwargs: Mapping[str, Any]) -> Path | None:
    """Return the folder in the cache with the tables of this revision, None if it was never loaded."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    commit, subset = _known_commit(name, revision), load_kwargs.get("name")
    if commit is None or set(load_kwargs) - _NEUTRAL:
        return None
    owner, _, short = name.rpartition("/")
    top = Path(load_kwargs.get("cache_dir") or config.HF_DATASETS_CACHE).expanduser()
    top /= "___".join([*([owner] if owner else []), camelcase_to_snakecase(short)])
    found = sorted(path for path in top.glob(f"{subset or '*'}/*/{commit}") if path.is_dir())
    if len(found) > 1:
        found = [path for path in found if path.parents[1].name == "default"]
    return found[0] if found else None


def _read_from_cache(folder: Path, name: str, streaming: bool, load_kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    from datasets.packaged_modules.cache.cache import Cache

    builder = Cache(
        cache_dir=load_kwargs.get("cache_dir"),
        dataset_name=name.rpartition("/")[2],
        repo_id=name,
        config_name=folder.parents[1].name,
        version=folder.parent.name,
        hash=folder.name,
    )
    return builder.as_streaming_dataset() if streaming else builder.as_dataset()
