"""One question to a server that misbehaves in all the ways of servers."""

from __future__ import annotations

import gzip
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from chartqa_ft.evaluation import chat_server
from chartqa_ft.evaluation.chat_server import (
    ChatServer,
    QuestionRefusedError,
    Reply,
    ServerError,
    _retry_after,
    checked_base_url,
    checked_key,
)

from ..support.chat_stub import (
    ChatStub,
    cut_off,
    drip,
    echo_headers,
    endless,
    hang,
    redirect,
    reply,
    reset,
    said,
    status,
)

KEY = "sk-proj-0123456789abcdefABCDEF"
CHART = "data:image/png;base64,AAAA"


@pytest.fixture
def stub():
    with ChatStub() as stub:
        yield stub


def server(stub, **settings):
    return ChatServer(stub.url, "my-model", **{"first_wait": 0.001, "attempts": 3, **settings})


def test_the_request_is_greedy_with_the_chart_first(stub):
    with server(stub, api_key=KEY, extra_body={"seed": 1, "top_p": None}) as chat:
        assert chat.ask(CHART, "How many bars?\nÄ") == Reply("3", False)
    (request,) = stub.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    content = [
        {"type": "image_url", "image_url": {"url": CHART}},
        {"type": "text", "text": "How many bars?\nÄ"},
    ]
    assert request.body == {
        "model": "my-model",
        "max_tokens": 128,
        "temperature": 0.0,
        "seed": 1,
        "messages": [{"role": "user", "content": content}],
    }


def test_without_a_key_none_is_sent_and_none_removes_a_field(stub):
    with server(stub, extra_body={"max_tokens": None, "max_completion_tokens": 9}) as chat:
        chat.ask(CHART, "?")
    (request,) = stub.requests
    assert "authorization" not in request.headers
    assert {name: request.body.get(name) for name in ("max_tokens", "max_completion_tokens")} == {
        "max_tokens": None,
        "max_completion_tokens": 9,
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (reply(" 3\n"), Reply("3", False)),
        (reply("3", "length"), Reply("3", True)),
        (reply(None), Reply("", False)),
        (
            reply([{"type": "text", "text": "a"}, {"type": "thinking"}, {"type": "text", "text": "b"}]),
            Reply("ab", False),
        ),
        (reply("\ud800"), Reply("\ud800", False)),
    ],
)
def test_answers_of_all_forms(stub, content, expected):
    stub.plan.append(said(content))
    with server(stub) as chat:
        assert chat.ask(CHART, "?") == expected


