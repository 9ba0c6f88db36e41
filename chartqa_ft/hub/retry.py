"""Call the Hub again when a failure may pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import _cause, _may_pass, _retry_after, _short

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
LONGEST_WAIT = 120
"""Seconds that `retrying` waits at most for the Hub when it says how long; if longer, the caller is told."""


def retrying(
    call: Callable[[], Result], *, attempts: int = 4, what: str = "the Hub", repeatable: bool = True
) -> Result:
    """Call again, after 1, 2, 4, ... s or what the Hub asks for, what failed for a reason that may pass.

    Such are answers 408, 429 and 5xx and connections that break or do not come about, which huggingface_hub does not
    try again itself for commits, listings and downloads. Large files of an upload are left to huggingface_hub and
    hf_xet, which send them up to six times.

    Args:
        call: must be repeatable as a whole: it makes new operations for a commit each time.
        attempts: calls in all.
        what: of the log, e.g. `"the commit to alice/model"`.
        repeatable: `False` where a call whose answer alone was lost must not be done twice, such as opening a pull
            request: it is then repeated only if the Hub refused it or cannot have got it.

    Raises:
        Exception: the last one of `call`, as it is; see `explained`.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Exception as error:
            found = _cause(error)
            if attempt == attempts or found is None or not _may_pass(error, found, repeatable):
                raise
            asked = _retry_after(found)
            if asked is not None and asked > LONGEST_WAIT:
                raise
            seconds = max(2 ** (attempt - 1), asked or 0)
            logger.warning(
                "%s: %s; trying again in %d s (%d of %d)", what, _short(found), seconds, attempt + 1, attempts
            )
            time.sleep(seconds)
    raise ValueError(f"attempts must be at least 1, got {attempts}")
