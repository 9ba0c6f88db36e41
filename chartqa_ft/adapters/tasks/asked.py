"""Records of other tasks than a short answer, as an adapter encodes them: with the prompt and target of their task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..text import describe, single_answer
from .registry import registered_tasks, task_named
from .task import QA_NAME, Task
from .task_text import TaskText


class TaskSide:
    """The part of an `Adapter` that knows the tasks of records."""

    model_type: str
    task: str = QA_NAME
    """The task of records that name none."""
    given_prompts: Mapping[str, str]
    """Task -> template of the prompt that replaces the published one."""
    tasks: Mapping[str, Task]
    """Tasks that precede registered ones of the same name."""

    def set_tasks(self, task: str | None, prompts: Mapping[str, str] | None, tasks: Mapping[str, Task]) -> None:
        """Take the tasks of an adapter and their prompts, which are resolved where they are first used."""
        self.tasks, self.given_prompts, self.task = dict(tasks), dict(prompts or {}), task or QA_NAME
        self._bound: dict[str, tuple[Task, str]] = {}

    def task_of(self, example: Mapping[str, Any]) -> str:
        """Return the name of the task of a record."""
        return str(example.get("task") or self.task)

    def bound_task(self, name: str) -> Task:
        """Return the task of a name as this adapter uses it.

        Raises:
            ValueError: There is no such task, or this model cannot be prompted for it; the message says what to do.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter = adapter_for(*tiny_unichart("test"), prompts={"table": "<chartqa> table <s_answer>"})
            >>> adapter.bound_task("table").target("Year,EU\\n2019,1204")
            'Year | EU & 2019 | 1204'
        """
        return self._bind(name)[0]

    def task_prompt(self, name: str) -> str:
        """Return the template of the prompt of a task.

        Raises:
            ValueError: As in `bound_task`.

        Example:
            >>> from chartqa_ft import adapter_for, tiny_unichart
            >>> adapter_for(*tiny_unichart("test")).task_prompt("qa")
            '<chartqa> {question} <s_answer>'
        """
        return self._bind(name)[1]

    def known_tasks(self) -> dict[str, Task]:
        """Return all tasks by name: registered ones, and those of this adapter."""
        return {**registered_tasks(), **getattr(self, "tasks", {})}

    def max_new_tokens_of(self, name: str) -> int | None:
        """Return the longest answer of a task in tokens, `None` if the task does not say."""
        return self.known_tasks()[name].max_new_tokens

    def _bind(self, name: str) -> tuple[Task, str]:
        if not hasattr(self, "_bound"):  # a subclass has not called __init__
            self.set_tasks(None, None, {})
        found = self._bound.get(name)
        if found is None:
            task = task_named(name, self.tasks)
            prompt = self.given_prompts.get(name)
            if prompt is None:
                prompt = task.prompt_for(self.model_type) if name != QA_NAME else self.prompt  # type: ignore[attr-defined]
            if "{question}" not in prompt and "{question}" in task.prompt:
                raise ValueError(
                    f"the prompt of the task {name!r} has no field {{question}}, and the task asks a question: "
                    f"{prompt!r}"
                )
            self.check_task_prompt(name, prompt)
            found = self._bound[name] = task.for_adapter(self), prompt
        return found

    def check_task_prompt(self, name: str, prompt: str) -> None:
        """Check that the model can be asked with the prompt of a task; a family extends it."""

    def check_new_prompt(self, prompt: str) -> None:
        """Check a prompt that the model was not trained with; a family extends it."""

    def asked(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return records as they are encoded: those of other tasks than `qa` with the prompt and target of their task.

        Raises:
            ValueError: A task is unknown, or an answer is none of its task; the message names the record.
        """
        if all(self.task_of(example) == QA_NAME for example in examples):
            return examples
        return [self._asked(example) for example in examples]

    def _asked(self, example: Mapping[str, Any]) -> Mapping[str, Any]:
        name, question = self.task_of(example), example.get("question")
        if name == QA_NAME or isinstance(question, TaskText):
            return example
        try:
            task, prompt = self._bind(name)
        except ValueError as error:
            raise ValueError(f"{describe(example)}: {error}") from error
        if "{question}" not in prompt:
            question = ""
        elif not isinstance(question, str):
            return example  # the check of questions names it
        made = {**example, "question": TaskText(question, prompt)}
        answer = single_answer(example)
        if answer is not None and answer != "":
            try:
                made["answer"] = task.target(str(answer))
            except ValueError as error:
                raise ValueError(f"{describe(example)}, of the task {name!r}: {error}") from error
        return made
