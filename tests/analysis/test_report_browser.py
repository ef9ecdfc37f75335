"""The report in a real browser, as somebody with a mouse, or with a keyboard alone, meets it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_study import EVIL, write_study

from nstbench.analysis.report.write import Report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1400,1000",
)  # fmt: skip


CHECKS = (Path(__file__).parent / "report_checks.js").read_text()


class Reader:
    """Somebody in front of the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.url = ""

    def open(self, url: str, **media: str) -> None:
        self.url = url
        media = {"prefers_reduced_motion": "reduce", **media}  # nothing moves while it is clicked at
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")  # else another part of the same address does not load it again
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def check(self, name: str, *arguments: object) -> Any:
        """Ask one of the questions in report_checks.js."""
        call = f"if (!window.checks) {{ {CHECKS} }}; return window.checks.{name}(...arguments)"
        return self.run(call, *arguments)

    def texts(self, selector: str) -> list[str]:
        return list(self.check("texts", selector))

    def choose(self, name: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(f"select[name='{name}']")).select_by_visible_text(text)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            ActionChains(self.driver).send_keys(getattr(Keys, key, key)).perform()

    def focused(self) -> str:
        return str(self.check("focused"))

    def until(self, holds: Callable[[], Any]) -> Any:
        for _ in range(100):
            if found := holds():
                return found
            time.sleep(0.05)
        raise AssertionError("it did not come about within five seconds")

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def tiles(self, row: int) -> list[str]:
        """Return the runs in a row of the grid, cell by cell."""
        return list(self.check("row", row))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Reader(driver)
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a report that was moved away from its study, as if sent to somebody."""
    root = tmp_path_factory.mktemp("study")
    study = write_study(root)
    Report(study, study / "report").write()
    (study / "report").rename(root / "sent")
    return (root / "sent" / "index.html").as_uri()


@pytest.fixture
def reader(browser: Reader, page: str) -> Iterator[Reader]:
    browser.open(page)
    yield browser
    assert browser.errors() == []  # whatever was done, nothing went wrong in the page


def colour_of(reader: Reader, selector: str) -> list[int]:
    """Return the colour in the middle of a picture, as the browser shows it."""
    element = reader.one(selector)
    reader.run("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
    reader.until(lambda: reader.run("return arguments[0].complete && arguments[0].naturalWidth > 0", element))
    import io

    from PIL import Image

    shot = Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")
    return list(shot.getpixel((shot.width // 2, shot.height // 2)))


def test_it_opens_from_disk_with_what_a_reader_looks_for(reader: Reader) -> None:
    assert reader.texts("h1") == ["colours"]
    assert reader.texts("h2")[:5] == [
        "Pictures", "Table", "Loss curves", "Trade-off of content and style", "Failures",
    ]  # fmt: skip
    assert "6 completed" in reader.texts(".counts")[0]
    requests = reader.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in requests if not name.startswith(("file:", "data:"))] == []


def test_the_grid_has_each_picture_where_its_settings_are(reader: Reader) -> None:
    assert reader.texts(".grid thead th") == ["1", "10", "100", "1000"]
    assert reader.texts(".grid tbody th") == ["gram", "mrf"]
    assert reader.tiles(0) == ["gram-1", "gram-10", "gram-100", "gram-1000"]
    assert reader.tiles(1) == ["mrf-1", "mrf-10", "mrf-100", "mrf-1000"]
    red, green, blue = colour_of(reader, ".tile[data-run='mrf-100'] img")
    assert (abs(red - 30) < 12, abs(green - 160) < 12, abs(blue - 120) < 12) == (True, True, True)
    assert reader.texts(".tile[data-run='gram-1000'] .frame") == ["failed"]
    assert reader.texts(".tile[data-run='mrf-1000'] .frame") == ["unfinished"]


def test_the_best_is_marked_with_a_sign_and_a_word(reader: Reader) -> None:
    assert reader.check("best") == ["gram-1 ssim 0.900★ best", "gram-100 gram_distance 0.100★ best"]


def test_rows_and_columns_change_places(reader: Reader) -> None:
    reader.choose("rows", "weights.style")
    assert reader.texts(".grid tbody th") == ["1", "10", "100", "1000"]
    assert reader.texts(".grid thead th") == ["gram", "mrf"]
    assert reader.tiles(2) == ["gram-100", "mrf-100"]
    assert reader.focused() == "rows"


def test_a_setting_that_is_no_axis_is_a_filter_and_tells_pictures_of_a_cell_apart(reader: Reader) -> None:
    reader.choose("cols", "–")
    assert reader.tiles(0) == ["gram-1 gram-10 gram-100 gram-1000"]
    assert reader.texts(".tile[data-run='gram-10'] .tags") == ["weights.style 10"]
    reader.choose("only.weights.style", "10")
    assert reader.tiles(0) == ["gram-10"]
    assert reader.texts("#grid-count") == ["2 of 8 runs."]


def test_rows_can_be_ordered_by_what_came_out(reader: Reader) -> None:
    reader.choose("order", "mean psnr")
    assert reader.texts(".grid tbody th") == ["gram", "mrf"]
    reader.choose("order", "mean gram_distance")
    assert reader.texts(".grid tbody th") == ["gram", "mrf"]
    reader.choose("rows", "weights.style")
    assert reader.texts(".grid tbody th") == ["100", "10", "1", "1000"]  # the one without a value is last


def test_the_metrics_shown_can_be_chosen(reader: Reader) -> None:
    reader.one(".chooser summary").click()
    reader.one("input[name='psnr']").click()
    reader.one("input[name='ssim']").click()
    assert reader.texts(".tile[data-run='gram-10'] .metric > span:first-child") == ["gram_distance", "psnr"]
    assert reader.texts(".tile[data-run='gram-10'] .metric b") == ["0.200", "10.5"]


def order_in_table(reader: Reader) -> list[str]:
    return reader.texts("#table-scroller tbody td:last-child")


def test_the_table_sorts_numbers_as_numbers_and_says_how(reader: Reader) -> None:
    reader.one("button[data-column='psnr']").click()
    best_first = ["gram-100", "mrf-100", "mrf-10", "gram-10", "gram-1", "mrf-1"]
    assert order_in_table(reader)[:6] == best_first
    assert reader.run("return document.querySelector('th[aria-sort]').ariaSort") == "descending"
    assert reader.focused().startswith("psnr")
    reader.press("ENTER")
    assert order_in_table(reader)[:6] == best_first[::-1]
    assert order_in_table(reader)[6:] == ["gram-1000", "mrf-1000"]  # without a value: last either way
    assert reader.run("return [...document.querySelectorAll('th[aria-sort]')].map(e => e.ariaSort)") == [
        "ascending"
    ]


def test_the_table_is_filtered_by_words_and_conditions(reader: Reader) -> None:
    field = reader.one("#table-filter")
    for text, left in (
        ("MRF", ["mrf-1", "mrf-10", "mrf-100", "mrf-1000"]),
        ("psnr>10 loss.style=gram", ["gram-10", "gram-100"]),
        ("weights.style=10", ["gram-10", "mrf-10"]),
        ("state=failed", ["gram-1000"]),
        ("nothing-like-it", []),
    ):
        field.clear()
        field.send_keys(text)
        assert sorted(order_in_table(reader)) == sorted(left)
        assert reader.texts("#table-count") == [f"{len(left)} of 8 runs."]


def test_a_click_enlarges_the_picture_beside_its_facts(reader: Reader) -> None:
    reader.one(".tile[data-run='mrf-100']").click()
    assert reader.texts("#enlarged-title") == ["weights.style 100 · mrf"]
    reader.run("byId('slider').value = 0; byId('slider').dispatchEvent(new Event('input'))")
    red, green, blue = colour_of(reader, ".before-after .after")
    assert (abs(red - 30) < 12, abs(green - 160) < 12, abs(blue - 120) < 12) == (True, True, True)
    facts = reader.one(".facts").text
    for said in ("0.450", "psnr ↑", "20", "nstbench run study=colours loss/style=mrf weights.style=100"):
        assert said in facts
    reader.one("#close").click()
    assert reader.all("dialog[open]") == []
    assert reader.focused() == "mrf-100"


def test_the_slider_uncovers_the_content_picture_and_the_style_picture(reader: Reader) -> None:
    reader.one(".tile[data-run='gram-1']").click()
    reader.run("document.querySelector('#slider').focus()")
    share = "return getComputedStyle(document.querySelector('.before-after')).getPropertyValue('--share')"
    assert reader.run(share) == "50%"
    reader.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert reader.run(share) == "52%"
    assert reader.texts("#enlarged-title") == ["weights.style 1 · gram"]  # the arrows moved the slider only
    reader.press("END")
    red, green, blue = colour_of(reader, ".before-after .before")
    assert (red > 230, green > 230, blue < 30) == (True, True, True)
    reader.run("byId('against-style0').click()")
    red, green, blue = colour_of(reader, ".before-after .before")
    assert (red < 30, green < 30, blue > 230) == (True, True, True)


def test_a_keyboard_is_enough(reader: Reader) -> None:
    reader.press("TAB")
    assert reader.focused() == "Skip to the pictures"
    for _ in range(40):
        reader.press("TAB")
        if reader.focused() == "gram-1":
            break
    assert reader.focused() == "gram-1"
    reader.press("ARROW_RIGHT", "ARROW_DOWN")
    assert reader.focused() == "mrf-10"
    reader.press("ENTER")
    assert reader.texts("#enlarged-title") == ["weights.style 10 · mrf"]
    reader.press("ARROW_RIGHT")
    assert reader.texts("#enlarged-title") == ["weights.style 100 · mrf"]
    reader.press("ARROW_LEFT", "ARROW_LEFT")
    assert reader.texts("#enlarged-title") == ["weights.style 1 · mrf"]
    assert reader.texts(".place") == ["5 of 8"]
    reader.press("ESCAPE")
    assert reader.all("dialog[open]") == []
    assert reader.focused() == "mrf-10"


def test_curves_are_drawn_and_name_their_run(reader: Reader) -> None:
    reader.run("document.querySelector('#curves').scrollIntoView({behavior: 'instant'})")
    reader.until(lambda: reader.all("#curves-plot svg.lines"))
    assert len(reader.all("#curves-plot svg > g:last-child path")) == 6
    assert reader.texts("#curves-legend li") == ["gram", "mrf"]
    reader.run("document.querySelector('#curves-plot svg').focus()")
    reader.press("ARROW_RIGHT")
    assert reader.texts("#curves-note") == ["weights.style 1 · gram: 0.0133 after 149 evaluations"]
    reader.choose("x", "seconds")
    assert "seconds" in reader.texts("#curves-plot .axis-label")
    reader.choose("of", "all")
    reader.choose("term", "style")
    assert any("weighted style loss" in text for text in reader.texts("#curves-plot .axis-label"))


def test_the_trade_off_has_its_fronts_and_says_which_way_is_better(reader: Reader) -> None:
    reader.run("document.querySelector('#tradeoff').scrollIntoView({behavior: 'instant'})")
    assert len(reader.all("#tradeoff-plot .point")) == 6
    assert len(reader.all("#tradeoff-plot .front")) == 2
    assert set(reader.texts("#tradeoff-plot .axis-label")) == {
        "content: ssim, higher is better", "style: gram_distance, lower is better",
    }  # fmt: skip
    assert reader.texts("#tradeoff-legend tbody th") == ["gram", "mrf"]  # the greater hypervolume first
    # The same numbers as those of `nstbench compare`: shares of the rectangle between the corners.
    fronts = reader.run("return study.tradeoff.fronts")
    shown = [float(text) for text in reader.texts("#tradeoff-legend tbody tr td:nth-of-type(1)")]
    assert shown == pytest.approx([front["share"] for front in fronts], rel=0.01)
    assert shown != pytest.approx([front["hypervolume"] for front in fronts], rel=0.01)


def test_failures_open_to_their_reason_and_log(reader: Reader) -> None:
    summary = reader.one(".failure summary")
    assert "the objective became <i>NaN</i>" in summary.text
    reader.run("arguments[0].scrollIntoView({behavior: 'instant'}); arguments[0].focus()", summary)
    reader.press("ENTER")
    assert "the last words of the log" in reader.one(".failure").text


def test_a_name_that_is_html_is_shown_as_it_is_spelt(reader: Reader) -> None:
    reader.one(".tile[data-run='gram-1']").click()
    assert reader.all("img[src='x']") == []
    assert f"content: {EVIL}" in reader.one(".against").text


def test_a_view_can_be_linked_and_survives_reloading(reader: Reader) -> None:
    reader.choose("rows", "weights.style")
    reader.one("button[data-column='ssim']").click()
    reader.one(".tile[data-run='mrf-10']").click()
    address = reader.driver.current_url
    reader.open(address)
    assert reader.texts(".grid tbody th") == ["1", "10", "100", "1000"]
    assert order_in_table(reader)[0] == "gram-1"
    assert reader.texts("#enlarged-title") == ["weights.style 10 · mrf"]


def test_it_is_dark_where_the_reader_likes_it_dark_and_can_be_turned(reader: Reader, page: str) -> None:
    paper, ink = reader.check("paperAndInk")
    assert (paper > 0.9, ink < 0.05) == (True, True)
    reader.open(page, prefers_color_scheme="dark")
    paper, ink = reader.check("paperAndInk")
    assert (paper < 0.02, ink > 0.7) == (True, True)
    reader.one("#appearance").click()
    assert reader.check("paperAndInk")[0] > 0.9
    reader.open(page, prefers_color_scheme="dark")  # remembered
    assert reader.check("paperAndInk")[0] > 0.9
    reader.run("localStorage.clear()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(reader: Reader, page: str, scheme: str) -> None:
    reader.open(page, prefers_color_scheme=scheme)
    assert reader.check("faint") == []


def test_every_control_and_picture_has_a_name(reader: Reader) -> None:
    reader.one(".tile[data-run='gram-1']").click()
    assert reader.check("nameless") == []
    levels = reader.check("headings")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_telephone_is_wide_enough(reader: Reader, page: str) -> None:
    metrics = {"width": 375, "height": 720, "deviceScaleFactor": 1, "mobile": True}
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        reader.open(page)
        assert reader.run("return document.documentElement.scrollWidth") <= 375
        reader.one(".tile[data-run='gram-1']").click()
        assert reader.run("return byId('enlarged').scrollWidth - byId('enlarged').clientWidth") <= 0
    finally:
        reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_watched_page_renews_itself_keeps_its_view_and_ends(
    browser: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from report_study import picture
    from synthetic_study import write_run

    from nstbench.analysis.report import problems

    study = write_study(tmp_path)
    report = Report(study, tmp_path / "report")
    monkeypatch.setattr(problems, "in_progress", lambda _: True)
    report.write(watched=0.2)
    browser.open((tmp_path / "report" / "index.html").as_uri())
    assert "updated every" in browser.texts(".counts")[0]
    browser.choose("rows", "weights.style")
    browser.run("document.activeElement.blur()")
    new = write_run(study, {"ssim": 0.3}, loss="mrf", settings={"weights.style": 5.0})
    picture(new / "canvas.png", (1, 2, 3))
    report.write(watched=0.2)
    browser.until(lambda: browser.texts(".grid tbody th") == ["1", "5", "10", "100", "1000"])
    monkeypatch.setattr(problems, "in_progress", lambda _: False)
    monkeypatch.setattr(problems, "_PAUSE", 0.0)
    report.write(watched=0.2)
    browser.until(lambda: "follows" not in browser.texts(".counts")[0])
    assert browser.errors() == []


@pytest.mark.slow
def test_many_runs_stay_small_and_open_soon(browser: Reader, tmp_path: Path) -> None:
    from report_study import write_many

    runs = 200
    study = write_many(tmp_path, runs)
    report = Report(study, tmp_path / "report")
    report.write()
    files = [file for file in (tmp_path / "report").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 100_000 * runs
    begun = time.monotonic()
    browser.open((tmp_path / "report" / "index.html").as_uri() + "#rows=none&cols=none&only.seed=all")
    assert time.monotonic() - begun < 3
    assert len(browser.all(".tile")) == runs
    assert browser.errors() == []
