"""`ChatServer`: ask an OpenAI-compatible server one question on one chart, again after failures that may pass."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib import import_module
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from ..files import parse_json
from ..hub.credentials import TOKEN_REMOVED, is_secret_name
from ..hub.failures import UNSENDABLE, class_names, is_transport
from ..hub.public import known_tokens, redact
from ..printable import printable

__all__ = ["ChatServer", "QuestionRefusedError", "Reply", "ServerError", "checked_base_url", "checked_key"]

LONGEST_WAIT = 120.0
"""Seconds. A server that asks to wait longer ends the run, which can be continued later."""
LONGEST_BACKOFF = 30.0
"""Seconds between two attempts, unless the server asks for more."""
LARGEST_ANSWER = 2**22
"""Bytes of a response."""
_ERROR_BYTES = 2**16
"""Bytes that are read of a response that reports an error."""
_REDIRECTS = 3
_PASSING = (408, 409, 425, 429)
"""Statuses besides 5xx after which the same request may succeed."""
_REFUSED = (400, 413, 415, 422)
"""Statuses that concern the content of a request: an image or a prompt that the model does not take."""
_PATH = "/chat/completions"


class ServerError(OSError):
    """A server did not answer a question. The message says why and what to do, and contains no key.

    Attributes:
        status: HTTP status of the response, such as 503; `None` if there was none.

    Example:
        >>> ServerError("the server has a problem", status=503).status
        503
    """

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(printable(message))
        self.status = status


class QuestionRefusedError(ServerError):
    """A server refused the content of a question, such as a prompt that is too long. Other questions may pass."""


class Reply(NamedTuple):
    """The answer of a server."""

    text: str
    """The text without surrounding white space; empty if the model generated none."""
    cut: bool
    """Whether the answer ended because it reached `max_tokens`."""


class _Failure(Exception):
    """An attempt that failed.

    Args:
        message: what happened.
        passing: whether a second attempt may succeed.
        wait: seconds that the server asks to wait.
        status: HTTP status of the response.
        advice: what to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        passing: bool,
        wait: float | None = None,
        status: int | None = None,
        advice: str = "Check that the server is running and that --base_url is right.",
    ) -> None:
        super().__init__(message)
        self.passing, self.wait, self.status, self.advice = passing, wait, status, advice


