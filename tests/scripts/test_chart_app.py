"""The page of the app: what visitors send is checked, no file of the server is read, and a browser can use it."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from chartqa_ft.evaluation.alternatives import Alternative
from chartqa_ft.scripts.chart_app import Limits, answer_chart, build_app, checked_chart, private_gradio

from ..support.browser import requests, started_browser

MARKUP = "<img src=x onerror=\"document.title='ran'\">"


def picture(width=40, height=30, format="PNG", color="white") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, format)
    return file.getvalue()


def answer(chart, question):
    """Stands for a model: it tells what it was given."""
    assert chart.mode == "RGB"
    return [
        Alternative(f"{chart.width} x {chart.height}: {question}", 0.625, True),
        Alternative(MARKUP, 0.00001, False),
        Alternative("", 0.125, True),
    ]


# ------------------------------------------------------------------ without a server
def test_the_answer_its_alternatives_and_the_time_are_texts():
    said, rows, took = answer_chart(answer, picture(), "  How many? ")
    assert said == "40 x 30: How many?"
    assert rows == [[said, "62.50 %"], [f"{MARKUP} [...]", "below 0.01 %"], ["(empty)", "12.50 %"]]
    assert took.endswith(" seconds")


@pytest.mark.parametrize(
    ("content", "question", "words"),
    [
        (None, "How many?", "upload or paste a chart first"),
        (picture(), " \n", "write a question first"),
        (picture(), "x" * 501, "longer than 500 characters"),
        (b"", "?", "no image bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "?", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "?", "not a readable image"),
        (picture()[:-9], "?", "cut off"),
        (picture(4001, 4000), "?", "above the limit of 16,000,000"),
        (picture(3000, 10), "?", "a shape beyond 50:1"),
        (b"\x89PNG\r\n\x1a\n" + bytes(Limits.file_bytes), "?", "at most 8,000,000 are allowed"),
    ],
)
def test_what_is_refused_is_told_without_a_model(content, question, words):
    def never(chart, question):
        raise AssertionError

    with pytest.raises(ValueError, match=words):
        answer_chart(never, content, question)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_charts_of_every_usual_format_are_opened(format):
    assert checked_chart(picture(format=format)).size == (40, 30)


def test_without_gradio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "before")
    with pytest.raises(ImportError, match=r"the app needs Gradio: pip install 'chartqa_ft\[app\]'"):
        private_gradio(tmp_path)


# ------------------------------------------------------------------ served
@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page on a free port, with a secret file beside the uploads."""
    pytest.importorskip("gradio", reason="`make test` installs the extra app")
    top = tmp_path_factory.mktemp("app")
    (top / "secret.txt").write_text("a secret of the server")
    uploads = top / "uploads"
    uploads.mkdir()
    example = top / "example.png"
    example.write_bytes(picture(64, 48, color="teal"))
    before = dict(os.environ)
    os.environ.update(GRADIO_ALLOWED_PATHS="/", GRADIO_SHARE="True")  # of another program
    gradio = private_gradio(uploads)
    page = build_app(gradio, answer, uploads, title="Ask <b>it</b>", examples=[(str(example), "Which is first?")])
    _, url, share = page.launch(
        server_name="127.0.0.1",
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        allowed_paths=[],
        max_file_size=Limits.file_bytes,
        ssr_mode=False,
        footer_links=[],
        theme=gradio.themes.Default(font=["sans-serif"], font_mono=["monospace"]),
    )
    yield SimpleNamespace(url=url.rstrip("/"), share=share, top=top, uploads=uploads, page=page)
    page.close(verbose=False)
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(url: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def upload(served, name: str, content: bytes) -> tuple[int, bytes]:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    return post(f"{served.url}/gradio_api/upload", body, "multipart/form-data; boundary=x")


def ask(served, chart, question="How many?") -> dict:
    """Send a question as a client of the queue does, and return its last message."""
    config = json.loads(get(f"{served.url}/config")[1])
    number = next(call["id"] for call in config["dependencies"] if call["api_name"].startswith("respond"))
    session = f"session{time.monotonic_ns()}"
    body = json.dumps({"data": [chart, question], "fn_index": number, "session_hash": session}).encode()
    status, text = post(f"{served.url}/gradio_api/queue/join", body)
    assert status == 200, text
    with urllib.request.urlopen(f"{served.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as lines:
        for line in lines:
            message = json.loads(line.decode().removeprefix("data: ")) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def file_data(path, **more):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def test_only_this_machine_is_listened_to_and_nothing_is_shared(served):
    assert served.url.startswith("http://127.0.0.1:")
    assert served.share is None
    config = json.loads(get(f"{served.url}/config")[1])
    assert config["analytics_enabled"] is False
    assert served.page.delete_cache == (60, 600)
    assert served.page.allowed_paths == []
    assert served.page.max_file_size == 8_000_000
    assert json.loads(get(f"{served.url}/gradio_api/info")[1]) == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_an_uploaded_chart_is_answered(served):
    status, text = upload(served, "chart.png", picture())
    assert status == 200
    (path,) = json.loads(text)
    assert Path(path).is_relative_to(served.uploads)
    found = ask(served, file_data(path))
    assert found["success"], found
    said, table, took = found["output"]["data"]
    assert said == "40 x 30: How many?"
    assert table["data"][2] == ["(empty)", "12.50 %"]
    assert took.endswith(" seconds")


def test_uploads_are_deleted_and_examples_stay(served):
    from gradio.route_utils import delete_files_created_by_app

    (path,) = json.loads(upload(served, "chart.png", picture())[1])
    assert ask(served, file_data(path))["success"]
    assert Path(path).is_file()
    delete_files_created_by_app(served.page, None)  # as the page does after ten minutes, and when it is closed
    assert not Path(path).exists()
    assert not ask(served, file_data(path))["success"]
    config = json.loads(get(f"{served.url}/config")[1])
    (example,) = (part for part in config["components"] if part["type"] == "dataset")
    status, content = get(example["props"]["samples"][0][0]["url"].replace(" ", "%20"))
    assert (status, content) == (200, (served.top / "example.png").read_bytes())


def test_files_that_are_too_large_or_no_charts_are_refused(served):
    assert upload(served, "big.png", bytes(Limits.file_bytes + 1))[0] == 413
    for name, content in (("a.svg", b"<svg/>"), ("a.png", b"%!PS-Adobe-3.0"), ("a.html", b"<script></script>")):
        (path,) = json.loads(upload(served, name, content)[1])
        found = ask(served, file_data(path, orig_name=name))
        assert not found["success"]
        assert "not a readable image" in found["output"]["error"]
        assert str(served.top) not in json.dumps(found)


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/gradio_api/stream/"])
def test_no_path_of_the_server_is_served(served, route):
    secret = served.top / "secret.txt"
    for path in (
        secret,
        f"{served.uploads}/../secret.txt",
        f"{served.uploads}/%2e%2e/secret.txt",
        f"file://{secret}",
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "setup.cfg",
        Path(__file__),
    ):
        status, text = get(f"{served.url}{route}{path}")
        assert status in (400, 403, 404, 405), (path, status)
        assert b"a secret of the server" not in text
        assert b"root:" not in text


def test_charts_are_not_read_from_paths_or_urls(served, monkeypatch):
    asked = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *args):
            pass

    other = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    inside = f"http://127.0.0.1:{other.server_port}/chart.png"
    monkeypatch.chdir(served.top)
    (served.top / "chart.png").write_bytes(picture())
    try:
        for chart in (
            file_data(str(served.top / "chart.png")),
            file_data("chart.png"),
            file_data(f"{served.uploads}/../chart.png"),
            file_data(f"file://{served.top}/chart.png"),
            file_data("/etc/passwd"),
            file_data(inside),
            file_data(inside.upper().replace("CHART.PNG", "chart.png")),
            file_data("//127.0.0.1/chart.png"),
            file_data("http://169.254.169.254/latest/meta-data"),
            file_data("ftp://127.0.0.1/chart.png"),
            file_data(None, url=inside),
            file_data(str(served.top / "chart.png"), url=inside),
            file_data("chart.png", url="data:image/png;base64,iVBORw0KGgo="),
            {"path": str(served.top / "chart.png")},
            {"url": inside},
            str(served.top / "chart.png"),
            inside,
        ):
            found = ask(served, chart)
            assert not found["success"], chart
            assert "40 x 30" not in json.dumps(found)
    finally:
        other.shutdown()
        other.server_close()
    assert asked == []


def test_the_queue_is_bounded_and_one_question_is_answered_at_a_time(served):
    calls = [call for call in served.page.fns.values() if call.name == "respond"]
    assert [call.concurrency_limit for call in calls] == [1, 1]
    assert {call.concurrency_id for call in calls} == {"model"}
    assert served.page._queue.max_size == Limits.waiting


def test_no_stub_is_written_into_the_package(served):
    import chartqa_ft.scripts.chart_app as module

    assert not Path(module.__file__).with_suffix(".pyi").exists()


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    with started_browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.set_script_timeout(60)
        yield browser


def find(browser, selector):
    """Wait for an element of the page."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))


def ask_in_browser(browser, question, answer):
    """Type a question, click on the button, and wait for the answer."""
    from selenium.webdriver.support.ui import WebDriverWait

    find(browser, "#chart img")
    find(browser, "#question textarea").send_keys(question)
    find(browser, "#ask").click()
    WebDriverWait(browser, 60).until(lambda driver: value_of(browser, "answer") == answer)


def value_of(browser, name):
    return find(browser, f"#{name} textarea, #{name} input").get_attribute("value")


def test_a_browser_asks_and_sees_the_alternatives(served, browser, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    chart = tmp_path / "mine.png"
    chart.write_bytes(picture(120, 90, color="orange"))
    browser.get(served.url)
    find(browser, "#chart input[type=file]").send_keys(str(chart))
    ask_in_browser(browser, f"Why {MARKUP}?", f"120 x 90: Why {MARKUP}?")
    assert value_of(browser, "time").endswith(" seconds")
    table = find(browser, "#alternatives").text
    assert "62.50 %" in table
    assert "onerror" in table  # as text
    find(browser, ".gallery-item, .tr-body, tbody tr.tr-body").click()
    WebDriverWait(browser, 60).until(lambda driver: value_of(browser, "question") == "Which is first?")
    ask_in_browser(browser, "", "64 x 48: Which is first?")
    assert browser.title == "Ask <b>it</b>"
    assert find(browser, "h1").text == "Ask <b>it</b>"
    assert [url for url in requests(browser) if not url.startswith((served.url, "blob:"))] == []


COPY = """
const [content, done] = arguments;
const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0));
navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})])
    .then(() => done(""), error => done(String(error)));
"""


def test_a_chart_is_pasted_in_a_browser(served, browser):
    allowed = {"origin": served.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", allowed)
    browser.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    browser.get(served.url)
    paste = find(browser, "#chart button[aria-label='Paste from clipboard']")
    content = base64.b64encode(picture(130, 70, color="purple")).decode()
    assert browser.execute_async_script(COPY, content) == ""
    paste.click()
    ask_in_browser(browser, "Pasted?", "130 x 70: Pasted?")
    assert [url for url in requests(browser) if not url.startswith((served.url, "blob:"))] == []
