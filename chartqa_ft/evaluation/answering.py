"""`answer_questions`: batched generation in which every answer is the one that its question would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from ..adapters import Adapter, adapter_for, base_model
from ..adapters.argument_checks import check_count
from ..adapters.generation_checks import check_arguments, check_rows
from ..adapters.image_cost import cost_arguments
from ..adapters.pixels import makes_raw_charts
from ..adapters.tasks.task import QA_NAME
from ..adapters.wrappers import without_autocast
from ..batching.collator import ChartQACollator
from ..batching.rows import CHART_KEY
from ..batching.sampler import ChartSampler
from ..images.opening import snapshot
from ..models.peft_types import check_active_methods
from ..models.swin import chunked_swin_blocks
from ..printable import printable_errors
from ..resources import explaining_memory, is_out_of_memory
from .answer_queue import WINDOW, AnswerQueue
from .arguments import check_objects, checked_images, checked_questions, is_single

MAX_NEW_TOKENS = 128
"""Longest short answer, in tokens."""


@printable_errors()
def answer_questions(
    model: nn.Module,
    processor: Any,
    images: Any,
    questions: Sequence[str] | None = None,
    *,
    task: str | None = None,
    batch_size: int = 8,
    num_beams: int = 1,
    max_new_tokens: int | str = "auto",
    prompt: str | None = None,
    adapter: Adapter | None = None,
    progress: bool | None = None,
    **generation_kwargs: Any,
) -> list[str]:
    """Answer questions on charts.

    Where several ranks share the weights of a model (DeepSpeed ZeRO stage 3, FSDP), each of them must call this
    function at the same time, with questions of its own.

    Args:
        model: a loaded model. It answers on the device that it is on; the mode of each of its modules (train
            or eval) is restored afterwards.
        processor: the processor of the model.
        images: one image per question (a list, a column of a `datasets.Dataset` or another sequence), or a single
            image for all of them. An image is a PIL image, the path of a file, or an array of uint8.
        questions: the questions, as a sequence of str. `None` for a task without a question, such as `table` and
            `summary`: one answer for each image.
        task: what to ask for, such as `"table"`; `None` is the task of the adapter, usually a short answer.
        batch_size: number of questions that are decoded, and charts that are encoded, together. It changes the speed,
            not the answers. In a list of images, questions on the same object or path are answered together, wherever
            they stand.
        num_beams: 1 for greedy decoding, more for beam search.
        max_new_tokens: the longest answer, in tokens; `"auto"`: that of the task, 128 for short answers.
        prompt: template of the prompt with the field `{question}`; `None` uses the prompt of the model.
        adapter: an existing adapter, in place of `adapter_for(model, processor, prompt=prompt)`.
        progress: whether to show a progress bar; `None` shows one if there is more than one batch.
        generation_kwargs: further fields of the generation config, such as `length_penalty`, or arguments of
            `model.generate`, such as `logits_processor`. `prefix_allowed_tokens_fn` gets the number of a question.

    Returns:
        The answers, in the order of the questions.

    Raises:
        MemoryError, RuntimeError: memory ran out; the error, of the class that the allocator raised, has the answers
            so far as its attribute `answers`.
        TypeError: an argument is of a wrong type, or generation does not know one of the settings.
        ValueError: images and questions differ in number, a question is not a str, an image cannot be decoded, a
            setting of generation would have no effect, the task is unknown, or it needs questions and there are none.

    Example:
        >>> from PIL import Image
        >>> from chartqa_ft import tiny_unichart
        >>> model, processor = tiny_unichart("test")  # random weights
        >>> chart = Image.new("RGB", (96, 96), "white")
        >>> questions = ["How many bars are there?", "Which bar is the highest?"]
        >>> answers = answer_questions(model, processor, chart, questions, max_new_tokens=3)
        >>> [type(answer).__name__ for answer in answers]
        ['str', 'str']
    """
    check_objects(model, processor, adapter, prompt)
    if questions is None:
        if not is_single(images) and not hasattr(images, "__len__"):
            raise TypeError(f"images must be an image or a list of images, and is {images!r:.60}")
        questions = [""] * (1 if is_single(images) else len(images))
        needed = False
    else:
        needed = True
    questions = checked_questions(questions)
    images = checked_images(images, len(questions))
    batch_size = check_count("batch_size", batch_size)
    check_active_methods(model)
    if adapter is None:
        adapter = adapter_for(model, processor, prompt=prompt)
    task = adapter.task if task is None else task
    if prompt is not None and task != QA_NAME:
        raise ValueError(
            f"prompt= is that of short answers, and the task is {task!r}: set its prompt by adapter_for(..., prompts=)"
        )
    asks = "{question}" in adapter.task_prompt(task)
    if not needed and asks:
        raise ValueError(f"the task {task!r} asks questions: pass one for each image")
    if not asks and any(question.strip() for question in questions):
        raise ValueError(f"the prompt of the task {task!r} has no question in it: leave the questions out")
    if max_new_tokens == "auto":
        max_new_tokens = adapter.bound_task(task).max_new_tokens or MAX_NEW_TOKENS
    num_beams, max_new_tokens = check_count("num_beams", num_beams), check_count("max_new_tokens", max_new_tokens)
    counts: dict[str, Any] = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
    check_arguments(base_model(model), {**counts, **generation_kwargs})
    check_rows(batch_size, generation_kwargs)
    collate = ChartQACollator(adapter, with_answers=False, raw_charts=makes_raw_charts(adapter))
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    queue = AnswerQueue(adapter, rows_per_call=batch_size, window=WINDOW, **counts, **generation_kwargs)
    answers, done = [""] * len(questions), set[int]()
    hidden = len(questions) <= batch_size if progress is None else not progress
    bar = tqdm(total=len(questions), desc="Answering", unit="question", disable=hidden)

    def texts(row: int) -> dict[str, str]:
        named = {} if task == adapter.task == QA_NAME else {"task": task}
        return {"question": questions[row], **named}

    def example(row: int) -> dict[str, Any]:
        if _is_plain(images):
            return {"image": images[row], **texts(row), CHART_KEY: _chart(images[row])}
        return {"image": snapshot(_read(images, row, questions[row])), **texts(row)}

    def explain() -> str:
        lower = [f"batch_size={batch_size}"] * (batch_size > 1) + [f"num_beams={num_beams}"] * (num_beams > 1)
        lower += [f"max_new_tokens={max_new_tokens}", *_image_advice(model, processor)]
        return (
            f"{len(done)} of {len(questions)} questions are answered, and the error's attribute `answers` holds the "
            f'answers so far ("" for the others). Lower {", ".join(lower)}'
        )

    def answered() -> Iterator[tuple[int, str]]:
        queue.begin(model)
        for rows in _batches(images, batch_size, whole=queue.waits):
            queue.announce_batch()
            batch = collate([example(row) for row in rows])
            yield from queue.add(model, {key: value.to(device) for key, value in batch.items()}, rows)
        queue.follow_batches()
        yield from queue.flush()

    try:
        chunked = chunked_swin_blocks(model) if device.type == "cpu" else nullcontext()
        with bar, chunked, without_autocast(model), explaining_memory("answering questions", explain, answers=answers):
            for row, answer in answered():
                answers[row] = answer
                done.add(row)
                bar.update()
    finally:
        for module, training in modes:
            module.training = training
    return answers


def _batches(images: Sequence[Any], batch_size: int, *, whole: bool) -> Iterator[list[int]]:
    """Yield the rows of each batch, with questions on one chart together.

    A sequence whose images are known only after decoding (not a list or tuple) keeps its order.

    Args:
        images: the image of each question.
        batch_size: number of rows in a batch.
        whole: never split a chart between batches, so that it is encoded once. A batch is larger than `batch_size` if
            one chart has more questions.
    """
    charts = [_chart(image) for image in images] if _is_plain(images) else range(len(images))
    if not whole:
        sampler = ChartSampler(
            len(images), charts=charts, batch_size=batch_size, step_size=batch_size * WINDOW, shuffle=False
        )
        order = [key.row for key in sampler]
        yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))
        return
    rows_of: dict[Any, list[int]] = {}
    for row, chart in enumerate(charts):
        rows_of.setdefault(chart, []).append(row)
    batch: list[int] = []
    for rows in rows_of.values():
        if batch and len(batch) + len(rows) > batch_size:
            yield batch
            batch = []
        batch = batch + rows
    if batch:
        yield batch


def _image_advice(model: nn.Module, processor: Any) -> list[str]:
    """Return what makes charts smaller for a model, in words."""
    return [f"{name} of charts (set_image_cost)" for name in cost_arguments(model, processor)]


def _is_plain(images: Sequence[Any]) -> bool:
    """Return whether no code runs when an image is read, so that one object or path is one picture in a batch."""
    return type(images) in (list, tuple)


def _read(images: Sequence[Any], row: int, question: str) -> Any:
    """Return one of the images; a sequence such as a column of a data set decodes it now."""
    try:
        return images[row]
    except Exception as error:  # decoders raise errors of many types
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"images[{row}], for the question {question!r}, cannot be read ({type(error).__name__}: {error})"
        ) from error


def _chart(image: Any) -> str | int:
    """Return a key that is equal for the same image object and for the same path."""
    return str(image) if isinstance(image, (str, Path)) else id(image)