class ChatServer:
    """A model behind the `/chat/completions` of an OpenAI-compatible server such as vLLM, llama.cpp or TGI.

    Answers are greedy by default. The chart comes before the question, in the chat template of the server. Redirects
    are followed on the same scheme, host and port only, so that neither charts nor the key go anywhere else. The
    proxies of the environment are used, except for this machine itself. An instance may be used by several threads.

    Args:
        base_url: the address before `/chat/completions`, such as `http://localhost:8000/v1`.
        model: the name under which the server offers the model.
        api_key: sent as `Authorization: Bearer ...`; `None` sends none. It appears in no message and no answer.
        max_tokens: the longest answer, in tokens.
        temperature: 0 for greedy decoding.
        extra_body: further fields of the request, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.
            `None` as a value removes a field.
        timeout: seconds after which an attempt counts as failed.
        attempts: attempts for each question. The answers 408, 409, 425, 429 and 5xx, damaged answers, broken
            connections and timeouts are tried again after 1, 2, 4, ... seconds, or after `Retry-After`.
        connections: the number of simultaneous connections.
        first_wait: seconds before the second attempt.
        system_prompt: the system message of each request; `None` sends none.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or value.

    Example:
        >>> server = ChatServer("http://localhost:8000/v1/", "my-model", max_tokens=32)
        >>> server.url
        'http://localhost:8000/v1/chat/completions'
        >>> server.ask("data:image/png;base64,...", "How many bars?")  # doctest: +SKIP
        Reply(text='3', cut=False)
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        max_tokens: int = 128,
        temperature: float = 0.0,
        extra_body: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        attempts: int = 6,
        connections: int = 8,
        first_wait: float = 1.0,
        system_prompt: str | None = None,
    ) -> None:
        self.url = checked_base_url(base_url) + _PATH
        self._key = None if api_key is None else checked_key(api_key)
        if system_prompt is not None and not (isinstance(system_prompt, str) and system_prompt.strip()):
            raise ValueError(f"system_prompt must be a text that is not empty, and is {system_prompt!r:.60}")
        self.system_prompt = system_prompt
        self._settings = _request_settings(model, max_tokens, temperature, extra_body)
        self.timeout, self.attempts, self.first_wait = _positive("timeout", timeout), attempts, first_wait
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, and is {attempts!r}")
        self._stopped = threading.Event()
        # A proxy would be sent the charts and the key, and could not reach a server on this machine.
        proxies = not _is_loopback(urlsplit(self.url).hostname or "")
        self._client = _http_client(self.timeout, connections, proxies)

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._client.close()

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of every request besides the messages, and the system message if there is one."""
        system = {} if self.system_prompt is None else {"system_prompt": self.system_prompt}
        return {**self._settings, **system}

    @property
    def sends_key_in_the_clear(self) -> bool:
        """Whether the key goes to another machine without encryption."""
        address = urlsplit(self.url)
        return self._key is not None and address.scheme == "http" and not _is_loopback(address.hostname or "")

    def stop(self) -> None:
        """Let `ask` make no further attempts, in all threads."""
        self._stopped.set()

    def ask(self, image_url: str, prompt: str) -> Reply:
        """Return the answer to a prompt on a chart.

        Args:
            image_url: the chart as a `data:` URL, see `images.data_urls`.
            prompt: the whole text of the question.

        Raises:
            QuestionRefusedError: the server refused the content of the request.
            ServerError: it refused the request for another reason, or all attempts failed.
        """
        picture = {"type": "image_url", "image_url": {"url": image_url}}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [picture, {"type": "text", "text": prompt}]}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        body = json.dumps({**self._settings, "messages": messages}).encode("ascii")
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(body)
            except _Failure as failure:
                last = attempt == self.attempts or self._stopped.is_set()
                if failure.wait is not None and failure.wait > LONGEST_WAIT:
                    failure.args = (f"{failure.args[0]}, and asks to wait {failure.wait:,.0f} s",)
                    last = True
                if last or not failure.passing:
                    raise self._explained(failure, attempt) from None
                backoff = min(self.first_wait * 2 ** (attempt - 1), LONGEST_BACKOFF) * (1 + random.random() / 4)
                self._stopped.wait(max(backoff, failure.wait or 0.0))
        raise AssertionError("the last attempt returns or raises")

    def _explained(self, failure: _Failure, attempt: int) -> ServerError:
        tried = f" ({attempt} attempts)" if attempt > 1 else ""
        text = self._without_key(f"{self.url}: {failure.args[0]}{tried}. {failure.advice}")
        kind = QuestionRefusedError if failure.status in _REFUSED else ServerError
        return kind(text, status=failure.status)

    def _without_key(self, text: str) -> str:
        return redact(text, known_tokens(self._key))

    # ------------------------------------------------------------------ one attempt
    def _attempt(self, body: bytes) -> Reply:
        url, end = self.url, time.monotonic() + self.timeout
        try:
            for _ in range(_REDIRECTS + 1):
                with self._client.stream("POST", url, content=body, headers=self._headers()) as response:
                    if 300 <= response.status_code < 400:
                        url = _redirected(url, response)
                        continue
                    if response.status_code != 200:
                        raise _status_failure(response, _read(response, _ERROR_BYTES, end, cut=True))
                    return self._reply(_read(response, LARGEST_ANSWER, end))
        except _Failure:
            raise
        except Exception as error:  # the HTTP client's errors have no builtin base class
            if not is_transport(error):
                raise
            passing = class_names(error).isdisjoint(UNSENDABLE)
            slow = any("Timeout" in name for name in class_names(error))
            what = f"no answer within {self.timeout:g} s" if slow else "no connection, or it broke"
            raise _Failure(f"{what} ({type(error).__name__})", passing=passing) from error
        raise _Failure(f"more than {_REDIRECTS} redirects", passing=False)

    def _headers(self) -> dict[str, str]:
        # Without compression a response cannot be larger than what arrives.
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        return headers if self._key is None else {**headers, "authorization": f"Bearer {self._key}"}

    def _reply(self, content: bytes) -> Reply:
        try:
            answer = parse_json(content.decode("utf-8"))
            choice = answer["choices"][0]
            text, reason = _text_of(choice["message"]["content"]), choice.get("finish_reason")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            what = f"the answer has no choices[0].message.content ({type(error).__name__})"
            raise _Failure(what, passing=True, status=200) from error
        if self._key is not None:
            text = text.replace(self._key, TOKEN_REMOVED)
        return Reply(text.strip(), reason == "length")


