"""Download single files of a model, such as the answers and scores that were pushed with it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..printable import printable_errors
from .answers import check_content, check_revision, check_sha, checked_answers, digests_of
from .errors import HubError, explained
from .retry import retrying

__all__ = ["fetch_files"]

LARGEST_FILE = 2**30
"""Bytes. The answers to a million questions have a quarter of it."""


@printable_errors()
def fetch_files(
    repo: str,
    names: Sequence[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    needs_first: bool = True,
) -> dict[str, Path]:
    """Download files of a model on the Hub, of one commit, and compare them with the digests that the Hub announces.

    With `HF_HUB_OFFLINE=1`, the files are those in this machine's cache.

    Args:
        repo: the name of the model, `owner/name`.
        names: the names of the files. The first one is needed, the others may be missing.
        revision: branch, tag or commit.
        token: Hub token; `None` takes that of the login.
        needs_first: whether the first file is needed, or any of them.

    Returns:
        Name -> path in this machine's cache, for the files that are there.

    Raises:
        HubError: the Hub has no such model, revision or file, refuses access or cannot be reached, or a file is too
            large or has another content than announced.
        ValueError: `revision` cannot be one.

    Example:
        >>> fetch_files("alice/unichart-chartqa", ["predictions.jsonl", "metrics.json"])  # doctest: +SKIP
        {'predictions.jsonl': PosixPath('...'), 'metrics.json': PosixPath('...')}
        >>> fetch_files("alice/unichart-chartqa", ["metrics.json"], revision="../../elsewhere")
        Traceback (most recent call last):
        ...
        ValueError: alice/unichart-chartqa: revision must be a branch, tag or commit, got '../../elsewhere'
    """
    check_revision(repo, revision)
    with explained("load", repo, revision=revision, token=token), checked_answers(repo):
        return _fetched(repo, names, revision, token, needs_first)


def _fetched(
    repo: str, names: Sequence[str], revision: str | None, token: str | bool | None, needs_first: bool
) -> dict[str, Path]:
    from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        cached = {name: try_to_load_from_cache(repo, name, revision=revision) for name in names}
        found = {name: Path(path) for name, path in cached.items() if isinstance(path, str)}
        if not found or (needs_first and names[0] not in found):
            hf_hub_download(repo, names[0], revision=revision, local_files_only=True)  # its error says why
        return found
    what = f"the download of {names[0]} of {repo}"
    info = retrying(
        lambda: HfApi(token=token).model_info(repo, revision=revision, files_metadata=True), attempts=4, what=what
    )
    try:
        commit = check_sha(repo, info.sha)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
        digests = digests_of(info.siblings or ())
    except (KeyError, TypeError, AttributeError) as error:  # huggingface_hub expects every field
        raise HubError(
            f"{repo} was not loaded: the Hub's answer about it lacks something, or has it in another form "
            f"({type(error).__name__}). Check HF_ENDPOINT and the proxy, if you use one."
        ) from error
    wanted = [name for name in names if name in sizes]
    if not wanted or (needs_first and names[0] not in sizes):
        missing = names[0] if needs_first else " and no ".join(names)
        raise HubError(f"{repo} was not loaded: it has no {missing}. See its files, or use another revision.")
    for name in wanted:
        if (sizes[name] or 0) > LARGEST_FILE:
            raise HubError(f"{repo} was not loaded: {name} has {sizes[name]:,} bytes, more than {LARGEST_FILE:,}.")

    def download(name: str) -> Path:
        # By the name of the branch, so that it is found in the cache later; by the commit if the branch has moved on.
        path = Path(hf_hub_download(repo, name, revision=revision, token=token))
        return path if path.parent.name == commit else Path(hf_hub_download(repo, name, revision=commit, token=token))

    found = {name: retrying(partial(download, name), attempts=4, what=what) for name in wanted}
    check_content(repo, found[wanted[0]].parent, {name: digests[name] for name in wanted if name in digests})
    return found
