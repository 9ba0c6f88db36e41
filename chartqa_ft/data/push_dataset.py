"""Own charts with questions to the Hub: checked, as Parquet with the images inside, with a short card."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..hub.card.markdown import escaped, fenced, literal
from ..hub.errors import HubError, explained
from ..hub.retry import retrying
from .columns import CANONICAL
from .load import load_chartqa

if TYPE_CHECKING:
    from datasets import DatasetDict
    from huggingface_hub import CommitInfo, DatasetCard

__all__ = ["push_dataset"]

# What tells a card of ours, that may be written anew, from one that somebody wrote.
_MARK = "<!-- Written by chartqa_ft.push_dataset, which replaces all that stands below. -->"
_COUNTS = "chartqa_counts"
_CONTENT = {
    "image": "the chart",
    "question": "the question on it",
    "answer": "the answer; a list is one text, `[2017, 2023]`",
    "source": "`human`, `augmented` or `unknown`",
    "chart_id": "equal for all questions on one chart",
}
_SPLIT = re.compile(r"\w+(\.\w+)*")


def push_dataset(
    dataset: Any,
    repo_id: str,
    *,
    split: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
    commit_message: str | None = None,
    max_shard_size: int | str | None = None,
    **load_kwargs: Any,
) -> CommitInfo:
    """Push charts with questions to the Hub, so that `load_chartqa(repo_id)` gives back the same records.

    All records are read and checked before anything is sent. Every image goes along as it is stored, inside the
    Parquet files; names of folders of this machine do not. The same call again after a failure sends no stored file
    twice. A card that somebody wrote keeps its text; one of ours, or a missing one, is written anew.

    `load_chartqa(repo_id, streaming=True)` gives the same records too; where there are several splits or files it adds
    a mark to every `chart_id`, see there.

    Args:
        dataset: what `load_chartqa` takes: a `Dataset` or `DatasetDict`, or a file or folder with own charts. Only the
            canonical columns are pushed.
        repo_id: `owner/name` on the Hub; made if it is not there. A single data set leaves its other splits as they
            are; a dict of them replaces all, as `DatasetDict.push_to_hub` does.
        split: what to call a single data set (default: its own name, or `train`), or the one split to take of several.
        private: make a new repository private. A repository that is public already is then refused.
        token: Hub token; None takes the one that is logged in.
        revision: branch to push to, made if it is not there.
        create_pr: open a pull request instead of changing the branch.
        license: for the card, a name that the Hub knows: `"mit"`, `"cc-by-4.0"`, `"other"`, ...
        commit_message: of the commit with the records.
        max_shard_size: largest Parquet file, in bytes or like `"500MB"`.
        load_kwargs: for `load_chartqa`: `image_dir`, `column_map`, `max_pixels`, ...

    Returns:
        What huggingface_hub tells about the last commit; `.pr_url` with `create_pr`, unless there was nothing new.

    Raises:
        RecordError, LayoutError: a record, column or file that cannot be used; nothing was sent.
        TypeError: `dataset` is a stream.
        ValueError: a name that the Hub does not allow, or a card that it refuses; nothing was sent.
        HubError: the Hub refused it or cannot be reached; the message says what to do.
    """
    splits, single = _checked(dataset, split, load_kwargs)
    counts = {name: _count(part) for name, part in splits.items()}
    from huggingface_hub import DatasetCardData

    with explained("push", repo_id, repo_type="dataset", revision=revision, token=token):
        pushed = splits[single] if single else splits
        repo_id = _full_name(repo_id, token)
        _check_visibility(repo_id, private, token)
        card = _card("", repo_id, DatasetCardData(), counts, license)
        retrying(lambda: card.validate(repo_type="dataset"), what="checking the card")
        commit = retrying(
            lambda: pushed.push_to_hub(
                repo_id,
                **({"split": single} if single else {}),
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message or "Upload charts with questions",
                max_shard_size=max_shard_size,
            ),
            what=f"pushing {repo_id}",
            repeatable=not create_pr,
        )
        if create_pr and not commit.pr_revision:
            return commit  # the branch holds these very records already: there is nothing to propose
        target = commit.pr_revision if create_pr else revision
    try:
        with explained("push", repo_id, repo_type="dataset", revision=target, token=token):
            last = retrying(lambda: _push_card(repo_id, target, token, counts, license), what=f"the card of {repo_id}")
    except HubError as error:
        why = str(error).removeprefix(f"{repo_id} was not pushed: ")
        told = f"the records of {repo_id} are pushed ({commit.pr_url or commit.commit_url}), but its card is not"
        raise HubError(f"{told}: {why}", status=error.status, retry_after=error.retry_after) from error.__cause__
    # The commit of the card went to a pull request that is open already, and does not name it.
    return commit if create_pr else last


def _checked(dataset: Any, split: str | None, load_kwargs: dict[str, Any]) -> tuple[DatasetDict, str | None]:
    """All records in the canonical columns, every one of them checked, and the name of the split if it is a single."""
    from datasets import Dataset, DatasetDict, IterableDataset

    parts = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    if any(isinstance(part, IterableDataset) for part in parts) or load_kwargs.get("streaming"):
        raise TypeError("a stream cannot be pushed: its records are checked first; load it without streaming")
    if isinstance(dataset, Dataset):
        split = split or str(dataset.split or "train")
        dataset = {split: dataset}
    for name in [*([split] if split else []), *(dataset if isinstance(dataset, Mapping) else [])]:
        if not _SPLIT.fullmatch(str(name)):
            raise ValueError(f"the split {name!r} cannot be pushed: its name may hold letters, digits and _ alone")
    loaded = load_chartqa(dataset, split=split, **load_kwargs)
    splits = {split: loaded} if isinstance(loaded, Dataset) else loaded
    return DatasetDict({name: part.select_columns([*CANONICAL]) for name, part in splits.items()}), split


def _count(part: Any) -> dict[str, int]:
    texts = part.with_format(None).select_columns(["source", "chart_id"])
    sources = Counter(texts["source"])
    return {"charts": len(set(texts["chart_id"])), **{name: sources[name] for name in sorted(sources)}}


def _full_name(repo_id: str, token: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo_id)
    if "/" in repo_id:
        return repo_id
    return f"{retrying(lambda: HfApi(token=token).whoami(), what='whoami')['name']}/{repo_id}"


def _check_visibility(repo_id: str, private: bool | None, token: str | None) -> None:
    """`datasets` pushes what was to be private into a public repository without a word."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    if not private:
        return
    try:
        info = retrying(lambda: HfApi(token=token).dataset_info(repo_id), what=repo_id)
    except RepositoryNotFoundError:
        return
    if not info.private:
        raise HubError(
            f"{repo_id} was not pushed: private=True, but there is a public data set of this name already. Choose "
            "another name, or make that one private in its settings."
        )