# ------------------------------------------------------------------ arguments
def checked_base_url(url: str) -> str:
    """Return the address of a server without a slash at its end, after checking it.

    Raises:
        TypeError: it is not a text.
        ValueError: it is no http(s) address, or contains a user, a password, a query or a fragment.

    Example:
        >>> checked_base_url("http://localhost:8000/v1/"), checked_base_url("http://[::1]:8000/v1/chat/completions")
        ('http://localhost:8000/v1', 'http://[::1]:8000/v1')
    """
    if not isinstance(url, str):
        raise TypeError(f"base_url must be a text such as 'http://localhost:8000/v1', and is {url!r:.60}")
    advice = "pass the address of the server's API, such as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        raise ValueError(f"base_url is no address: {advice}") from None
    if "@" in parts.netloc:
        raise ValueError(
            "base_url contains a user or a password, which would be written into files: set the API key in an "
            "environment variable and name it with --api_key_env"
        )
    if not good or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"base_url is {printable(url)!r:.200}, and no http or https address: {advice}")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError(f"base_url must have no query and no fragment (? or #): {advice}")
    return url.rstrip("/").removesuffix(_PATH).rstrip("/")


def checked_key(key: str, name: str = "api_key") -> str:
    """Return an API key without surrounding white space.

    Args:
        key: the key.
        name: where it comes from, for the error message, which does not show the key.

    Raises:
        TypeError: it is not a text.
        ValueError: it is empty, or has a character that no HTTP header can hold.

    Example:
        >>> checked_key(" abc123 ")
        'abc123'
    """
    if not isinstance(key, str):
        raise TypeError(f"{name} must be a text, and is of type {type(key).__name__}")
    key = key.strip()
    if not key or not all("!" <= char <= "~" for char in key):
        what = "is empty" if not key else "has a character that no HTTP header can hold"
        raise ValueError(f"the API key in {name} {what}: copy it again")
    return key


def _request_settings(
    model: str, max_tokens: int, temperature: float, extra_body: Mapping[str, Any] | None
) -> dict[str, Any]:
    if not isinstance(model, str) or not model.strip():
        raise ValueError(f"model must be the name of a model on the server, and is {model!r:.60}")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ValueError(f"max_tokens must be an integer of at least 1, and is {max_tokens!r:.60}")
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature <= 100:
        raise ValueError(f"temperature must be a number of at least 0, and is {temperature!r:.60}")
    extra = {} if extra_body is None else extra_body
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra_body must be a dict of fields of the request, and is {extra!r:.60}")
    secret = next((name for name in extra if is_secret_name(name)), None)
    if secret is not None:
        raise ValueError(
            f"extra_body has the field {secret!r}, which would be written into files: set the API key in an "
            "environment variable"
        )
    ours = sorted({"messages", "model", "stream", "n"} & set(extra))
    if ours:
        raise ValueError(f"extra_body has the field {ours[0]!r}, which this library sets itself: leave it out")
    fields = {"model": model, "max_tokens": max_tokens, "temperature": temperature, **extra}
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"extra_body must hold values that JSON has ({error})") from None
    return {name: value for name, value in fields.items() if value is not None}


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number above 0, and is {value!r:.60}")
    return float(value)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# ------------------------------------------------------------------ HTTP
