"""What tests of pushes run in a client process: push a folder and fetch a snapshot, without waiting."""

from __future__ import annotations

import logging
import time

from chartqa_ft.hub.errors import explained
from chartqa_ft.hub.push import push_checkpoint
from chartqa_ft.hub.retry import retrying


def push(folder: str, repo_id: str, **settings) -> dict:
    """What the client's process calls: pushes without waiting; the waits are told."""
    logging.basicConfig(level=logging.INFO)
    slept: list[float] = []
    sleep, time.sleep = time.sleep, slept.append
    try:
        commit = push_checkpoint(folder, repo_id, **settings)
    finally:
        time.sleep = sleep
    return {"url": commit.commit_url, "oid": commit.oid, "pr": commit.pr_url, "slept": slept}


def load(repo_id: str, **settings) -> list[float]:
    """What the client's process calls to fetch a snapshot; returns the waits."""
    from huggingface_hub import snapshot_download

    slept: list[float] = []
    sleep, time.sleep = time.sleep, slept.append
    try:
        with explained("load", repo_id, revision=settings.get("revision"), token=settings.get("token")):
            retrying(lambda: snapshot_download(repo_id, **settings), what=f"fetching {repo_id}")
    finally:
        time.sleep = sleep
    return slept
