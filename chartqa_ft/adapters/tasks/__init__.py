"""What a model is asked for, beside a short answer to a question: tables, summaries, open answers, own tasks."""

from .built_in import QA, OpenQA, Summary, TableExtraction
from .registry import register_task, registered_tasks, task_named
from .task import Task

__all__ = ["QA", "OpenQA", "Summary", "TableExtraction", "Task", "register_task", "registered_tasks", "task_named"]
