"""Data files of a dataset on the Hub: all of them lie in its repository, whatever its card says."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..files import read_regular
from ..hub.errors import HubError
from .cells import shorten

logger = logging.getLogger(__name__)

# Both can name data files, the second without being shown on the page of the dataset.
_CARDS = ("README.md", ".huggingface.yaml")
_LARGEST_CARD = 2**24


def check_card(name: str, revision: str | None, token: str | bool | None) -> None:
    """Refuse a dataset whose card names data files outside its repository, before `datasets` looks for them.

    Looking for them alone would send requests to any address, with the user's token to other repositories. A card that
    cannot be fetched or parsed is passed over: loading the dataset says why.

    Args:
        name: `owner/name` on the Hub.
        revision: branch, tag or commit; `None` for `main`.
        token: as in `load_dataset`.

    Raises:
        HubError: a data file is an address, or a path that leads out of the repository.
    """
    from huggingface_hub import hf_hub_download

    for filename in _CARDS:
        try:
            path = hf_hub_download(name, filename, repo_type="dataset", revision=revision, token=token)
            text = read_regular(path, _LARGEST_CARD).decode("utf-8-sig")
            content = _parsed(text if filename.endswith(".yaml") else _header(text))
        except HubError:  # an answer that the Hub cannot have given
            raise
        except Exception as error:  # of the HTTP client, of the parser, of invalid names
            logger.debug("%s of %s is not checked: %s", filename, name, error)
            continue
        for place in _named(content):
            if not is_inside(place):
                raise HubError(
                    f"{name} was not loaded: its {filename} names the data file {shorten(place)}, which is not in its "
                    "repository. Report the dataset to the Hub, and do not trust its other files"
                )


def check_resolved(loaded: Mapping[str, Any], name: str) -> None:
    """Check that the files that a dataset was made of are files of its repository.

    Raises:
        HubError: a file lies in another place.
    """
    for records in loaded.values():
        for file in getattr(getattr(records, "info", None), "download_checksums", None) or ():
            if "://" in str(file) and not str(file).rpartition("::")[2].startswith(f"hf://datasets/{name}@"):
                raise HubError(
                    f"{name} was not loaded: it is made of {shorten(str(file))}, which is not in its repository"
                )


def is_inside(place: str) -> bool:
    """Return whether a path or pattern of data files cannot lead out of its repository.

    Example:
        >>> [is_inside(place) for place in ("data/train-*", "../x", "/etc/passwd", "file:///etc/passwd", "zip://*::a")]
        [True, False, False, False, False]
    """
    if re.search(r"::|:/|^[/~]|^[A-Za-z]:|\\", place):
        return False
    return ".." not in place.split("/")


def _header(text: str) -> str:
    """Return the YAML block of a card, found as `datasets` finds it: white space may precede it."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    found = REGEX_YAML_BLOCK.search(text)
    return found[2] if found else ""


def _parsed(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def _named(content: Any) -> Iterator[str]:
    """Yield the paths and patterns of data files in the content of a card."""
    configs = content.get("configs") if isinstance(content, Mapping) else None
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, Mapping):
            yield from (str(config[key]) for key in ("data_dir",) if config.get(key) is not None)
            yield from _texts(config.get("data_files"))


def _texts(files: Any) -> Iterator[str]:
    if isinstance(files, str):
        yield files
    elif isinstance(files, Mapping):
        for key, value in files.items():
            if key != "split":
                yield from _texts(value)
    elif isinstance(files, list):
        for file in files:
            yield from _texts(file)
