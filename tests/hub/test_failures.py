"""What the exceptions of the Hub's clients say."""

from __future__ import annotations

import errno

import pytest

from chartqa_ft.hub.failures import (
    chain,
    class_names,
    hub_failure,
    is_full_disk,
    is_transport,
    may_pass,
    retry_after,
    status_of,
    summary,
)

from .answers import answered, from_cause, http_package


def test_a_chain_ends_where_a_traceback_does():
    first, second = ValueError("first"), KeyError("second")
    second.__context__ = first
    assert list(chain(second)) == [second, first]
    second.__suppress_context__ = True
    assert list(chain(second)) == [second]
    from_cause(first, second)
    from_cause(second, first)
    assert list(chain(first)) == [first, second]  # a circle ends too
    assert list(chain(None)) == []


def test_the_most_telling_error_of_a_chain():
    http, answer = http_package(), answered(403)
    wrapped = from_cause(RuntimeError("Error while uploading"), answer)
    assert hub_failure(wrapped) is answer
    reset = http.ReadError("reset")
    assert hub_failure(from_cause(OSError("cannot load"), reset)) is reset
    full = OSError(errno.ENOSPC, "No space left on device")
    assert hub_failure(from_cause(OSError("cannot load"), from_cause(reset, full))) is full
    for other in (KeyError("x"), ValueError("x"), RuntimeError("x"), from_cause(ValueError("x"), reset)):
        assert hub_failure(other) is None


def test_kinds_of_errors():
    http = http_package()
    assert {"ReadError", "Exception"} <= class_names(http.ReadError("x"))
    assert [is_transport(error) for error in (http.ReadError("x"), TimeoutError(), OSError(), ValueError())] == [
        True,
        True,
        False,
        False,
    ]
    assert is_full_disk(OSError(errno.EDQUOT, "quota"))
    assert is_full_disk(RuntimeError("xet: No space left on device"))
    assert not is_full_disk(OSError(errno.EACCES, "denied"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionError("xet: HTTP status 503"), 503),
        (ConnectionError("HTTP status client error (404 Not Found)"), 404),
        (ConnectionError("503 Service Unavailable"), 503),
        (ConnectionError("read 500 bytes"), None),
        (ValueError("HTTP status 503"), None),
    ],
)
def test_the_status_in_a_text(error, status):
    assert status_of(error) == status


def test_answers_give_status_and_wait():
    assert status_of(answered(412)) == 412
    waits = [
        answered(429, retry_after="7"),
        answered(503, retry_after="9"),
        answered(429, ratelimit='"api";r=0;t=55'),
        answered(429, ratelimit='"api";r=5;t=55'),
        answered(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        answered(500, retry_after="7"),
        ConnectionError("no answer"),
    ]
    assert [retry_after(error) for error in waits] == [7, 9, 55, None, None, None, None]
    assert summary(answered(500)) == "the Hub answered with error 500"


@pytest.mark.parametrize(("status", "expected"), [(408, True), (429, True), (500, True), (401, False), (412, False)])
def test_which_answers_may_pass(status, expected):
    assert may_pass(answered(status), answered(status)) is expected
    assert may_pass(answered(status), answered(status), repeatable=False) is expected
