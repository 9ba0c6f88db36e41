"""Push your own charts with questions to the Hub: checked, as Parquet with the images inside, with a short card."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..hub.card.markdown import escaped, fenced, literal
from ..hub.errors import HubError, explained
from ..hub.retry import retrying
from ..printable import printable_errors
from .columns import CANONICAL, QA
from .convert import canonical_features
from .load import load_chartqa
from .publishing import announcement, chartqa_charts, refuse_secrets
from .stored_columns import column_values

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from huggingface_hub import CommitInfo, DatasetCard

logger = logging.getLogger(__name__)

__all__ = ["push_dataset"]

# Marks a card that was written here and may be replaced, unlike one that a person wrote.
_MARK = "<!-- Written by chartqa_ft.push_dataset, which replaces all that stands below. -->"
_COUNTS = "chartqa_counts"
_CONTENT = {
    "image": "the chart",
    "question": "a question about it",
    "answer": "the answer; a list is one text, `[2017, 2023]`",
    "source": "`human`, `augmented` or `unknown`",
    "chart_id": "the same for all questions on a chart",
    "question_type": "the type of the question in ChartQAPro",
    "year_flags": "`YES` for each item of the answer that is a year, else `NO`",
    "task": "`qa`, or another task than a short answer to the question",
    "rationale": "the steps to the answer",
}
_TYPES = {"image": "image", "year_flags": "list of texts"}
"""Types of columns that are not texts."""
_SPLIT = re.compile(r"\w+(\.\w+)*")


@printable_errors()
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
    """Push charts with questions to the Hub, so that `load_chartqa(repo_id)` returns the same records.

    All records are read and checked before anything is sent. Images are stored inside the Parquet files, byte for
    byte, with the metadata in them; names of local folders are not sent. Before anything is sent, one line says how
    many charts are pushed and who can read them, and the license of charts with file names of ChartQA. Repeating the
    call after a failure uploads no file twice. A dataset card that a person wrote keeps its text; a missing one, or
    one that this function wrote, is replaced.

    `load_chartqa(repo_id, streaming=True)` returns the same records too; if there are several splits or files, it adds
    a digest to every `chart_id` (see `load_chartqa`).

    Args:
        dataset: Anything that `load_chartqa` takes, except a stream: a `Dataset` or `DatasetDict`, or a file or folder
            with your own charts. The columns that `load_chartqa` gives are pushed; those that only some splits have
            (`task`, `rationale`, ...) are filled up in the others, as a repository has the same in all.
        repo_id: `owner/name` on the Hub; created if it does not exist. A single dataset leaves the other splits of the
            repository as they are, and must have their columns; a dict of datasets replaces all, as
            `DatasetDict.push_to_hub` does.
        split: Name for a single dataset (default: its own name, or `train`), or the one split of several to push.
        private: Make a new repository private. If the repository exists and is public, the push is refused. By default
            everybody can read it, unless the settings of its owner say otherwise.
        token: Hub token; None uses the one that is logged in.
        revision: Branch to push to; created if it does not exist.
        create_pr: Open a pull request instead of changing the branch.
        license: License for the card, by its identifier on the Hub: `"mit"`, `"cc-by-4.0"`, `"other"`, ...
        commit_message: Message of the commit with the records.
        max_shard_size: Largest Parquet file, in bytes or as `"500MB"`.
        **load_kwargs: Passed to `load_chartqa`: `image_dir`, `column_map`, `max_pixels`, ...

    Returns:
        The `CommitInfo` of the last commit. With `create_pr` it has a `.pr_url`, unless there was nothing new.

    Raises:
        RecordError, LayoutError: A record, column or file cannot be used; nothing was sent.
        TypeError: `dataset` is a stream.
        ValueError: The Hub does not allow a name or refuses the card, or a record contains a secret; nothing was sent.
        HubError: The Hub refused the push or cannot be reached; the message says what to do.

    Example:
        >>> from chartqa_ft import push_dataset, synthetic_chartqa
        >>> charts = synthetic_chartqa(3, seed=0)
        >>> push_dataset(charts, "alice/charts", license="cc-by-4.0", private=True)  # doctest: +SKIP
    """
    splits, single = _checked(dataset, split, load_kwargs)
    refuse_secrets(splits, token)
    counts = {name: _count(records) for name, records in splits.items()}
    columns = next(iter(splits.values())).column_names
    from huggingface_hub import DatasetCardData

    with explained("push", repo_id, repo_type="dataset", revision=revision, token=token):
        pushed = splits[single] if single else splits
        repo_id = _full_name(repo_id, token)
        is_public = _visibility(repo_id, private, token)
        logger.log(
            logging.INFO if is_public is False else logging.WARNING,
            "%s",
            announcement(repo_id, counts, is_public=is_public, source=dataset, of_chartqa=_of_chartqa(splits)),
        )
        card = _card("", repo_id, DatasetCardData(), counts, license, columns)
        retrying(lambda: _validate(card), what="checking the card")
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
            return commit  # the branch already holds these records: there is nothing to propose
        target = commit.pr_revision if create_pr else revision
    try:
        with explained("push", repo_id, repo_type="dataset", revision=target, token=token):
            last = retrying(
                lambda: _push_card(repo_id, target, token, counts, license, columns), what=f"the card of {repo_id}"
            )
    except HubError as error:
        why = str(error).removeprefix(f"{repo_id} was not pushed: ")
        message = f"the records of {repo_id} are pushed ({commit.pr_url or commit.commit_url}), but its card is not"
        raise HubError(f"{message}: {why}", status=error.status, retry_after=error.retry_after) from error.__cause__
    # With create_pr, the commit of the card went to the pull request that the first commit opened and names.
    return commit if create_pr else last


def _checked(dataset: Any, split: str | None, load_kwargs: dict[str, Any]) -> tuple[DatasetDict, str | None]:
    """Return all records, checked, with the same columns in all splits, and the name of the split if it is the only
    one."""
    from datasets import Dataset, DatasetDict, IterableDataset

    loaded = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    if any(isinstance(records, IterableDataset) for records in loaded) or load_kwargs.get("streaming"):
        raise TypeError("a stream cannot be pushed, since its records are checked first: load it without streaming")
    if isinstance(dataset, Dataset):
        split = split or str(dataset.split or "train")
        dataset = {split: dataset}
    for name in [*([split] if split else []), *(dataset if isinstance(dataset, Mapping) else [])]:
        if not _SPLIT.fullmatch(str(name)):
            raise ValueError(f"the split {name!r} cannot be pushed: its name may only contain letters, digits and _")
    checked = load_chartqa(dataset, split=split, **load_kwargs)
    splits = {split: checked} if isinstance(checked, Dataset) else checked
    columns = list(dict.fromkeys(name for records in splits.values() for name in records.column_names))
    return DatasetDict({name: _filled_up(records, columns) for name, records in splits.items()}), split


def _filled_up(records: Dataset, columns: Sequence[str]) -> Dataset:
    """Return records of `load_chartqa` with all of `columns`, empty or "qa" where they have none, in this order."""
    features = canonical_features(name for name in columns if name not in CANONICAL)
    for name in columns:
        if name not in records.column_names:
            empty: Any = QA if name == "task" else [] if name == "year_flags" else ""
            records = records.add_column(name, [empty] * len(records), feature=features[name])
    return records.select_columns([*columns])


def _count(records: Any) -> dict[str, int]:
    """Return the number of charts, and of questions by source."""
    sources = Counter(column_values(records, "source"))
    charts = len(set(column_values(records, "chart_id")))
    return {"charts": charts, **{name: sources[name] for name in sorted(sources)}}


def _full_name(repo_id: str, token: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo_id)
    if "/" in repo_id:
        return repo_id
    return f"{retrying(lambda: HfApi(token=token).whoami(), what='whoami')['name']}/{repo_id}"


def _of_chartqa(splits: Mapping[str, Any]) -> int:
    return chartqa_charts({name for records in splits.values() for name in records.with_format(None)["chart_id"]})


def _visibility(repo_id: str, private: bool | None, token: str | None) -> bool | None:
    """Return whether everybody can read a repository; `None` if it is new and its owner's settings decide.

    Raises:
        HubError: it is public and `private` is true, which `datasets` ignores without a warning.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = retrying(lambda: HfApi(token=token).dataset_info(repo_id), what=repo_id)
    except RepositoryNotFoundError:
        return None if private is None else not private
    if private and not info.private:
        raise HubError(
            f"{repo_id} was not pushed: private=True, but a public dataset of this name already exists. Choose "
            "another name, or make that dataset private in its settings."
        )
    return not info.private


