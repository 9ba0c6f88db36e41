"""The report as people use it: driven in a real browser."""

from __future__ import annotations

import pytest
from PIL import Image

from chartqa_ft.metrics.mistakes import QUESTION_RULES
from chartqa_ft.reporting import write_report

from ..support.browser import console, requests, require_browser, started_browser

CODE = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
STRANGE = f"{CODE}</script><!--<script>\u2028\u202e\"'`{{{{data}}}}&amp;"
"""What a stranger may write anywhere: markup, ends of scripts and attributes, marks that reverse the direction."""
SEEN = STRANGE.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e")

pytestmark = pytest.mark.usefixtures("quiet")


def rows():
    """Return 120 rows on 40 charts, the first with markup in every field."""
    found = []
    for i in range(120):
        answer = ("12", "Peru", "2011", "Yes")[i % 4]
        wrong = ("1200", "Chile", "2031", "No")[i % 4]
        right = i % 3 == 0
        question = ("How many bars are red?", "Which country is first?", "Name the year.", "Is red above 5?")[i % 4]
        found.append(
            {
                "index": i,
                "chart_id": f"chart {(i * 7) % 40}.png",
                "question": question,
                "answer": answer,
                "prediction": answer if right else wrong,
                "correct": float(right),
                "source": "human" if i < 60 else "augmented",
            }
        )
    strange = dict.fromkeys(("chart_id", "question", "answer", "prediction", "source", "question_type"), STRANGE)
    return [{**found[0], **strange, "extracted": STRANGE, "correct": 1.0}, *found[1:]]


def tables():
    """Return a predicted table of which one cell is wrong, with markup in it, and a prediction that is no table."""
    row = {
        "index": 0,
        "chart_id": "a",
        "question": "",
        "answer": "Year | EU\n2019 | 4",
        "source": None,
        "task": "table",
    }
    return [
        {**row, "prediction": f"Year | EU\n2019 | {CODE}", "correct": 0.5},
        {**row, "index": 1, "prediction": "", "correct": 0.0},
        {**row, "index": 2, "prediction": "Year | EU\n2019 | 5", "correct": 0.5},
    ]


def images():
    return {row["chart_id"]: Image.new("RGB", (64, 48), (row["index"], 90, 160)) for row in rows()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    require_browser()
    folder = tmp_path_factory.mktemp("report")
    write_report(rows(), folder / "one.html", images=images(), title=STRANGE)
    better = [{**row, "prediction": row["answer"], "correct": 1.0} if row["index"] % 6 == 1 else row for row in rows()]
    names = (f"before {CODE}", "after \u202e")
    write_report(rows(), folder / "two.html", images=images(), other=better, names=names)
    write_report(tables(), folder / "tables.html")
    return folder


@pytest.fixture(scope="module")
def browser(folder):
    with started_browser(folder) as driver:
        yield driver


@pytest.fixture
def quiet(browser, folder):
    """Open the report anew; afterwards nothing may have been requested, said on the console or run."""
    browser.set_window_size(1280, 900)
    browser.get((folder / "one.html").as_uri())
    yield
    assert console(browser) == []
    assert {url for url in requests(browser) if not url.startswith(folder.as_uri())} == set()
    assert browser.title != "ran"


def count(browser):
    return browser.find_element("id", "count").text


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20, poll_frequency=0.05).until(condition)


def choose(browser, field, value):
    """Choose an option of a filter by its value, and wait until the page has followed."""
    options = browser.find_elements("css selector", f"#{field} option")
    next(option for option in options if option.get_attribute("value") == value).click()
    browser.execute_async_script("setTimeout(arguments[0], 1)")  # behind the page's own


def cards(browser):
    return [card.text for card in browser.find_elements("css selector", "#rows article")]


@pytest.mark.parametrize(
    ("field", "value", "n", "right"),
    [
        ("verdict", "right", 40, 40),
        ("verdict", "wrong", 80, 0),
        ("source", "human", 59, 19),
        ("question_type", "count", 29, 9),
        ("answer_type", "year", 30, 10),
        ("answer_type", "yes/no", 30, 10),
        ("kind", "scale", 20, 0),
        ("kind", "yes for no", 20, 0),
    ],
)
def test_filters_show_the_rows_that_fit(browser, field, value, n, right):
    assert count(browser) == "120 of 120 examples, 40 right"
    choose(browser, field, value)
    assert count(browser) == f"{n} of 120 examples, {right} right"
    assert len(cards(browser)) == min(n, 48)


def test_filters_and_search_narrow_each_other_and_are_cleared(browser):
    choose(browser, "verdict", "wrong")
    choose(browser, "answer_type", "number")
    assert count(browser) == "20 of 120 examples, 0 right"
    search = browser.find_element("id", "search")
    search.send_keys("CHART 36.png")
    wait(browser, lambda b: count(b) == "2 of 120 examples, 0 right")
    assert "chart 36.png" in cards(browser)[0]
    assert "off by +9,900 %, 10^2 times the answer" in cards(browser)[0]
    browser.find_element("css selector", "button[type=reset]").click()
    wait(browser, lambda b: count(b) == "120 of 120 examples, 40 right")
    search.send_keys("nothing like this")
    wait(browser, lambda b: count(b) == "0 of 120 examples, 0 right")
    assert cards(browser) == []


def test_rows_are_sorted_by_chart_and_by_error(browser):
    choose(browser, "source", "augmented")
    choose(browser, "sort", "chart")
    names = [line.split(" · ")[1] for card in cards(browser) for line in card.splitlines() if " · " in line]
    assert names == sorted(names, key=lambda name: int(name.split()[1].removesuffix(".png")))
    choose(browser, "sort", "error")
    assert "off by +9,900 %" in cards(browser)[0]


