"""report.html: what is in it, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_triton import report_dict
from PIL import Image

from spine_client._report_parser import parse_report
from spine_client.page import write_page
from spine_client.page.content import page_content
from spine_client.result import SpineResult
from spine_client.volume import Volume

_SLICES, _COLUMNS, _ROWS = 12, 40, 60
_SPACING_LPS = (4.0, 1.0, 1.5)
_EVIL = "</script><script>document.title='broken'</script>"


def made_result(**changes: Any) -> SpineResult:
    """A body (23) over a disc (123) over a body (24), a canal (61) behind them, in slices 3 to 8."""
    labels = np.zeros((_SLICES, _COLUMNS, _ROWS), np.uint8)  # left, back, up
    labels[3:9, 8:20, 34:54] = 23
    labels[3:9, 8:20, 27:34] = 123
    labels[3:9, 8:20, 7:27] = 24
    labels[3:9, 22:30, 2:58] = 61
    noise = np.random.default_rng(0).integers(0, 200, labels.shape)
    line = [[5 * 4.0, 14.0, 27 * 1.5], [5 * 4.0, 14.0, 34 * 1.5]]
    disc = report_dict()["discs"][0] | {
        "centroid_lps_mm": [5.5 * 4.0, 14.0, 30 * 1.5],
        "height_lines_lps_mm": {"anterior": None, "middle": line, "posterior": None},
        "canal_ap_line_lps_mm": [[5 * 4.0, 22.0, 45.0], [5 * 4.0, 30.0, 45.0]],
        "flags": ["height_disagreement"],
    }
    bodies = [
        {
            "name": name,
            "label": label,
            "centroid_lps_mm": [22.0, 14.0, z * 1.5],
            "volume_mm3": 9.0,
            "complete": True,
        }
        for name, label, z in (("L4", 23, 44), ("L5", 24, 17))
    ]
    report = report_dict(**({"discs": [disc], "vertebrae": bodies} | changes))
    volume = Volume((labels + noise).transpose(2, 1, 0).astype(np.int16), np.diag([*_SPACING_LPS, 1.0]))
    grid = np.ascontiguousarray(labels.transpose(2, 1, 0))
    return SpineResult(grid, volume, parse_report(json.dumps(report)), "0123")


def picture(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


def test_pictures_are_the_slices_upright() -> None:
    result = made_result()
    content = page_content(result)
    assert (content["size"], content["pixelMm"]) == ([_COLUMNS, _ROWS], [1.0, 1.5])
    assert len(content["slices"]) == _SLICES
    np.testing.assert_array_equal(picture(content["slices"][5]["labels"]), result.labels[::-1, :, 5])
    assert not picture(content["slices"][1]["labels"]).any()
    assert picture(content["slices"][5]["image"]).shape == (_ROWS, _COLUMNS)


def test_lines_names_and_rows_know_their_place_and_slices() -> None:
    content = page_content(made_result())
    height, canal = content["lines"]
    assert height == {"kind": "height", "at": [14, 59 - 27, 14, 59 - 34], "from": 5, "to": 5}
    assert canal["kind"] == "canalAp"
    assert content["names"][0] == {"text": "L4", "x": 14, "y": 59 - 44, "from": 3, "to": 8}
    row = content["discs"][0]
    assert (row["title"], row["slice"], row["flags"]) == ("L4/L5", 5, ["height disagreement"])
    assert row["values"] == ["10.0", "9.0", "8.0", "9.1", "9.4", "14.2", "–"]
    assert content["start"] == 5


def test_many_slices_are_thinned_out() -> None:
    shape = (8, 8, 400)
    volume = Volume(np.arange(np.prod(shape)).reshape(shape) % 99, np.diag([0.5, 1, 1, 1]))
    text = json.dumps(report_dict(discs=[], vertebrae=[]))
    content = page_content(SpineResult(np.zeros(shape, np.uint8), volume, parse_report(text), "id"))
    assert len(content["slices"]) == 134
    assert content["naming"] == "no vertebra was found"


def test_page_needs_nothing_from_elsewhere_and_no_text_becomes_code(tmp_path: Path) -> None:
    write_page(made_result(warnings=[{"code": "x", "message": _EVIL}]), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert set(re.findall(r"https?://[^\"'\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert page.count("</script>") == 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium without a window; each test opens a page of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def _opened(browser: Any, path: Path) -> tuple[Any, list[str]]:
    page, problems = browser.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on(
        "request", lambda request: problems.append(request.url) if request.url.startswith("http") else None
    )
    page.goto(path.as_uri())
    page.wait_for_function("document.body.dataset.drawn !== undefined")
    return page, problems


def _alpha_at(page: Any, x: int, y: int) -> int:
    code = "([x, y]) => document.getElementById('labels').getContext('2d').getImageData(x, y, 1, 1).data[3]"
    return int(page.evaluate(code, [x, y]))


def test_slider_switches_and_rows_work_in_a_browser(browser: Any, tmp_path: Path) -> None:
    write_page(made_result(warnings=[{"code": "x", "message": _EVIL}]), tmp_path / "report.html")
    page, problems = _opened(browser, tmp_path / "report.html")
    assert page.inner_text("#position") == "6 of 12"
    assert page.locator("#marks line.height").count() == 2  # the line and its dark rim
    assert page.locator("#marks text").all_text_contents() == ["L4", "L5"]
    in_body, in_canal = (14, 15), (25, 30)
    assert _alpha_at(page, *in_body) > 0 and _alpha_at(page, *in_canal) > 0

    page.uncheck("#switch-canal")
    assert _alpha_at(page, *in_canal) == 0 < _alpha_at(page, *in_body)
    page.uncheck("#switch-measurements")
    assert page.locator("#marks line").count() == 0
    page.uncheck("#switch-names")
    assert page.locator("#marks text").count() == 0

    page.fill("#slider", "2")
    page.wait_for_function("document.body.dataset.drawn === '2'")
    assert _alpha_at(page, *in_body) == 0
    page.keyboard.press("Escape")
    page.click("#discs tr")
    page.wait_for_function("document.body.dataset.drawn === '6'")
    assert page.locator("#discs tr.chosen").count() == 1
    assert "height disagreement" in page.inner_text("#discs")
    assert _EVIL in page.inner_text("#warnings")
    assert page.title() == "Spine MRI report"
    assert problems == []


def test_page_of_an_image_without_a_spine_opens_too(browser: Any, tmp_path: Path) -> None:
    result = made_result(discs=[], vertebrae=[], warnings=[])
    write_page(
        SpineResult(np.zeros_like(result.labels), result.volume, result.report, "id"), tmp_path / "r.html"
    )
    page, problems = _opened(browser, tmp_path / "r.html")
    assert "No disc was found" in page.inner_text("#discs")
    assert page.locator("#warningBlock").is_hidden()
    assert problems == []


def _printed(page: Any) -> tuple[list[Image.Image], str]:
    """The pages as pictures, 36 pixels per inch, and all their text."""
    pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    document = pdfium.PdfDocument(page.pdf(prefer_css_page_size=True))
    text = "\n".join(sheet.get_textpage().get_text_range() for sheet in document)
    return [sheet.render(scale=0.5).to_pil().convert("RGB") for sheet in document], text


def test_print_is_one_page_with_the_picture_shown_and_everything_said(browser: Any, tmp_path: Path) -> None:
    write_page(made_result(), tmp_path / "report.html")
    page, problems = _opened(browser, tmp_path / "report.html")
    page.uncheck("#switch-canal")
    page.fill("#slider", "5")
    page.wait_for_function("document.body.dataset.drawn === '5'")
    (sheet,), text = _printed(page)
    assert ((sheet.width, sheet.height), problems) == ((298, 421), [])  # A4
    for said in (
        "not a medical device",
        "L4/L5",
        "9.1",
        "14.2",
        "5 of 12",
        "spine-demo",
        "demonstration",
        "0123",
    ):
        assert said in text
    assert "bodies" in text and "canal\r" not in text  # what is switched off is not in the legend
    pixels = np.asarray(sheet).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 60).mean() > 0.005  # colours are printed
    assert (pixels.min(axis=2) > 250).mean() > 0.5  # on white


def test_print_of_a_whole_spine_repeats_the_headings_of_its_table(browser: Any, tmp_path: Path) -> None:
    disc = made_result().report.raw["discs"][0]
    write_page(made_result(discs=[disc] * 24), tmp_path / "report.html")
    page, _ = _opened(browser, tmp_path / "report.html")
    sheets, text = _printed(page)
    assert len(sheets) == 2
    assert (text.count("L4/L5"), text.count("mean CNN")) == (24, 2)