PASSING = {
    "429": status(429, retry_after="0"),
    "429 without Retry-After": status(429),
    "408": status(408),
    "425": status(425),
    "500": status(500, b"<html>oops</html>"),
    "503": status(503, retry_after="0"),
    "599": status(599),
    "reset": reset,
    "cut off": cut_off,
    "no JSON": said(b"<html>loading</html>"),
    "no choices": said(b'{"choices": []}'),
    "a list": said(b"[]"),
    "half of the message": said(b'{"choices": [{"message": {}}]}'),
    "a number as content": said(reply(3)),
    "a number in the content": said(reply([3])),
    "bad UTF-8": said(b'{"choices": "\xff"}'),
    "deep brackets": said(b"[" * 100_000),
    "digits": said(b'{"choices": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_is_tried_again(stub, kind):
    stub.plan += [PASSING[kind], PASSING[kind]]
    with server(stub) as chat:
        assert chat.ask(CHART, "?").text == "3"
    assert len(stub.requests) == 3


@pytest.mark.parametrize("kind", PASSING)
def test_attempts_are_bounded(stub, kind):
    stub.plan += [PASSING[kind]] * 9
    with server(stub) as chat, pytest.raises(ServerError, match=r"\(3 attempts\)\. Check that the server is running"):
        chat.ask(CHART, "?")
    assert len(stub.requests) == 3


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_a_server_that_does_not_finish_is_left(stub, behaviour):
    stub.plan += [behaviour, behaviour]
    with server(stub, timeout=0.15) as chat:
        assert chat.ask(CHART, "?").text == "3"
    assert len(stub.requests) == 3


def test_a_server_on_this_machine_is_asked_without_a_proxy(stub, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with server(stub, api_key=KEY, attempts=1) as chat:
        assert chat.ask(CHART, "?").text == "3"
    other = ChatServer("http://192.0.2.1/v1", "m", attempts=1, timeout=5)
    with other as chat, pytest.raises(ServerError, match="ConnectError"):  # of the proxy
        chat.ask(CHART, "?")


def test_a_closed_port_is_named():
    with ChatStub() as stub:
        url = stub.url
    with ChatServer(url, "m", attempts=2, first_wait=0.001) as chat, pytest.raises(ServerError) as caught:
        chat.ask(CHART, "?")
    assert str(caught.value).startswith(
        f"{url}/chat/completions: no connection, or it broke (ConnectError) (2 attempts)"
    )
    assert caught.value.status is None


REFUSED = {
    "400": (
        status(400, b'{"error": {"message": "prompt is too long"}}'),
        r"error 400\) \(it says: prompt is too long\)",
    ),
    "413": (status(413), "error 413"),
    "422": (status(422, b'{"message": "no image"}'), "it says: no image"),
    "404 of FastAPI": (status(404, b'{"detail": "no model m"}'), "it says: no model m"),
    "422 of FastAPI": (status(422, b'{"detail": [{"loc": ["n"], "msg": "unknown field"}]}'), "it says: unknown field"),
    "400 with a list": (status(400, b'{"detail": []}'), r"error 400\)"),
    "401": (status(401), "Set it in the environment variable OPENAI_API_KEY"),
    "403": (status(403, b"forbidden"), "it says: forbidden"),
    "404": (status(404, b'{"error": "no such model"}'), "BASE_URL/models lists the models"),
    "a compressed answer": (said(gzip.compress(reply("3")), content_encoding="gzip"), "a compressed answer"),
    "an answer without end": (endless, "an answer of more than 4,194,304 bytes"),
    "a redirect that drops the question": (redirect("/v1/chat/completions", 302), "error 302.* would drop"),
    "a redirect to nowhere": (status(307), "more than 3 redirects"),
    "a wait of an hour": (status(429, retry_after="3600"), "asks to wait 3,600 s"),
    "a wait of ages": (status(503, retry_after="999999999"), "asks to wait 999,999,999 s"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_pass_is_said_at_once(stub, kind):
    behaviour, message = REFUSED[kind]
    stub.plan += [behaviour] * 4
    with server(stub) as chat, pytest.raises(ServerError, match=message) as caught:
        chat.ask(CHART, "?")
    assert len(stub.requests) == (4 if "nowhere" in kind else 1)
    assert isinstance(caught.value, QuestionRefusedError) == (kind[:3] in ("400", "413", "422"))


def test_a_redirect_on_the_same_server_is_followed_with_the_question(stub):
    stub.plan.append(redirect("/other/chat/completions", 308))
    with server(stub, api_key=KEY) as chat:
        assert chat.ask(CHART, "?").text == "3"
    first, second = stub.requests
    assert (second.path, second.body) == ("/other/chat/completions", first.body)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_elsewhere_is_not_followed(stub, host):
    with ChatStub() as other:
        stub.plan.append(redirect(f"http://{host}:{other.port}/v1/chat/completions"))
        with (
            server(stub, api_key=KEY) as chat,
            pytest.raises(ServerError, match=f"another server .*http://{host}:{other.port}"),
        ):
            chat.ask(CHART, "?")
        assert other.requests == []


@pytest.mark.parametrize("to", ["http://[::1", "http://x:port/", "file:///etc/passwd", "javascript:0"])
def test_a_redirect_to_what_is_no_address_is_an_error(stub, to):
    """Older clients refuse some of these before this library sees them."""
    stub.plan += [redirect(to)] * 3
    with server(stub) as chat, pytest.raises(ServerError, match=r"another server|no connection, or it broke"):
        chat.ask(CHART, "?")
    assert len(stub.requests) <= 3


# ------------------------------------------------------------------ the key
def test_the_key_is_in_no_message_and_no_answer(stub, caplog):
    caplog.set_level(logging.DEBUG)
    told = json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}).encode()
    stub.plan += [status(401, told), status(500, KEY.encode()), status(500, KEY.encode()), echo_headers]
    with server(stub, api_key=KEY, attempts=2) as chat:
        for _ in range(2):
            with pytest.raises(ServerError) as caught:
                chat.ask(CHART, "?")
            assert KEY not in str(caught.value)
            assert "TOKEN_REMOVED" in str(caught.value)
        assert chat.ask(CHART, "?").text == "you said Bearer TOKEN_REMOVED"
        assert KEY not in repr(chat)
        assert KEY not in repr(chat.settings)
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["", " \n", "a b", "clé", "a\nb", "a\x00", "\ud800"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match=r"^the API key in here (is empty|has a character)") as caught:
        checked_key(key, "here")
    assert not key.strip() or key not in str(caught.value)


def test_white_space_around_a_key_is_dropped():
    assert checked_key(f"{KEY}\n") == KEY


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://10.0.0.1:8000/v1", True),
        ("http://example.org/v1", True),
        ("https://example.org/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.2:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost.example.org", True),
    ],
)
def test_a_key_in_the_clear_is_known(url, told):
    with ChatServer(url, "m", api_key=KEY) as chat:
        assert chat.sends_key_in_the_clear is told
    with ChatServer(url, "m") as chat:
        assert chat.sends_key_in_the_clear is False


# ------------------------------------------------------------------ arguments
@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "ftp://x/v1", "http://", "http://a b/v1", "http://x:port/v1", "http://[::1"),
        *("http:///v1", "http://x/v1\n", "http://x\\y/v1", "file:///etc/passwd", "http://x/v1?key=1"),
        *("http://x/v1#a", "http://x:0/v1"),
    ],
)
def test_wrong_addresses_are_refused(url):
    with pytest.raises(ValueError, match=r"^base_url"):
        checked_base_url(url)