def test_charts_are_loaded_when_they_come_into_view(browser):
    def loaded():
        return browser.execute_script("return [...document.querySelectorAll('#rows img')].map(i => !!i.src)")

    browser.set_window_size(400, 800)
    wait(browser, lambda b: any(loaded()) or b.execute_script("scrollTo(0, document.body.scrollHeight / 4)"))
    assert not all(loaded())
    browser.execute_script("document.querySelector('#rows article:last-child').scrollIntoView()")
    wait(browser, lambda _: loaded()[47])
    assert browser.execute_script("return document.querySelector('#rows img[src]').naturalWidth") == 64
    wait(browser, lambda b: len(b.find_elements("css selector", "#rows article")) == 96)


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(browser, folder, width):
    browser.set_window_size(width, 800)
    for name in ("one", "two"):
        browser.get((folder / f"{name}.html").as_uri())
        wide, window = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window


def test_the_keyboard_leads_through_the_examples(browser):
    from selenium.webdriver.common.keys import Keys

    def press(keys):
        browser.switch_to.active_element.send_keys(keys)

    def focused():
        return browser.execute_script(
            "return [...document.querySelectorAll('#rows article')].indexOf(document.activeElement)"
        )

    press("jj")
    assert focused() == 1
    press("k")
    assert focused() == 0
    press("/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    press("jump")
    wait(browser, lambda b: count(b).startswith("0 of"))
    press(Keys.ESCAPE)
    assert browser.switch_to.active_element.tag_name == "body"
    browser.get(browser.current_url)
    press(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the examples"
    press(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "search"


def test_a_point_of_the_plot_selects_its_example(browser):
    choose(browser, "kind", "scale")
    points = browser.find_elements("css selector", "#plot circle")
    assert len(points) == 20
    browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", points[4])
    assert browser.execute_script("return document.activeElement === document.querySelectorAll('#rows article')[4]")
    bars = [text.text for text in browser.find_elements("css selector", "#sizes text")]
    assert bars[-2:] == ["more", "20"]


def test_two_runs_stand_side_by_side(browser, folder):
    browser.get((folder / "two.html").as_uri())
    head, *lines = browser.find_elements("css selector", "section[aria-labelledby=comparison] tr")
    assert head.text.split()[-3:] == ["better", "worse", "n"]
    assert lines[-1].text == "all questions +16.67 +9.71 to +23.28 1.91e-06 20 0 120"
    choose(browser, "change", "better in the second")
    assert count(browser) == f"20 of 120 examples, right: 0 by before {CODE}, 20 by after \\u202e"
    first = cards(browser)[0].splitlines()
    assert f"before {CODE}: Chile" in first
    assert "after \\u202e: Peru" in first
    assert [line for line in first if line.startswith(("right", "wrong"))] == [
        "wrong: another text",
        "right: text equal",
    ]
    # A mistake of either run is found.
    choose(browser, "kind", "text")
    assert count(browser).startswith("10 of 120 examples")


def test_markup_in_any_field_stays_text(browser):
    choose(browser, "source", SEEN)
    card = browser.find_element("css selector", "#rows article")
    assert (
        card.text.count(SEEN) == 7
    )  # question, prediction, scored, answer, and in the last line chart, source and type
    assert browser.execute_script("return document.querySelectorAll('#rows img').length") == 1
    assert browser.find_element("css selector", "#rows img").get_attribute("alt") == f"chart {SEEN}"
    assert browser.find_element("tag name", "h1").text == SEEN
    assert browser.execute_script("return document.scripts.length") == 3


def test_the_rules_are_printed(browser):
    browser.find_element("tag name", "summary").click()
    rules = browser.find_element("tag name", "details").text
    for name, rule in QUESTION_RULES.items():
        assert f"{name}: {rule}" in rules


def test_light_and_dark_and_print_differ(browser):
    def colors(**media):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        return browser.execute_script(
            "const s = getComputedStyle(document.body), f = getComputedStyle(document.getElementById('filters'));"
            "return [s.color, s.backgroundColor, f.display]"
        )

    def scheme(value):
        return [{"name": "prefers-color-scheme", "value": value}]

    assert colors(features=scheme("light")) == ["rgb(28, 28, 28)", "rgb(255, 255, 255)", "flex"]
    assert colors(features=scheme("dark")) == ["rgb(236, 236, 236)", "rgb(22, 22, 22)", "flex"]
    assert colors(media="print", features=scheme("dark")) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)", "none"]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_printing_shows_every_row_and_chart(browser):
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(browser.find_elements("css selector", "#rows article")) == 120
    assert browser.execute_script("return [...document.querySelectorAll('#rows img')].every(i => i.src)")


def test_tables_stand_beside_each_other_with_wrong_cells_marked(browser, folder):
    browser.get((folder / "tables.html").as_uri())
    first, second, third = browser.find_elements("css selector", "#rows article")
    predicted, right = first.find_elements("css selector", "table")
    assert [cell.text for cell in predicted.find_elements("css selector", ".wrong")] == [CODE]
    assert [cell.text for cell in right.find_elements("css selector", ".wrong")] == ["4"]
    assert [cell.text for cell in right.find_elements("css selector", "th, td")] == ["Year", "EU", "2019", "4"]
    predicted, right = third.find_elements("css selector", "table")
    assert predicted.location["y"] == right.location["y"]
    assert "Prediction: (no table)" in second.text