# ------------------------------------------------------------------------------------------------------------ the card


def _push_card(
    repo_id: str,
    revision: str | None,
    token: str | None,
    counts: Mapping[str, dict[str, int]],
    license: str | None,
    columns: Sequence[str],
) -> CommitInfo:
    """Complete the card that `datasets` wrote beside the records, which lists the columns and files."""
    from huggingface_hub import DatasetCard, HfApi, hf_hub_download

    path = hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=revision, token=token)
    try:
        old = DatasetCard.load(path, ignore_metadata_errors=True)
    except Exception as error:  # whatever an earlier card makes of huggingface_hub and YAML
        raise HubError(
            f"{repo_id} was not pushed: the card that is there cannot be read ({type(error).__name__}: {error}). "
            "Correct its metadata, and push again."
        ) from error
    card = _card(old.text, repo_id, old.data, counts, license, columns)
    return HfApi(token=token).upload_file(
        path_or_fileobj=str(card).encode(),
        path_in_repo="README.md",
        repo_id=repo_id,
        repo_type="dataset",
        revision=revision,
        commit_message="Describe the data",
    )


def _validate(card: DatasetCard) -> None:
    """Ask the Hub whether the metadata of a card are valid.

    Older versions of huggingface_hub send the card to huggingface.co in `card.validate`, whatever `HF_ENDPOINT` is.

    Raises:
        ValueError: they are not.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status

    body = {"repoType": "dataset", "content": str(card)}
    headers = {"Accept": "text/plain"}
    response = get_session().post(f"{constants.ENDPOINT}/api/validate-yaml", json=body, headers=headers)
    if response.status_code == 400:
        raise ValueError(response.text)
    hf_raise_for_status(response)


def _card(
    text: str,
    repo_id: str,
    data: Any,
    counts: Mapping[str, dict[str, int]],
    license: str | None,
    columns: Sequence[str],
) -> DatasetCard:
    """Return the card, with a new text if `text` is empty or was written here; `data` is changed."""
    from huggingface_hub import DatasetCard

    counts = {**_earlier_counts(data.to_dict()), **counts}
    data[_COUNTS] = counts
    data["task_categories"] = data.get("task_categories", ["visual-question-answering"])
    data["tags"] = [*dict.fromkeys([*data.get("tags", []), "charts", "chartqa_ft"])]
    if license is not None:
        data["license"] = license
    if not text.strip() or _MARK in text:
        text = _text(repo_id, counts, data.get("license"), columns)
    card = DatasetCard(f"---\n{{}}\n---\n{text}", ignore_metadata_errors=True)
    card.data = data
    return card


def _earlier_counts(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the counts in an earlier card, for the splits that have not changed since."""
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


def _text(repo_id: str, counts: Mapping[str, dict[str, int]], license: Any, columns: Sequence[str]) -> str:
    sources = sorted({name for count in counts.values() for name in count if name != "charts"})
    names = [escaped(name) for name in sources]
    described = [f"| `{name}` | {_TYPES.get(name, 'text')} | {_CONTENT[name]} |" for name in columns]
    rows = []
    for split, count in counts.items():
        cells = [count.get("charts", 0), sum(count.get(name, 0) for name in sources)]
        cells += [count.get(name, 0) for name in sources]
        rows.append(f"| {escaped(split)} | {' | '.join(f'{int(cell):,}' for cell in cells)} |")
    load = f"from chartqa_ft import load_chartqa\n\ndataset = load_chartqa({literal(repo_id)})"
    terms = (
        f"The license is {escaped(license)}." if license else "No license is given: ask the author before using it."
    )
    lines = [
        _MARK,
        f"# {escaped(repo_id)}",
        "Charts with questions and answers.",
        fenced(load, "python"),
        "\n".join(["| column | type | content |", "|---|---|---|", *described]),
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