def test_a_password_in_an_address_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="environment variable") as caught:
        checked_base_url("http://user:hunter22@x/v1")
    assert "hunter22" not in str(caught.value)
    with pytest.raises(TypeError, match="base_url must be a text"):
        checked_base_url(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": " "}, "model must be the name"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"max_tokens": True}, "max_tokens must be"),
        ({"temperature": -1}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": float("inf")}, "timeout must be"),
        ({"attempts": 0}, "attempts must be"),
        ({"extra_body": {"api_key": "x"}}, "'api_key'.* environment variable"),
        ({"extra_body": {"messages": []}}, "'messages', which this library sets itself"),
        ({"extra_body": {"stream": True}}, "'stream', which this library sets itself"),
        ({"extra_body": {"a": float("nan")}}, "values that JSON has"),
        ({"extra_body": {"a": object()}}, "values that JSON has"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ChatServer("http://localhost/v1", **{"model": "m", **settings})
    with pytest.raises(TypeError, match="extra_body must be a dict"):
        ChatServer("http://localhost/v1", "m", extra_body=["a"])


# ------------------------------------------------------------------ waiting
class _Response:
    def __init__(self, asked):
        self.headers = {"retry-after": asked}


@pytest.mark.parametrize(
    ("asked", "seconds"), [("7", 7.0), (" 0.5 ", 0.5), ("soon", None), ("", None), ("-1", None), ("9" * 5000, None)]
)
def test_retry_after_in_seconds(asked, seconds):
    assert _retry_after(_Response(asked)) == seconds


def test_retry_after_as_a_date():
    now = datetime.now(UTC)
    for offset, low, high in ((60, 50, 60), (-60, 0, 0)):
        date = format_datetime(now + timedelta(seconds=offset), usegmt=True)
        assert low <= _retry_after(_Response(date)) <= high
    assert _retry_after(_Response("Fri, 99 Foo 2026 99:99:99 GMT")) is None


def test_it_waits_as_long_as_the_server_asks_and_longer_each_time(stub, monkeypatch):
    waits = []
    monkeypatch.setattr(chat_server.random, "random", lambda: 0.0)
    stub.plan += [status(429, retry_after="7"), status(500), status(500), status(500)]
    with server(stub, attempts=5, first_wait=1.0) as chat:
        monkeypatch.setattr(chat._stopped, "wait", waits.append)
        assert chat.ask(CHART, "?").text == "3"
    assert waits == [7.0, 2.0, 4.0, 8.0]


def test_stop_ends_a_wait(stub):
    stub.plan += [status(429, retry_after="100")] * 9
    chat = server(stub, attempts=9)
    chat.stop()
    with pytest.raises(ServerError, match="too many requests"):
        chat.ask(CHART, "?")
    assert len(stub.requests) == 1
