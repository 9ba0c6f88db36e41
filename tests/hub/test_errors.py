"""Every failure is explained, and no message contains a token."""

from __future__ import annotations

import traceback

import pytest
from huggingface_hub import HfApi

from chartqa_ft.hub.errors import HubError, explained

from .answers import answered, from_cause, http_package
from .folders import TOKEN


def test_every_failure_has_its_words(tmp_path, monkeypatch):
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    http, repo = http_package(), "/api/models/a/b"
    uploading = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
    said = {
        "cannot be reached (ConnectError)": http.ConnectError("[Errno 111]"),
        "broke (ReadError)": http.ReadError("reset"),
        "did not answer (ReadTimeout)": http.ReadTimeout("slow"),
        "refused the token": answered(401, path="/api/repos/create"),
        "the token may not write to a/b": from_cause(uploading, answered(403)),
        "in a few minutes": answered(429),
        "in 55 seconds": answered(429, ratelimit='"api";r=0;t=55'),
        "error 500": answered(500),
        "no model a/b, or it is private and your token": answered(404, x_error_code="RepoNotFound"),
        "it has no branch, tag or commit 'v9'": answered(404, "GET", x_error_code="RevisionNotFound"),
        "no file 'x.json'": answered(404, "GET", f"{repo}/resolve/main/x.json", x_error_code="EntryNotFound"),
        "on request only": answered(403, "GET", x_error_code="GatedRepo"),
        "disabled": answered(403, "GET", x_error_message="Access to this resource is disabled."),
        "the name is taken": answered(409, path="/api/repos/create"),
        "somebody else changed": answered(412),
        "(it says: too large)": answered(413, x_error_message="too large"),
        "HF_HUB_OFFLINE": errors.OfflineModeIsEnabled("offline"),
        "cache does not hold": errors.LocalEntryNotFoundError("not there"),
        "is not a valid model name": errors.HFValidationError("bad"),
        "you are not logged in": errors.LocalTokenNotFoundError("none"),
        "the disk is full": OSError(28, "No space left on device"),
    }
    for words, error in said.items():
        with pytest.raises(HubError) as caught, explained("push", "a/b", keep=tmp_path, revision="v9"):
            raise error
        message = str(caught.value)
        assert message.startswith("a/b was not pushed: ")
        assert words in message
        assert str(tmp_path) in message
        assert caught.value.__cause__ is error
    with pytest.raises(HubError, match="was not loaded: the token may not read it"), explained("load", "a/b"):
        raise answered(403, "GET")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE=1 forbids"), explained("load", "a/b"):
        raise errors.LocalEntryNotFoundError("not there")


def test_other_errors_stay_what_they_are():
    for error in (KeyError("x"), ValueError("x"), RuntimeError("x"), FileNotFoundError(2, "x"), HubError("x")):
        with pytest.raises(type(error)) as caught, explained("push", "a/b"):
            raise error
        assert caught.value is error


def test_no_token_in_words_or_causes():
    with pytest.raises(HubError) as caught, explained("push", "a/b", token="mine"):
        raise ConnectionError(f"xet: mine, {TOKEN}, HTTP status 418 I am a teapot")
    assert "mine" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert (caught.value.status, caught.value.__cause__) == (418, None)


@pytest.mark.parametrize("token", ["hf_t\u00f6ken-secret", "hf_secret\u2028more"])
def test_a_token_that_cannot_be_sent_is_in_no_part_of_the_error(token):
    with pytest.raises(HubError) as caught, explained("load", "alice/model", token=token):
        HfApi(token=token, endpoint="http://127.0.0.1:9").model_info("alice/model")
    error = caught.value
    said = "alice/model was not loaded: the token contains a character that no token has. Copy it again"
    assert str(error).startswith(said)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)
    assert "secret" not in shown
