"""Exceptions of huggingface_hub for answers of the Hub."""

from __future__ import annotations

import importlib

import pytest

from .folders import TOKEN


def http_package():
    """httpx or httpx2, whichever huggingface_hub stands on."""
    from huggingface_hub.errors import HTTPError

    return importlib.import_module(HTTPError.__module__.partition(".")[0])


def answered(
    status: int, method: str = "POST", path: str = "/api/models/a/b/commit/main", **headers: str
) -> Exception:
    """What huggingface_hub makes of an answer."""
    from huggingface_hub.utils import hf_raise_for_status

    http = http_package()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = http.Request(method, f"https://huggingface.co{path}", headers={"authorization": f"Bearer {TOKEN}"})
    with pytest.raises(OSError) as caught:
        hf_raise_for_status(http.Response(status, headers=names, request=request))
    return caught.value


def from_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error
