"""`chartqa-ft push`: a trained model with its processor, prompt, scores and card, in one commit."""

from __future__ import annotations

import argparse

from ..hub.push import push_checkpoint
from ..printable import printable

__all__ = ["add_arguments", "push"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["out", "alice/charts", "--private"]).private
        True
    """
    parser.add_argument("folder", help="The folder of the model, full or PEFT, as a script has written it.")
    parser.add_argument("repo_id", help="owner/name on the Hub, or only the name for a repository of your own.")
    parser.add_argument("--private", action="store_true", default=None, help="Make a new repository private.")
    parser.add_argument("--revision", help="Branch to commit to; created from main if it is missing.")
    parser.add_argument("--create_pr", action="store_true", help="Open a pull request instead of committing.")
    parser.add_argument("--predictions", action="store_true", help="Push predictions.jsonl too.")
    parser.add_argument("--commit_message", default="Upload the model", help="First line of the commit message.")
    parser.set_defaults(run=push)


def push(given: argparse.Namespace) -> None:
    """Push the model, and print where it is. The token is that of `hf auth login`, or HF_TOKEN."""
    commit = push_checkpoint(
        given.folder,
        given.repo_id,
        private=given.private,
        revision=given.revision,
        create_pr=given.create_pr,
        predictions=given.predictions,
        commit_message=given.commit_message,
    )
    print(f"pushed: {printable(commit.pr_url or commit.commit_url)}")