# ------------------------------------------------------------------------------------------------------------ the card


def _push_card(
    repo_id: str, revision: str | None, token: str | None, counts: Mapping[str, dict[str, int]], license: str | None
) -> CommitInfo:
    """Fill in the card that `datasets` left beside the records, which names the columns and files."""
    from huggingface_hub import DatasetCard, HfApi, hf_hub_download

    path = hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=revision, token=token)
    old = DatasetCard.load(path, ignore_metadata_errors=True)
    card = _card(old.text, repo_id, old.data, counts, license)
    return HfApi(token=token).upload_file(
        path_or_fileobj=str(card).encode(),
        path_in_repo="README.md",
        repo_id=repo_id,
        repo_type="dataset",
        revision=revision,
        commit_message="Describe the data",
    )


def _card(
    text: str, repo_id: str, data: Any, counts: Mapping[str, dict[str, int]], license: str | None
) -> DatasetCard:
    """The card with its text in place of `text`, if that is ours or empty; `data` is changed."""
    from huggingface_hub import DatasetCard

    counts = {**_earlier_counts(data.to_dict()), **counts}
    data[_COUNTS] = counts
    data["task_categories"] = data.get("task_categories", ["visual-question-answering"])
    data["tags"] = [*dict.fromkeys([*data.get("tags", []), "charts", "chartqa_ft"])]
    if license is not None:
        data["license"] = license
    if not text.strip() or _MARK in text:
        text = _text(repo_id, counts, data.get("license"))
    card = DatasetCard(f"---\n{{}}\n---\n{text}", ignore_metadata_errors=True)
    card.data = data
    return card


def _earlier_counts(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """What a card of ours says about splits that are still as they were then."""
    info = data.get("dataset_info")
    splits = info.get("splits") if isinstance(info, dict) else None
    sizes = {one.get("name"): one.get("num_examples") for one in splits or () if isinstance(one, dict)}
    counts = data.get(_COUNTS)
    kept = {}
    for split, count in counts.items() if isinstance(counts, dict) else ():
        if isinstance(count, dict) and all(isinstance(number, int) for number in count.values()):
            total = sum(number for name, number in count.items() if name != "charts")
            if sizes.get(split) == total:
                kept[split] = count
    return kept


def _text(repo_id: str, counts: Mapping[str, dict[str, int]], license: Any) -> str:
    sources = sorted({name for count in counts.values() for name in count if name != "charts"})
    names = [escaped(name) for name in sources]
    columns = [f"| `{name}` | {'image' if name == 'image' else 'text'} | {_CONTENT[name]} |" for name in CANONICAL]
    rows = []
    for split, count in counts.items():
        cells = [count.get("charts", 0), sum(count.get(name, 0) for name in sources)]
        cells += [count.get(name, 0) for name in sources]
        rows.append(f"| {escaped(split)} | {' | '.join(f'{int(cell):,}' for cell in cells)} |")
    load = f"from chartqa_ft import load_chartqa\n\ndataset = load_chartqa({literal(repo_id)})"
    terms = (
        f"The licence is {escaped(license)}." if license else "No licence is given: ask its author before using it."
    )
    lines = [
        _MARK,
        f"# {escaped(repo_id)}",
        "Charts, with questions on them and their answers.",
        fenced(load, "python"),
        "\n".join(["| column | type | content |", "|---|---|---|", *columns]),
        "\n".join(
            [
                f"| split | charts | questions | {' | '.join(names)} |",
                f"|---|{'---:|' * (2 + len(names))}",
                *rows,
            ]
        ),
        terms,
    ]
    return "\n\n".join(map(str, lines)) + "\n"
