"""Which failures are tried again, and after which waits."""

from __future__ import annotations

import contextlib

import pytest

from chartqa_ft.hub.retry import retrying

from .answers import answered, from_cause, http_package


def raise_after(failures: list[Exception], calls: list[int]) -> str:
    calls.append(1)
    if failures:
        raise failures.pop(0)
    return "done"


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("chartqa_ft.hub.retry.time.sleep", seconds.append)
    return seconds


def test_waits_grow_and_follow_the_hub(slept, caplog):
    calls: list[int] = []
    failures = [answered(503), answered(429, retry_after="7"), http_package().ReadError("reset")]
    assert retrying(lambda: raise_after(failures, calls), what="the push to a/b") == "done"
    assert (len(calls), slept) == (4, [1, 7, 4])
    assert [record.getMessage() for record in caplog.records] == [
        "the push to a/b: the Hub answered with error 503; trying again in 1 s (2 of 4)",
        "the push to a/b: too many requests; trying again in 7 s (3 of 4)",
        "the push to a/b: the connection to the Hub broke; trying again in 4 s (4 of 4)",
    ]


def test_what_is_not_tried_again(slept):
    from huggingface_hub.errors import OfflineModeIsEnabled

    http = http_package()
    hopeless = [answered(status) for status in (400, 401, 403, 404, 409)]
    hopeless += [OfflineModeIsEnabled("offline"), ValueError("x"), http.UnsupportedProtocol("x")]
    hopeless += [answered(429, retry_after="1000"), ConnectionError("xet: HTTP status 503")]
    hopeless.append(from_cause(RuntimeError("Error while uploading 'x' to the Hub."), answered(503)))
    for failure in hopeless:
        calls: list[int] = []
        with pytest.raises(type(failure)):
            retrying(lambda: raise_after([failure], calls))  # noqa: B023
        assert (len(calls), slept) == (1, []), failure
    # A pull request is opened once more only if the first cannot have come about.
    for failure, number in ((http.ReadError("x"), 1), (http.ConnectError("x"), 2), (answered(502), 2)):
        calls = []
        failures = [failure]
        with contextlib.suppress(http.ReadError):
            retrying(lambda: raise_after(failures, calls), repeatable=False)  # noqa: B023
        assert len(calls) == number, failure
    with pytest.raises(ValueError, match="attempts"):
        retrying(lambda: None, attempts=0)
