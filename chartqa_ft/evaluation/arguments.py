"""Check the arguments of `answer_questions` before any chart is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..adapters.argument_checks import check_model, check_processor, check_prompt, shown
from ..adapters.registry import check_adapter
from ..images.opening import snapshot


def check_objects(model: Any, processor: Any, adapter: Any, prompt: Any) -> None:
    """Check the types of the model, its processor or adapter, and the prompt.

    Raises:
        TypeError: one of them is something else.
        ValueError: the adapter is that of another family, the prompt has no field `{question}`, or both a prompt and
            an adapter are given.
    """
    check_model(model)
    if adapter is None:
        check_processor(processor)
    else:
        check_adapter(adapter, model)
    if prompt is not None:
        check_prompt(prompt)
    if prompt is not None and adapter is not None:
        raise ValueError("prompt= would be ignored with adapter=: pass adapter_for(model, processor, prompt=...)")


def checked_questions(questions: Any) -> list[str]:
    """Return the questions as a list.

    Raises:
        TypeError: they are no list and no other ordered collection.
        ValueError: they are a single str, or one of them is not a str.

    Example:
        >>> checked_questions(iter(["How many bars?"]))
        ['How many bars?']
    """
    if isinstance(questions, str):
        raise ValueError("questions is a single str: pass a list of questions, [question] for one")
    if isinstance(questions, (bytes, Mapping, Set)) or not isinstance(questions, Iterable):
        raise TypeError(f"questions must be a list of str, and is {shown(questions)}")
    questions = list(questions)
    for position, question in enumerate(questions):
        if not isinstance(question, str):
            raise ValueError(f"questions[{position}] is {question!r}, not a str")
    return questions


def checked_images(images: Any, count: int) -> Sequence[Any]:
    """Return one image per question. A single image is repeated.

    Raises:
        TypeError: the images are neither an image nor an ordered collection.
        ValueError: there are more or fewer images than questions.
    """
    if is_single(images):
        return [images] * count
    # A column or a stack of arrays is a collection with indices, though not always a Sequence.
    refused = isinstance(images, (bytes, Mapping, Set, type)) or not isinstance(images, (Iterable, Sequence))
    if refused or (isinstance(images, np.ndarray) and images.ndim == 0):
        raise TypeError(f"images must be an image, a path or a list of them, and is {shown(images)}")
    if not isinstance(images, Sequence):
        # The iterator may change the image that it has given before, or its file.
        images = [snapshot(image) for image in images]
    if len(images) != count:
        raise ValueError(f"{len(images)} images for {count} questions: pass one image per question, or one image")
    return images


def is_single(images: Any) -> bool:
    """Return whether this is a single image. An array of two or three dimensions is one; four are a stack."""
    return isinstance(images, (Image.Image, str, Path)) or (isinstance(images, np.ndarray) and images.ndim in (2, 3))
