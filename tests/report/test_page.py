"""Tests of the HTML page of a comparison, in a file and in a browser."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convbench.report.page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HTML_LABEL = "<b>x</b>"  # has to be shown as text
OpenPage = Callable[..., "Page"]


def variant(
    label: str, lr: str | None, accuracy: float | None, params: int | None, is_best: bool = False
) -> dict[str, Any]:
    shown = None if accuracy is None else f"{accuracy:.2f} ± 0.52"
    return {
        "label": label,
        "keys": {"conv": label.split()[0]} | ({} if lr is None else {"optimizer.lr": lr}),
        "color": "#000000",
        "dash": "6 3" if is_best else "",
        "marker": "square" if is_best else "circle",
        "cells": {
            "accuracy": {"value": accuracy, "text": shown, "is_best": is_best},
            "params": {"value": params, "text": f"{params:,}", "is_best": False} if params else None,
        },
        "runs": [
            {
                "folder": f"../conv={label},seed={seed}#?",
                "name": f"{label}-{seed}",
                "seed": seed,
                "status": "finished" if seed == 0 else "diverged",
                "cells": {"accuracy": f"{accuracy}.{seed}", "params": None, "seconds_total": "12 s"},
                "command": f"python -m convbench.train 'conv={label}' seed={seed}",
            }
            for seed in range(2)
        ],
    }


def curve(index: int, first: float) -> dict[str, Any]:
    loss = [first, first / 10, None, first / 100]
    return {
        "variant": index,
        "label": "layer conv1" if index == 1 else None,
        "x": {"epochs": [1, 2, 3, 4], "seconds": [100, 200, 300, 400]},
        "y": {
            "loss": {"mean": loss, "low": [y and y * 0.9 for y in loss], "high": [y and y * 1.1 for y in loss]},
            "accuracy": {"mean": [10, 20, 30, 40], "low": [None] * 4, "high": [None] * 4},
        },
    }


def point(index: int, params: int | None, accuracy: float, is_front: bool) -> dict[str, Any]:
    return {
        "variant": index,
        "x": {"params": params, "seconds": 1.5 + index},
        "y": {"accuracy": {"mean": accuracy, "low": accuracy - 1, "high": accuracy + 1}},
        "front": {"params": is_front, "seconds": False},
    }


DATA: dict[str, Any] = {
    "title": "outputs/sweeps/<ablation>",
    "made": "2026-11-21 13:40",
    "version": "0.1.0",
    "summary": "8 runs in 4 variants; compared keys: conv, optimizer.lr",
    "warnings": ["2 runs are unfinished."],
    "findings": ["dynamic is better than standard by 1.2 points (95 % interval 0.4 to 2.0, n=5)"],
    "keys": ["conv", "optimizer.lr"],
    "columns": [
        {"key": "accuracy", "title": "test accuracy", "unit": "%", "help": "mean over seeds", "better": "higher"},
        {"key": "params", "title": "parameters", "unit": None, "help": None, "better": "lower"},
    ],
    "variants": [
        variant("standard", "0.1", 9.5, 174_787),
        variant("dynamic", "0.05", 76.2, 3_000_000, is_best=True),
        variant("dynamic small", "1e-3", None, 20_000),
        variant(HTML_LABEL, None, 10.5, None),
    ],
    "charts": [
        {
            "id": "curves",
            "title": "Learning curves",
            "kind": "lines",
            "note": "band: ± one standard deviation over seeds",
            "x_options": [{"key": "epochs", "title": "epoch"}, {"key": "seconds", "title": "training time (s)"}],
            "y_options": [{"key": "loss", "title": "loss", "log": False}, {"key": "accuracy", "title": "accuracy (%)"}],
            "series": [curve(0, 2.0), curve(1, 1.0), curve(3, 0.5)],
        },
        {
            "id": "pareto",
            "title": "Accuracy against cost",
            "kind": "points",
            "note": None,
            "x_options": [
                {"key": "params", "title": "parameters", "log": True},
                {"key": "seconds", "title": "time an epoch (s)", "log": False},
            ],
            "y_options": [{"key": "accuracy", "title": "test accuracy (%)"}],
            "points": [point(0, 174_787, 60, True), point(1, 3_000_000, 76.2, True), point(3, None, 10.5, False)],
        },
    ],
}


def written(path: Path, data: dict[str, Any]) -> str:
    write_page(path, data)
    return path.read_text(encoding="utf-8")


def embedded(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


# Tests of the file


def test_the_page_embeds_the_data_unchanged(tmp_path: Path) -> None:
    assert embedded(written(tmp_path / "index.html", DATA)) == DATA


def test_text_in_the_data_cannot_end_the_script_element_or_be_expanded_as_a_template(tmp_path: Path) -> None:
    data = DATA | {"summary": "</script><!-- <script> {{js}} {{title}}", "findings": ["é ± ★"]}
    text = written(tmp_path / "index.html", data)
    assert embedded(text) == data
    assert text.count("<script") == text.count("</script>") == 2


def test_nan_and_infinity_are_embedded_as_missing_values(tmp_path: Path) -> None:
    data = DATA | {"extra": [float("nan"), float("inf"), 1.5]}
    assert embedded(written(tmp_path / "index.html", data))["extra"] == [None, None, 1.5]


def test_the_page_refers_to_no_other_file_and_no_url(tmp_path: Path) -> None:
    text = written(tmp_path / "index.html", DATA)
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a namespace, which is never requested
    assert not re.search(r"\bsrc=|@import|url\(|fetch\(", text)
    assert "{{" not in text


# Tests in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_page(browser: "Browser") -> "Page":
    """The browser page that most tests share, as opening a new one takes longer than the tests."""
    return browser.new_context(viewport={"width": 1280, "height": 900}).new_page()


@pytest.fixture
def show(browser: "Browser", shared_page: "Page", tmp_path: Path) -> Iterator[OpenPage]:
    """Opens a report; after the test, checks that there were no console messages, errors or requests of other files."""
    events_seen: list[str] = []
    listeners: dict[str, Callable[[Any], None]] = {
        "console": lambda message: events_seen.append(f"console {message.type}: {message.text}"),
        "pageerror": lambda error: events_seen.append(f"error: {error}"),
        "request": lambda request: events_seen.append(request.url),
    }
    path = tmp_path / "index.html"
    pages = []

    def show(data: dict[str, Any] = DATA, script: str = "", **options: Any) -> "Page":
        write_page(path, data)
        page = browser.new_context(**options).new_page() if options or script else shared_page
        pages.append(page)
        page.set_default_timeout(5000)
        for event, listener in listeners.items():
            page.on(event, listener)
        if script:
            page.add_init_script(script)
        page.mouse.move(0, 0)
        page.goto(path.as_uri())
        return page

    yield show
    for page in pages:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        if page is not shared_page:
            page.context.close()
    assert events_seen == [path.as_uri()]


def labels(page: "Page") -> list[str]:
    return page.locator("#table tbody:visible .fold .label").all_inner_texts()


def head(page: "Page", title: str) -> "Locator":
    return page.locator("#table thead th", has=page.get_by_role("button", name=re.compile(f"^{title}")))


def texts(page: "Page", chart: str) -> list[str]:
    """The texts in a chart: tick labels, axis titles and names of variants."""
    return page.locator(f"#chart-{chart} .plot").locator("text, .title").all_text_contents()


def item(page: "Page", chart: str, label: str) -> "Locator":
    return page.locator(f"#chart-{chart} .legend").get_by_role("button", name=label, exact=True)


def series(page: "Page", chart: str) -> int:
    return page.locator(f"#chart-{chart} .series").count()


def point_at_last_mark(page: "Page", chart: str) -> None:
    """Move the mouse to the lower right corner of the drawn marks, where a falling curve ends."""
    box = page.locator(f"#chart-{chart} .series .mark").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)


def test_a_click_on_a_heading_sorts_the_best_value_first_and_missing_values_last(show: OpenPage) -> None:
    page = show()
    assert labels(page) == ["standard", "dynamic", "dynamic small", HTML_LABEL]
    for title, way, expected in [
        ("variant", "ascending", [HTML_LABEL, "dynamic", "dynamic small", "standard"]),
        ("test accuracy", "descending", ["dynamic", HTML_LABEL, "standard", "dynamic small"]),
        ("conv", "ascending", [HTML_LABEL, "dynamic", "dynamic small", "standard"]),
        ("parameters", "ascending", ["dynamic small", "standard", "dynamic", HTML_LABEL]),
        ("optimizer.lr", "ascending", ["dynamic small", "dynamic", "standard", HTML_LABEL]),
    ]:
        head(page, title).get_by_role("button").click()
        assert labels(page) == expected, title
        assert head(page, title).get_attribute("aria-sort") == way, title


def test_a_second_click_or_enter_reverses_the_order_and_keeps_missing_values_last(show: OpenPage) -> None:
    page = show()
    head(page, "parameters").get_by_role("button").click()
    page.keyboard.press("Enter")
    assert labels(page) == ["dynamic", "standard", "dynamic small", HTML_LABEL]
    assert head(page, "parameters").get_attribute("aria-sort") == "descending"
    head(page, "conv").get_by_role("button").click()
    assert head(page, "parameters").get_attribute("aria-sort") == "none"


def test_the_filter_keeps_the_variants_that_match_all_words(show: OpenPage) -> None:
    page = show()
    for words, expected in [
        ("STAND", ["standard"]),
        ("conv=dynamic", ["dynamic", "dynamic small"]),
        ("small  dyn", ["dynamic small"]),
        ("lr=0.1", ["standard"]),
        ("standard dynamic", []),
        (" ", ["standard", "dynamic", "dynamic small", HTML_LABEL]),
    ]:
        page.get_by_label("Filter").fill(words)
        assert labels(page) == expected, words
        assert page.locator("#count").inner_text() == f"{len(expected)} of 4 variants"


def test_the_filter_applies_to_the_charts_too(show: OpenPage) -> None:
    page = show()
    page.get_by_label("Filter").fill("dynamic")
    assert (series(page, "curves"), series(page, "pareto")) == (1, 1)
    assert item(page, "curves", "dynamic").is_visible()
    assert not item(page, "curves", "standard").is_visible()


def test_the_best_value_has_a_star_and_a_tooltip(show: OpenPage) -> None:
    best = show().locator("#table .best")
    assert best.all_inner_texts() == ["★ 76.20 ± 0.52"]
    assert best.get_attribute("title") == "better than every other by more than chance (higher is better)"


def test_a_single_key_that_equals_the_label_is_shown_only_once(show: OpenPage) -> None:
    data = deepcopy(DATA) | {"keys": ["conv"]}
    data["variants"] = data["variants"][:2]
    data["charts"] = []
    assert show(data).locator("#table thead th").all_inner_texts() == ["conv", "test accuracy %", "parameters"]


def test_runs_are_in_the_document_only_while_they_are_unfolded(show: OpenPage) -> None:
    page = show()
    fold = page.get_by_role("button", name="standard 2 runs")
    assert page.locator(".run").count() == 0
    fold.click()
    assert fold.get_attribute("aria-expanded") == "true"
    rows = page.locator(".run")
    assert rows.locator("th").all_inner_texts() == [
        "standard-0 seed 0, finished, 12 s",
        "standard-1 seed 1, diverged, 12 s",
    ]
    assert rows.nth(1).locator("td").all_inner_texts() == ["", "9.5.1", ""]
    assert rows.nth(1).locator(".bad").inner_text() == "diverged"
    fold.click()
    assert page.locator(".run, .reproduce").count() == 0


def test_a_run_links_to_its_folder_also_with_special_characters(show: OpenPage, tmp_path: Path) -> None:
    page = show()
    page.get_by_role("button", name="standard 2 runs").click()
    reached = page.locator(".run a").first.evaluate("link => link.href")
    assert reached == (tmp_path.parent / "conv=standard,seed=0#?").as_uri().replace("=", "%3D").replace(",", "%2C")


def test_runs_are_sorted_and_hidden_with_their_variant(show: OpenPage) -> None:
    page = show()
    page.get_by_role("button", name="standard 2 runs").click()
    head(page, "variant").get_by_role("button").click()
    assert page.locator("#table tbody").nth(3).locator(".run").count() == 2
    page.get_by_label("Filter").fill("dynamic")
    assert page.locator(".run:visible").count() == 0


def test_the_commands_of_a_variant_are_shown_and_can_be_copied(show: OpenPage) -> None:
    page = show(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="standard 2 runs").click()
    block = page.locator(".reproduce")
    commands = [f"python -m convbench.train 'conv=standard' seed={seed}" for seed in range(2)]
    assert "How to reproduce" in block.inner_text()
    assert block.locator("code").all_inner_texts() == commands
    for name, expected in [
        (f"copy {commands[1]}", commands[1]),
        ("copy all commands of standard", "\n".join(commands)),
    ]:
        button = block.get_by_role("button", name=name)
        button.click()
        button.get_by_text("copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_a_command_is_selected_if_the_browser_gives_no_access_to_the_clipboard(show: OpenPage) -> None:
    page = show(script="Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="standard 2 runs").click()
    page.locator(".reproduce li button").first.click()
    page.get_by_text("press Ctrl+C").wait_for()
    assert page.evaluate("getSelection().toString()") == "python -m convbench.train 'conv=standard' seed=0"


def test_runs_without_a_command_are_reported(show: OpenPage) -> None:
    data = deepcopy(DATA)
    for run in data["variants"][0]["runs"]:
        run["command"] = None
    page = show(data)
    page.get_by_role("button", name="standard 2 runs").click()
    assert page.locator(".reproduce").inner_text().strip() == "How to reproduce: these runs kept no command."


def test_a_click_in_the_legend_hides_and_shows_a_variant_of_one_chart(show: OpenPage) -> None:
    page = show()
    assert (series(page, "curves"), series(page, "pareto")) == (3, 2)
    item(page, "curves", "standard").click()
    assert item(page, "curves", "standard").get_attribute("aria-pressed") == "false"
    assert (series(page, "curves"), series(page, "pareto")) == (2, 2)
    item(page, "curves", "standard").click()
    assert item(page, "curves", "standard").get_attribute("aria-pressed") == "true"
    assert series(page, "curves") == 3


def test_a_double_click_or_alt_click_shows_one_variant_and_buttons_show_all_or_none(show: OpenPage) -> None:
    page = show()
    pressed = page.locator("#chart-curves .legend [aria-pressed=true]")
    item(page, "curves", "dynamic").dblclick()
    assert pressed.all_inner_texts() == ["dynamic"]
    item(page, "curves", "standard").click(modifiers=["Alt"])
    assert pressed.all_inner_texts() == ["standard"]
    item(page, "curves", "none").click()
    assert series(page, "curves") == pressed.count() == 0
    assert "Nothing is shown: choose variants below." in texts(page, "curves")
    item(page, "curves", "all").click()
    assert series(page, "curves") == pressed.count() == 3


def test_a_choice_of_axes_changes_ticks_and_titles(show: OpenPage) -> None:
    page = show()
    assert {"loss", "epoch", "0", "0.5", "2.0", "1", "4"} <= set(texts(page, "curves"))
    controls = page.locator("#chart-curves .controls")
    controls.get_by_label("x axis").select_option("training time (s)")
    controls.get_by_label("y axis").select_option("accuracy (%)")
    assert {"accuracy (%)", "training time (s)", "100", "400", "10", "40"} <= set(texts(page, "curves"))
    assert not {"loss", "epoch"} & set(texts(page, "curves"))
    drawing = page.locator("#chart-curves .plot > svg")
    assert drawing.get_attribute("aria-label") == "Learning curves: accuracy (%) against training time (s)"


def test_a_logarithmic_axis_has_round_ticks(show: OpenPage) -> None:
    page = show()
    page.locator("#chart-curves").get_by_label("logarithmic y").check()
    assert {"loss, logarithmic", "0.01", "0.1", "1"} <= set(texts(page, "curves"))
    assert {"parameters, logarithmic", "200k", "500k", "1M", "2M"} <= set(texts(page, "pareto"))


def test_an_axis_with_one_option_has_no_select_element(show: OpenPage) -> None:
    assert show().locator("#chart-pareto select").count() == 1


def test_lines_differ_in_dash_and_marker_and_have_bands_and_gaps_at_missing_values(show: OpenPage) -> None:
    page = show()
    first, second = page.locator("#chart-curves .series").all()[:2]
    dashes = [line.locator(".line").get_attribute("stroke-dasharray") for line in (first, second)]
    assert dashes == ["", "6 3"]
    marks = [str(line.locator(".mark").get_attribute("d")) for line in (first, second)]
    assert (marks[0].count("a"), marks[1].count("h")) == (2 * 3, 2 * 3)  # arcs of three circles, sides of three squares
    path = str(first.locator(".line").get_attribute("d"))
    assert (path.count("M"), path.count("L")) == (2, 1)
    assert str(first.locator(".band").get_attribute("d")).count("z") == 1


def test_the_points_of_the_pareto_front_are_joined_only_for_the_axes_that_have_one(show: OpenPage) -> None:
    page = show()
    front = page.locator("#chart-pareto .front")
    assert str(front.get_attribute("d")).count("L") == 1
    assert {"standard", "dynamic"} <= set(texts(page, "pareto"))
    page.locator("#chart-pareto").get_by_label("x axis").select_option("time an epoch (s)")
    assert front.count() == 0
    assert series(page, "pareto") == 3


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        ("pareto", "dynamic\ntest accuracy (%): 76.2 (75.2 to 77.2)\nparameters: 3,000,000"),
        ("curves", "dynamic, layer conv1\nloss: 0.01 (0.009 to 0.011)\nepoch: 4"),
    ],
)
def test_the_tooltip_shows_name_and_values_of_the_nearest_point(show: OpenPage, chart: str, expected: str) -> None:
    page = show()
    tip = page.locator(f"#chart-{chart} .tip")
    item(page, chart, "dynamic").dblclick()
    assert not tip.is_visible()
    point_at_last_mark(page, chart)
    assert tip.inner_text() == expected
    assert page.locator(f"#chart-{chart} .near").count() == 1
    page.mouse.move(0, 0)
    assert not tip.is_visible()


def test_labels_are_shown_as_text_and_not_as_html(show: OpenPage) -> None:
    page = show()
    assert page.title() == page.locator("h1").inner_text() == "outputs/sweeps/<ablation>"
    page.get_by_role("button", name=f"{HTML_LABEL} 2 runs").click()
    assert page.locator(".run a").first.inner_text() == f"{HTML_LABEL}-0"
    assert item(page, "curves", HTML_LABEL).is_visible()
    item(page, "curves", HTML_LABEL).dblclick()
    point_at_last_mark(page, "curves")
    assert page.locator("#chart-curves .tip").inner_text().startswith(HTML_LABEL)
    assert page.locator("b", has_text=re.compile("^x$")).count() == 0


def test_findings_warnings_and_meanings_of_columns_are_shown(show: OpenPage) -> None:
    page = show()
    assert page.locator("#warnings li").all_inner_texts() == ["Warning: 2 runs are unfinished."]
    assert page.locator("#findings li").all_inner_texts() == DATA["findings"]
    assert page.locator("#made").inner_text() == "Made 2026-11-21 13:40 by convbench 0.1.0."
    page.get_by_text("What the columns mean").click()
    assert "mean over seeds; higher is better" in page.locator("#meanings").inner_text()


def test_an_empty_comparison_gives_a_page(show: OpenPage) -> None:
    page = show(DATA | {"variants": [], "charts": [], "warnings": [], "findings": [], "keys": []})
    assert page.locator("#count").inner_text() == "0 of 0 variants"
    assert not page.locator("#warnings").is_visible()
    assert not page.locator("#findings").is_visible()


def test_the_table_is_shown_without_javascript(show: OpenPage) -> None:
    rows = show(java_script_enabled=False).locator("noscript tr")
    assert rows.nth(0).locator("td").all_inner_texts() == ["variant", "test accuracy %", "parameters"]
    assert rows.nth(3).locator("td").all_inner_texts() == ["dynamic small", "-", "20,000"]
    assert rows.nth(4).locator("td").all_inner_texts() == [HTML_LABEL, "10.50 ± 0.52", "-"]


@pytest.mark.parametrize("width", [400, 1280])
def test_only_the_table_scrolls_horizontally(show: OpenPage, width: int) -> None:
    page = show(viewport={"width": width, "height": 800})
    page.get_by_role("button", name="standard 2 runs").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#chart-curves svg').viewBox.baseVal.width") < width


@pytest.mark.parametrize(("scheme", "expected"), [("light", 0.0), ("dark", 0.66)])
def test_black_becomes_light_in_dark_mode(show: OpenPage, scheme: str, expected: float) -> None:
    color = show(color_scheme=scheme).locator(".swatch").first.evaluate("node => getComputedStyle(node).color")
    assert color.startswith(f"oklch({expected:g} ")


def test_a_page_of_ten_thousand_runs_has_one_row_for_each_variant(show: OpenPage) -> None:
    many = [variant(f"v{index}", "0.1", float(index), 1000 + index) for index in range(500)]
    for one in many:
        one["runs"] *= 10
    page = show(DATA | {"variants": many, "charts": []})
    assert page.locator("#table tr").count() == 1 + 500
    head(page, "test accuracy").get_by_role("button").click()
    assert page.locator(".fold .label").first.inner_text() == "v499"
