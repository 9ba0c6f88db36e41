"""Tasks by name: those of this library, and those that users register."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from .task import QA_NAME, Task

_REGISTRY: dict[str, Task] = {}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = frozenset({"loss", "n", "relaxed", "accuracy", "share", "runtime", "samples", "steps", "human", "augmented"})
"""First words of the names of metrics without a task."""

TaskClass = TypeVar("TaskClass", bound=type[Task])


def register_task(task: TaskClass) -> TaskClass:
    """Class decorator that registers a task, so that records may name it. A later one of the same name replaces it.

    Raises:
        TypeError: It is not a subclass of `Task`.
        ValueError: It has no name, or its name cannot be part of the names of metrics.

    Example:
        >>> from chartqa_ft import Task, register_task
        >>> @register_task
        ... class ChartType(Task):
        ...     name = "chart_type"
        ...     prompt = "What kind of chart is this?"
        >>> task_named("chart_type")
        ChartType()
    """
    if not isinstance(task, type):
        raise TypeError(f"register_task takes a subclass of Task, got {task!r}: write @register_task above the class")
    _REGISTRY[check_task(task()).name] = task()
    return task


def registered_tasks() -> dict[str, Task]:
    """Return all registered tasks by name.

    Example:
        >>> list(registered_tasks())[:4]
        ['qa', 'open_qa', 'summary', 'table']
    """
    return dict(_REGISTRY)


def task_named(name: str, tasks: Mapping[str, Task] | None = None) -> Task:
    """Return the task of a name.

    Args:
        name: The value of a record's `task`.
        tasks: Tasks that precede registered ones.

    Raises:
        ValueError: There is no such task; the message lists the known ones.
    """
    known = {**_REGISTRY, **(tasks or {})}
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"there is no task {name!r}, but {', '.join(known)}: correct the name, or register your own task with "
            "chartqa_ft.register_task"
        )
    return known[name]


def as_tasks(tasks: Iterable[Task | type[Task]] | None) -> dict[str, Task]:
    """Return given tasks, objects or classes, by name.

    Raises:
        TypeError: One is something else.
        ValueError: The name of one cannot be part of the names of metrics.
    """
    if isinstance(tasks, (str, Mapping)):
        raise TypeError(f"tasks must be a list of Task objects or classes, got {tasks!r:.80}")
    made = [task() if isinstance(task, type) else task for task in tasks or ()]
    return {check_task(task).name: task for task in made}


def check_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Return the prompts of tasks after checking their types.

    Raises:
        TypeError: It is no dict, or a prompt is no text.
        ValueError: It holds a prompt for `qa`, which the argument `prompt` gives.
    """
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping) or not all(isinstance(text, str) for pair in prompts.items() for text in pair):
        raise TypeError(f"prompts must be a dict of task -> template of its prompt, got {prompts!r:.80}")
    if QA_NAME in prompts:
        raise ValueError("prompts has one for 'qa': pass it as prompt")
    return dict(prompts)


def check_task(task: object) -> Task:
    """Return a task after checking its type and its name."""
    if not isinstance(task, Task):
        raise TypeError(f"a task must be a subclass of chartqa_ft.Task, or an object of one, got {task!r:.80}")
    name = getattr(task, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.partition("_")[0] in _TAKEN:
        raise ValueError(
            f"the name of {type(task).__name__} must be a word of lower-case letters, digits and underscores that "
            f"begins no other metric's name, such as 'chart_type', and is {name!r}"
        )
    return task
