"""Rewards for reinforcement learning with TRL's `GRPOTrainer`: the metrics themselves, the format and the length.

The functions have the signature that TRL (1.16) calls: `completions` (texts, or lists of messages), the columns of the
data set as lists in keyword arguments, and one reward per completion in return. A reward of None leaves a completion
out, as TRL documents. Options are set with `functools.partial`, which TRL names and pickles like the function itself:

    GRPOTrainer(
        model=model,
        reward_funcs=[partial(relaxed_accuracy_reward, extract="answer_tag"), format_reward],
        train_dataset=as_grpo_dataset(load_chartqa(..., split="train")),
    )

TRL is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from .accuracy import per_example_correctness
from .correctness import scorer_of
from .entries import is_missing, listed, plain, truth, whole_number
from .extraction import Extractor, extracted
from .programs import FAILED
from .tables import per_example_table_scores


def relaxed_accuracy_reward(
    completions: Sequence[str | Sequence[Mapping[str, Any]]],
    *,
    answer: Iterable[object],
    variant: str = "pix2struct",
    extract: str | Extractor | None = None,
    strip: bool = False,
    year_flags: Iterable[object] | None = None,
    question_type: Iterable[str | None] | None = None,
    exact_choice: bool = False,
    **columns: object,
) -> list[float | None]:
    """Return the relaxed correctness of each completion: the score that `per_example_correctness` gives it.

    Args:
        completions: the generated texts, or lists of messages, of which the last one's text counts.
        answer: the label of each completion, or its accepted answers; the column `answer` of the data set.
        variant, extract, exact_choice: as in `per_example_correctness`.
        strip: remove outer white space first, as evaluation does with all that a model generates. By default
            completions are scored as they are, as `relaxed_correctness` does.
        year_flags, question_type: the columns of these names, for `chartqapro`.
        columns: other columns and arguments of TRL, which are ignored.

    Returns:
        A float between 0 and 1 per completion, or None where the label is missing (None, NaN or an empty list).

    Raises:
        ValueError: lengths differ, or the variant or extraction is unknown. `detect_decimal_comma`, which needs the
            labels of a whole data set, is refused.
        TypeError: a completion is neither a text nor a list of messages with text.

    Example:
        >>> relaxed_accuracy_reward(["104", [{"role": "assistant", "content": "Peru"}]], answer=["100", "Chile"])
        [1.0, 0.0]
    """
    scorer_of(variant)  # refuses what a batch does not decide
    texts = _texts(completions, strip=truth("strip", strip))
    labels = _column("answer", answer, len(texts))
    flags = None if year_flags is None else _column("year_flags", year_flags, len(texts))
    kinds = None if question_type is None else _column("question_type", question_type, len(texts))
    kept = [i for i, label in enumerate(labels) if not _unlabeled(label)]
    scores = per_example_correctness(
        predictions=[texts[i] for i in kept],
        references=[labels[i] for i in kept],
        variant=variant,
        year_flags=None if flags is None else [flags[i] for i in kept],
        question_types=None if kinds is None else [kinds[i] for i in kept],
        exact_choice=exact_choice,
        extract=extract,
    )
    rewards: list[float | None] = [None] * len(texts)
    for i, score in zip(kept, scores, strict=True):
        rewards[i] = score
    return rewards


def table_reward(
    completions: Sequence[str | Sequence[Mapping[str, Any]]],
    *,
    answer: Iterable[object],
    variant: str = "default",
    score: str = "rms_f1",
    extract: str | Extractor | None = None,
    **columns: object,
) -> list[float | None]:
    """Return how well the table in each completion agrees with the right one: a score of `per_example_table_scores`.

    Args:
        completions: as in `relaxed_accuracy_reward`; tables in any linearization that `parse_table` reads.
        answer: the table of each chart as a text, or its accepted tables; the column `answer` of the data set.
        variant: as in `table_scores`.
        score: the name of the score: `"rms_f1"`, `"rnss"` or another one of the variant.
        extract: a name from `EXTRACTORS` or a callable, applied first: `"after_think"` for models that reason.
        columns: other columns and arguments of TRL, which are ignored.

    Returns:
        A float between 0 and 1 per completion, or None where the table is missing (None, NaN or an empty list).

    Raises:
        ValueError: lengths differ, the variant, score or extraction is unknown, or a right table is too large.
        TypeError: a completion is neither a text nor a list of messages with text.

    Example:
        >>> table_reward(["Year | EU & 2019 | 4", "no idea"], answer=["Year,EU\\n2019,4", "Year,EU\\n2019,4"])
        [1.0, 0.0]
    """
    texts, _ = extracted(_texts(completions), extract)
    labels = _column("answer", answer, len(texts))
    kept = [i for i, label in enumerate(labels) if not _unlabeled(label)]
    each = per_example_table_scores(
        predictions=[texts[i] for i in kept], references=[labels[i] for i in kept], variant=variant
    )
    if each and (not isinstance(score, str) or score not in each[0]):
        raise ValueError(f"score must be one of {', '.join(map(repr, each[0]))} for {variant!r}, and is {score!r}")
    rewards: list[float | None] = [None] * len(texts)
    for i, scores in zip(kept, each, strict=True):
        rewards[i] = scores[score]
    return rewards


def format_reward(
    completions: Sequence[str | Sequence[Mapping[str, Any]]],
    *,
    extract: str | Extractor = "auto",
    **columns: object,
) -> list[float]:
    """Return 1.0 for each completion in which an extraction finds an answer, else 0.0.

    An empty answer, and a program that fails, are no answers.

    Args:
        completions: as in `relaxed_accuracy_reward`.
        extract: a name from `EXTRACTORS`, or a callable as in `extracted`.
        columns: the columns of the data set and arguments of TRL, which are ignored.

    Raises:
        ValueError: the extraction is unknown or None.
        TypeError: a completion is neither a text nor a list of messages with text.

    Example:
        >>> format_reward(["12 + 8 <answer>20</answer>", "20"], extract="answer_tag")
        [1.0, 0.0]
    """
    if extract is None:
        raise ValueError("format_reward needs the name of an extraction in extract=, such as 'answer_tag'")
    rewards = []
    for text in _texts(completions):
        (answer,), found = extracted([text], extract)
        rewards.append(float(bool(found and answer.strip() and answer != FAILED)))
    return rewards


def length_reward(
    completions: Sequence[str | Sequence[Mapping[str, Any]]],
    *,
    completion_ids: Sequence[Sequence[int]] | None = None,
    max_length: int = 256,
    margin: int = 64,
    **columns: object,
) -> list[float]:
    """Return 1.0 for each completion that is short enough, falling to 0.0 at `max_length`.

    It is the soft punishment of overlong answers of DAPO (Yu et al. 2025, arXiv:2503.14476, equation 13) plus one:
    1 up to `max_length - margin` tokens, `(max_length - n) / margin` for n tokens within the margin, and 0 above.

    Args:
        completions: as in `relaxed_accuracy_reward`.
        completion_ids: the tokens of each completion, as TRL passes them. Without them, words between white space
            are counted.
        max_length: tokens from which the reward is 0.
        margin: tokens over which it falls; 0 for a step.
        columns: the columns of the data set and other arguments of TRL, which are ignored.

    Raises:
        ValueError: lengths differ, `max_length` is below 1, or `margin` is negative or above `max_length`.
        TypeError: a completion is neither a text nor a list of messages with text.

    Example:
        >>> length_reward(["a", "b", "c"], completion_ids=[[1] * 80, [1] * 90, [1] * 101], max_length=100, margin=20)
        [1.0, 0.5, 0.0]
    """
    max_length, margin = whole_number("max_length", max_length, 1), whole_number("margin", margin, 0)
    if margin > max_length:
        raise ValueError(f"margin must be at most max_length, {max_length}, and is {margin}")
    texts = _texts(completions)
    if completion_ids is None:
        lengths = [len(text.split()) for text in texts]
    else:
        lengths = [len(ids) for ids in _column("completion_ids", completion_ids, len(texts))]
    return [
        1.0 if n <= max_length - margin else max(0.0, (max_length - n) / margin) if margin else 0.0 for n in lengths
    ]


def grpo_prompt(question: str, *, prompt: str = "{question}", system: str | None = None) -> dict[str, Any]:
    """Return the column `prompt` of TRL's format for a question: a conversation whose next turn is the answer.

    Args:
        question: the question about the chart.
        prompt: the user's message; `{question}` stands for the question. Ask here for the format that is rewarded.
        system: a system message before it.

    Raises:
        ValueError: `prompt` does not contain `{question}`.

    Example:
        >>> grpo_prompt("How many?", prompt="{question} Answer briefly.")
        {'prompt': [{'role': 'user', 'content': 'How many? Answer briefly.'}]}
    """
    if "{question}" not in prompt:
        raise ValueError(f"prompt must contain {{question}}, which stands for the question, and is {prompt!r}")
    # str.format would read the braces of a question or of an example in the prompt.
    messages = [{"role": "user", "content": prompt.replace("{question}", question)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"prompt": messages}


def as_grpo_dataset(dataset: Any, *, prompt: str = "{question}", system: str | None = None) -> Any:
    """Return a data set of `load_chartqa` in the format of TRL's `GRPOTrainer`.

    The column `prompt` (a list of messages) is added. `image` stays, and TRL puts it before the text of the first user
    message. All other columns stay as they are and reach the reward functions, `answer` above all: keep TRL's default
    `remove_unused_columns=False`. Records without an answer are left out, since an empty answer would be rewarded for
    them. No image is decoded.

    Args:
        dataset: a `Dataset`, `IterableDataset`, or a dictionary of them.
        prompt, system: as in `grpo_prompt`.

    Raises:
        ValueError: `prompt` does not contain `{question}`.

    Example:
        >>> from datasets import Dataset
        >>> as_grpo_dataset(Dataset.from_dict({"question": ["How many?"], "answer": ["7"]}))[0]["prompt"]
        [{'role': 'user', 'content': 'How many?'}]
    """
    grpo_prompt("", prompt=prompt, system=system)  # a wrong prompt is refused here, also for a stream
    answered = dataset.filter(_has_answer, input_columns=["answer"])
    return answered.map(partial(grpo_prompt, prompt=prompt, system=system), input_columns=["question"])


def _has_answer(answer: object) -> bool:
    return not _unlabeled(answer) and answer != ""


def _texts(completions: Sequence[Any], *, strip: bool = False) -> list[str]:
    texts = [_text(one, f"completions[{i}]") for i, one in enumerate(listed("completions", completions))]
    return [text.strip() for text in texts] if strip else texts


def _text(completion: Any, where: str) -> str:
    """Return the text of a completion: of a conversation that of its last message, which may be a list of parts."""
    if isinstance(completion, str):
        return completion
    message = completion[-1] if isinstance(completion, (list, tuple)) and completion else None
    if not isinstance(message, Mapping):
        raise TypeError(f"{where} must be a text or a list of messages, and is a {type(completion).__name__}")
    content = message.get("content")
    if content is None or isinstance(content, str):  # a message that only calls tools has no content
        return content or ""
    if not isinstance(content, (list, tuple)) or not all(isinstance(part, Mapping) for part in content):
        raise TypeError(f"the content of {where} must be a text or a list of parts, and is {type(content).__name__}")
    return "".join(str(part.get("text") or "") for part in content)


def _column(name: str, given: Iterable[object], n: int) -> list[Any]:
    values = listed(name, given)
    if len(values) != n:
        raise ValueError(f"there are {n} completions and {len(values)} entries of {name}; one of each is needed")
    return values


def _unlabeled(label: object) -> bool:
    value = plain(label)
    return is_missing(value) or (isinstance(value, (list, tuple)) and all(is_missing(plain(item)) for item in value))