def _http_client(timeout: float, connections: int, proxies: bool) -> Any:
    """Return a client of the package that huggingface_hub uses: httpx, which later versions have renamed to httpx2.

    It is not the client of huggingface_hub itself, which follows redirects, has no timeout and obeys
    `HF_HUB_OFFLINE`.
    """
    from huggingface_hub.errors import HfHubHTTPError

    names = (kind.__module__.partition(".")[0] for kind in HfHubHTTPError.__mro__)
    package = import_module(next(name for name in names if name in ("httpx", "httpx2")))
    limits = package.Limits(max_connections=connections, max_keepalive_connections=connections)
    settings: dict[str, Any] = {"timeout": timeout, "limits": limits, "verify": _tls_context(package)}
    return package.Client(follow_redirects=False, trust_env=proxies, **settings)


@cache
def _tls_context(package: Any) -> Any:
    """Return the TLS settings of all clients: reading the certificates takes longer than anything else in a client."""
    return package.create_ssl_context()


def _read(response: Any, limit: int, end: float, *, cut: bool = False) -> bytes:
    """Return the body of a response of at most `limit` bytes, or its beginning if `cut`."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise _Failure("a compressed answer, which was not asked for", passing=False)
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > limit:
            if cut:
                break
            raise _Failure(f"an answer of more than {limit:,} bytes", passing=False, status=response.status_code)
        if time.monotonic() > end:
            raise _Failure("the answer was not complete in time", passing=True, status=response.status_code)
    return bytes(content[:limit])


def _redirected(url: str, response: Any) -> str:
    """Return where a redirect leads, which must be the same server."""
    if response.status_code not in (307, 308):
        what = f"a redirect (error {response.status_code}) that would drop the question"
        raise _Failure(what, passing=False, status=response.status_code)
    location = response.headers.get("location", "")
    try:
        target = urljoin(url, location)
        here, there = (_origin(one) for one in (url, target))
    except ValueError:
        target, here, there = location, "", None  # half of an IPv6 address, or a port that is no number
    if here != there:
        raise _Failure(
            f"a redirect to another server ({target!r:.200}), which is not followed",
            passing=False,
            status=response.status_code,
            advice="If you trust it, pass its address as --base_url.",
        )
    return target


def _origin(url: str) -> Any:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _status_failure(response: Any, content: bytes) -> _Failure:
    status = response.status_code
    said = _server_message(content)
    if status in (401, 403):
        return _Failure(
            f"the API key is missing, wrong or not allowed to do this (error {status}){said}",
            passing=False,
            status=status,
            advice="Set it in the environment variable OPENAI_API_KEY, or name another with --api_key_env.",
        )
    if status == 404:
        return _Failure(
            f"not found (error 404){said}",
            passing=False,
            status=status,
            advice="Check --model and --base_url, which usually ends in /v1; BASE_URL/models lists the models.",
        )
    if status in _REFUSED:
        return _Failure(
            f"the question was refused (error {status}){said}",
            passing=False,
            status=status,
            advice="Correct what it names, or score such questions as wrong with --on_refusal empty.",
        )
    passing = status in _PASSING or status >= 500
    what = "too many requests" if status == 429 else f"error {status}"
    return _Failure(f"{what}{said}", passing=passing, wait=_retry_after(response), status=status)


def _server_message(content: bytes) -> str:
    """Return what the body of an error says, in parentheses and on one line."""
    text = content.decode("utf-8", "replace")
    try:
        found = parse_json(text)
        for key in ("error", "detail", "message", "msg"):  # FastAPI has `detail`, or `detail[0].msg`
            found = found[0] if isinstance(found, list) and found else found
            if isinstance(found, dict) and key in found:
                found = found[key]
        text = found if isinstance(found, str) else ""
    except ValueError:
        text = "" if "<" in text else text  # a page of HTML says nothing
    words = " ".join(printable(text, lines=True).split())
    return f" (it says: {words[:300]})" if words else ""


def _retry_after(response: Any) -> float | None:
    """Return the seconds that `Retry-After` asks to wait, given as a number or a date (RFC 9110, 10.2.3)."""
    asked = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", asked, re.ASCII):
        return float(asked)
    try:
        date = parsedate_to_datetime(asked)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _text_of(content: Any) -> str:
    """Return the text of a message: a text, a list of parts, or None for an answer without text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")
