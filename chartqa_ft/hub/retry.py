"""Call the Hub again after a failure that may pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from .failures import hub_failure, may_pass, retry_after, summary

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
LONGEST_WAIT = 120
"""Seconds. `retrying` gives up if the Hub asks to wait longer than this."""


def retrying(
    call: Callable[[], Result], *, attempts: int = 4, what: str = "the Hub", repeatable: bool = True
) -> Result:
    """Call a function, again after 1, 2, 4, ... seconds or as long as the Hub asks for, if it fails temporarily.

    Temporary failures are the answers 408, 429 and 5xx and broken or failed connections, which huggingface_hub itself
    does not retry for commits, listings and downloads. Uploads of large files are retried by huggingface_hub and
    hf_xet, up to six times, and not again here.

    Args:
        call: must be repeatable as a whole, so that it makes new operations for a commit each time.
        attempts: the number of calls in all.
        what: name of the operation in the log, such as `"the commit to alice/model"`.
        repeatable: `False` for a call that must not be repeated when only its answer was lost, such as opening a pull
            request. It is then repeated only if the Hub refused it or cannot have received it.

    Returns:
        What `call` returns.

    Raises:
        Exception: the last one of `call`, unchanged; see `explained`.
        ValueError: `attempts` is less than 1.

    Example:
        >>> retrying(lambda: "done", what="the listing of alice/model")
        'done'
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Exception as error:
            failure = hub_failure(error)
            if attempt == attempts or failure is None or not may_pass(error, failure, repeatable=repeatable):
                raise
            asked = retry_after(failure)
            if asked is not None and asked > LONGEST_WAIT:
                raise
            seconds = max(2 ** (attempt - 1), asked or 0)
            logger.warning(
                "%s: %s; trying again in %d s (%d of %d)", what, summary(failure), seconds, attempt + 1, attempts
            )
            time.sleep(seconds)
    raise ValueError(f"attempts must be at least 1, got {attempts}")
