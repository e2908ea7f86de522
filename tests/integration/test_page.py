"""The page in a real browser: with and without JavaScript, on a phone, by keyboard, in light and dark."""

import base64
import csv
import json
import re
import shutil
from pathlib import Path

import axe_core_python
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium", reason="selenium is not installed: pip install -r requirements-dev.txt")
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

import imaging  # noqa: E402
from core import contract  # noqa: E402
from imaging import decode, dicom  # noqa: E402
from serving.server import Server  # noqa: E402
from tests.support import medical  # noqa: E402
from tests.support.repository import SERVED
from tests.support.site import published  # noqa: E402
from tools import screenshot  # noqa: E402

# A laptop may have no Chromium; in CI it is installed, and there tests/conftest.py turns a skip into a failure.
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="Chromium is not installed: apt-get install chromium chromium-driver",
)

CONTRAST = """
const linear = (v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility())
  .map((e) => {
    const [a, b] = [luminance(numbers(getComputedStyle(e).color)), luminance(ground(e))];
    return [e.outerHTML.slice(0, 80), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
"""
"""Text and its contrast to the ground below it, as WCAG 2.2 defines it (success criterion 1.4.3)."""


@pytest.fixture(scope="module")
def site(server):
    """host:port of the web application in front of the running Triton."""
    with published(server.url) as address:
        yield address


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A picture on disk."""
    path = tmp_path_factory.mktemp("scans") / "scan.png"
    Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (96, 1))).save(path)
    return path


@pytest.fixture(scope="module")
def chromium():
    """A browser with JavaScript, in a window of 1080 x 860 pixels."""
    with screenshot.browser(1080, 860) as driver:
        yield driver


def complaints(driver) -> list[str]:
    """Return what the browser's console says of faults in the page, such as violations of its policy."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def text_of(driver, selector: str) -> str:
    return driver.find_element(By.CSS_SELECTOR, selector).text


def overflow(driver) -> int:
    """Return by how many pixels the page is wider than the window."""
    return driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")


def press(driver, key: str) -> str:
    """Press a key and return the id, name or class of what has the focus then."""
    ActionChains(driver).send_keys(key).perform()
    focus = driver.switch_to.active_element
    return next(filter(None, map(focus.get_attribute, ("id", "name", "class"))), "")


PHONES = (320, 360, 375, 390, 414, 480)
"""Widths of windows, in pixels."""
MISPLACED = """
const found = [...document.querySelectorAll("[hidden]")].filter((e) => e.checkVisibility()).map((e) => e.outerHTML);
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const names = "code, pre, dd, figcaption, #answered, tbody th, .choice small"; // may be without spaces
while (texts.nextNode()) {
  const text = texts.currentNode;
  if (!text.parentElement.checkVisibility() || text.parentElement.closest(names)) continue;
  for (const word of text.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) found.push(word[0]);
  }
}
return found;
"""
"""What is hidden and shown all the same, and words that are broken over two lines."""


def check_phones(driver) -> None:
    """Assert that the page as it stands fits every phone."""
    for width in PHONES:
        size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert overflow(driver) <= 0 and driver.execute_script(MISPLACED) == [], width


def check_bars(driver) -> None:
    """Assert that the four classes are shown in order, each bar as long as its number says."""
    bars = driver.find_elements(By.CSS_SELECTOR, "#result li")
    assert [bar.get_attribute("data-class") for bar in bars] == list(contract.CLASSES)
    shares = [float(bar.find_element(By.CSS_SELECTOR, ".value").text.removesuffix(" %")) for bar in bars]
    widths = [bar.find_element(By.TAG_NAME, "rect").rect["width"] for bar in bars]
    full = bars[0].find_element(By.TAG_NAME, "svg").rect["width"]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert [100 * width / full for width in widths] == pytest.approx(shares, abs=0.5)


@pytest.mark.parametrize("model", SERVED)
def test_an_upload_shows_four_bars(site, chromium, scan, model):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.CSS_SELECTOR, f"input[value={model}]").click()
    called = text_of(chromium, f".choice:has([value={model}]) b")
    chromium.find_element(By.ID, "file").send_keys(str(scan))
    assert chromium.find_element(By.ID, "picture").is_displayed()
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    check_bars(chromium)
    assert called in text_of(chromium, "#result")
    assert contract.DISCLAIMER in text_of(chromium, "#result")
    assert complaints(chromium) == []


def test_heatmaps_of_all_classes_can_be_seen_and_faded(site, chromium, scan):
    screenshot.classify(chromium, f"http://{site}/", scan)

    def shown() -> list:
        return [one for one in chromium.find_elements(By.CSS_SELECTOR, "#seen .map") if one.is_displayed()]

    first = chromium.find_element(By.CSS_SELECTOR, "#result .first").get_attribute("data-class")
    assert [one.get_attribute("data-class") for one in shown()] == [first]
    chosen = next(name for name in contract.CLASSES if name != first)
    Select(chromium.find_element(By.ID, "seen-class")).select_by_value(chosen)
    heatmap = chromium.find_element(By.CSS_SELECTOR, f"#seen .map[data-class={chosen}]")
    WebDriverWait(chromium, 5).until(lambda _: shown() == [heatmap])
    assert heatmap.value_of_css_property("opacity") == "0.75"
    assert heatmap.rect == chromium.find_element(By.CSS_SELECTOR, "#seen img").rect
    chromium.find_element(By.ID, "opacity").send_keys(Keys.HOME)
    WebDriverWait(chromium, 5).until(lambda _: heatmap.value_of_css_property("opacity") == "0")
    assert complaints(chromium) == []


def test_the_average_with_the_mirror_image_is_asked_for_by_a_tick(site, chromium, scan):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.NAME, "tta").click()
    chromium.find_element(By.ID, "file").send_keys(str(scan))
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    check_bars(chromium)
    assert "averaged with the mirror image" in text_of(chromium, "#result")
    assert chromium.find_elements(By.CSS_SELECTOR, "#seen .map")


def drop(driver, *paths) -> None:
    """Drop files onto the middle of the field for them, as a file manager does."""
    driver.execute_script("scrollTo(0, 0)")  # points are of the window, rects of the page
    area = driver.find_element(By.ID, "drop").rect
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    point = {"x": area["x"] + area["width"] / 2, "y": area["y"] + area["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **point})


def test_a_dropped_file_is_taken(site, chromium, scan):
    chromium.get(f"http://{site}/")
    drop(chromium, scan)
    WebDriverWait(chromium, 5).until(lambda d: d.find_element(By.ID, "picture").is_displayed())
    assert text_of(chromium, "#name") == scan.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with six images, one of them damaged, one in a folder of its own, and a text."""
    root = tmp_path_factory.mktemp("patient")
    (root / "series").mkdir()
    for index in range(5):
        picture = np.roll(np.tile(np.arange(96, dtype=np.uint8), (96, 1)), 17 * index, axis=1)
        Image.fromarray(picture).save(root / ("series/=4.png" if index == 4 else f"{index}.png"))
    (root / "10.png").write_bytes(b"no picture")
    (root / "notes.txt").write_text("none")
    return root


def rows(driver) -> list[list[str]]:
    """Return the texts of the table's lines, from the file's name on."""
    return [[cell.text for cell in line.find_elements(By.CSS_SELECTOR, "th, td")][1:]
            for line in driver.find_elements(By.CSS_SELECTOR, "#lines tr")]


def wait_for_summary(driver) -> str:
    """Return the sentence below the progress bar once all images are done."""
    WebDriverWait(driver, 30).until(lambda d: "images:" in text_of(d, "#summary"))
    return text_of(driver, "#summary")


def test_a_dropped_folder_becomes_a_table_that_can_be_sorted(site, chromium, folder):
    chromium.get(f"http://{site}/")
    drop(chromium, folder)
    assert wait_for_summary(chromium).startswith("6 images: 5 classified,")
    found = rows(chromium)
    assert sorted(row[0] for row in found) == ["0.png", "1.png", "10.png", "2.png", "3.png", "=4.png"]
    bad = next(row for row in found if row[0] == "10.png")
    assert "Unsupported file" in bad[1]
    good = [row for row in found if row[0] != "10.png"]
    assert all(row[1] in contract.CLASS_TITLES.values() and float(row[2].removesuffix(" %")) >= 25 for row in good)
    header = chromium.find_elements(By.CSS_SELECTOR, "#table .sort")[2]
    header.click()
    shares = [float(row[2].removesuffix(" %")) for row in rows(chromium) if row[2]]
    assert shares == sorted(shares)
    header.click()
    assert [float(row[2].removesuffix(" %")) for row in rows(chromium) if row[2]] == shares[::-1]
    assert chromium.find_element(By.CSS_SELECTOR, "[aria-sort]").get_attribute("aria-sort") == "descending"
    assert not [one for one in complaints(chromium) if "415" not in one]


def slowly(driver, milliseconds: int) -> None:
    """Let every answer to the page take so much longer; 0: no longer."""
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {
        "offline": False, "latency": milliseconds, "downloadThroughput": -1, "uploadThroughput": -1})


def test_a_second_folder_never_mixes_with_the_first(site, chromium, folder):
    chromium.get(f"http://{site}/")
    slowly(chromium, 1000)
    drop(chromium, folder)
    WebDriverWait(chromium, 5).until(lambda d: len(rows(d)) == 6)
    drop(chromium, folder / "series")
    WebDriverWait(chromium, 5).until(lambda d: "still being classified" in text_of(d, "#state"))
    slowly(chromium, 0)
    assert wait_for_summary(chromium).startswith("6 images: 5 classified,")
    assert len(rows(chromium)) == 6 and text_of(chromium, "#state") == ""
    drop(chromium, folder / "series")
    WebDriverWait(chromium, 10).until(lambda d: text_of(d, "#summary").startswith("1 images: 1 classified,"))
    assert [row[0] for row in rows(chromium)] == ["=4.png"]
    assert not [one for one in complaints(chromium) if "415" not in one]


def test_an_answer_names_its_file_and_is_never_beside_another_image(site, chromium, scan, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(scan.read_bytes())
    screenshot.classify(chromium, f"http://{site}/", scan)
    assert text_of(chromium, "#answered") == f"File: {scan.name}"
    drop(chromium, other)
    WebDriverWait(chromium, 5).until(lambda d: text_of(d, "#name") == other.name)
    assert not chromium.find_elements(By.CSS_SELECTOR, "#result li")
    slowly(chromium, 1000)
    chromium.find_element(By.ID, "send").click()
    drop(chromium, scan)  # before the answer
    WebDriverWait(chromium, 10).until(lambda d: other.name in text_of(d, "#past"))
    slowly(chromium, 0)
    assert not chromium.find_elements(By.CSS_SELECTOR, "#result li, #answered")
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    assert text_of(chromium, "#answered") == f"File: {scan.name}" and complaints(chromium) == []


def test_several_chosen_files_are_classified_and_saved(site, folder, tmp_path):
    with screenshot.browser(1080, 860) as driver:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        driver.get(f"http://{site}/")
        names = ["0.png", "series/=4.png", "10.png"]
        driver.find_element(By.ID, "file").send_keys("\n".join(str(folder / name) for name in names))
        assert "3 files" in text_of(driver, "#chosen")
        driver.find_element(By.NAME, "tta").click()
        driver.find_element(By.ID, "send").click()
        assert wait_for_summary(driver).startswith("3 images: 2 classified,")
        for kind in ("csv", "json"):
            driver.find_element(By.ID, kind).click()
            WebDriverWait(driver, 10).until(lambda _, kind=kind: (tmp_path / f"results.{kind}").exists())
    saved = json.loads((tmp_path / "results.json").read_text())
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert contract.DISCLAIMER in lines[0] and saved["disclaimer"] == contract.DISCLAIMER
    table = list(csv.DictReader(lines[1:]))
    assert [one["file"] for one in saved["results"]] == ["0.png", "=4.png", "10.png"]
    assert [row["file"] for row in table] == ["0.png", "'=4.png", "10.png"]  # no formula for a spreadsheet
    for row, one in zip(table[:2], saved["results"], strict=False):
        assert row["predicted_class"] == one["predicted_class"]
        assert [float(row[name]) for name in contract.CLASSES] == list(one["all_probabilities"].values())
        assert row["tta"] == "true" and one["tta"] is True
    assert (table[2]["success"], table[2]["code"]) == ("false", "unsupported_format")


def test_a_sample_can_be_tried(site, chromium):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.CSS_SELECTOR, "#samples button").click()
    WebDriverWait(chromium, 10).until(lambda d: d.find_element(By.ID, "picture").is_displayed())
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    check_bars(chromium)


def test_the_report_prints_on_one_page_without_the_form(site, chromium, scan):
    screenshot.classify(chromium, f"http://{site}/", scan)
    paper = {"paperWidth": 8.27, "paperHeight": 11.7}  # inches: A4
    printed = base64.b64decode(chromium.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
    chromium.show_as("print")
    try:
        assert not chromium.find_element(By.ID, "form").is_displayed()
        details = chromium.find_element(By.CSS_SELECTOR, "#report dl")
        assert details.rect["height"] > 80  # unfolded
        shown = details.get_attribute("textContent")
        assert imaging.digest(scan.read_bytes()) in shown and "UTC" in shown
        assert contract.DISCLAIMER in text_of(chromium, "#result")
    finally:
        chromium.show_as()


def test_the_other_pages_fit_a_phone_and_complain_of_nothing(site):
    with screenshot.browser(PHONES[0], 740) as driver:
        for path in ("/about", "/api"):
            driver.get(f"http://{site}{path}")
            check_phones(driver)
            assert complaints(driver) == []
            assert contract.DISCLAIMER in text_of(driver, "footer")
            assert [entry for entry in driver.execute_script(CONTRAST) if entry[1] < 4.5] == []


def test_phantoms_are_called_phantoms(site, chromium):
    chromium.get(f"http://{site}/")
    assert "meaningless" in text_of(chromium, "#notices")


def test_the_keyboard_alone_suffices_and_focus_moves_to_the_answer(site, chromium, scan):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.ID, "file").send_keys(str(scan))
    visited = [press(chromium, Keys.TAB) for _ in range(9)]
    assert visited == ["skip", "file", "model", "tta", *["link"] * 4, "send"]
    press(chromium, Keys.ENTER)
    screenshot.wait_for_answer(chromium)
    assert chromium.switch_to.active_element.get_attribute("id") == "answer"


def test_every_field_has_a_name_for_screen_readers(site, chromium):
    chromium.get(f"http://{site}/")
    fields = chromium.find_elements(By.CSS_SELECTOR, "input:not(#slice), button")
    names = [field.accessible_name or field.get_attribute("textContent") for field in fields]
    assert len(names) == 4 + len(SERVED) + len(contract.CLASSES) + 7  # and the table's
    assert all(names)


BAD_FILES = {"text": (b"no picture", "Unsupported file"), "11 MB": (bytes(decode.MAX_BYTES + 1), "larger than 10 MiB")}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_shows_what_is_wrong(site, chromium, tmp_path, content, message):
    path = tmp_path / "scan.jpg"
    path.write_bytes(content)
    screenshot.classify(chromium, f"http://{site}/", path)
    assert message in text_of(chromium, "#error")
    assert chromium.switch_to.active_element.get_attribute("id") == "answer"


def test_without_javascript_the_form_answers_with_the_page(site, scan):
    with screenshot.browser(1080, 860, javascript=False) as driver:
        screenshot.classify(driver, f"http://{site}/", scan)
        assert driver.current_url.endswith("/predict")
        assert driver.find_element(By.ID, "file").is_displayed()
        assert not driver.find_elements(By.CSS_SELECTOR, "html.js")
        check_bars(driver)
        pictures = [one for one in driver.find_elements(By.CSS_SELECTOR, "#seen img") if one.is_displayed()]
        assert len(pictures) == 2 and pictures[0].rect == pictures[1].rect
        assert not driver.find_element(By.ID, "opacity").is_displayed()


def test_a_page_with_all_it_can_show_fits_every_phone(site, scan, tmp_path):
    long = tmp_path / f"{60 * 'x'}.tif"
    Image.open(scan).save(long)
    with screenshot.browser(PHONES[0], 740) as driver:
        driver.get(f"http://{site}/")
        check_phones(driver)
        screenshot.classify(driver, f"http://{site}/", long)
        assert not driver.find_element(By.ID, "picture").is_displayed()  # browsers cannot show a TIFF file
        driver.find_element(By.CSS_SELECTOR, "#report summary").click()
        check_phones(driver)
        check_bars(driver)
        screenshot.tabulate(driver, f"http://{site}/", [scan, long])
        check_phones(driver)


def test_without_javascript_a_phone_needs_no_sideways_scrolling(site, scan):
    with screenshot.browser(PHONES[0], 740, javascript=False) as driver:
        screenshot.classify(driver, f"http://{site}/", scan)
        assert overflow(driver) <= 0
        check_bars(driver)


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_the_contrast_of_wcag_aa(site, scan, dark):
    with screenshot.browser(1080, 860, dark=dark) as driver:
        screenshot.classify(driver, f"http://{site}/", scan)
        contrasts = driver.execute_script(CONTRAST)
    assert len(contrasts) > 15
    assert [entry for entry in contrasts if entry[1] < 4.5] == []


AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()
ASK_AXE = """
const done = arguments[0];
axe.run().then((found) => done(found.violations.map((v) => [v.id, v.impact, v.nodes[0].html])));
"""


@pytest.mark.parametrize(("width", "dark"), [(1080, False), (320, True)])
def test_axe_finds_nothing_serious_on_any_page(site, scan, folder, width, dark):
    with screenshot.browser(width, 860, dark=dark) as driver:

        def faults() -> list:
            driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE})  # the page's policy lets no script in
            return [one for one in driver.execute_async_script(ASK_AXE) if one[1] in ("serious", "critical")]

        found = {}
        for path in ("/", "/about", "/api"):
            driver.get(f"http://{site}{path}")
            found[path] = faults()
        screenshot.classify(driver, f"http://{site}/", scan)
        driver.find_element(By.CSS_SELECTOR, "#report summary").click()
        found["answer"] = faults()
        driver.get(f"http://{site}/")
        drop(driver, folder)
        wait_for_summary(driver)
        found["table"] = faults()
        driver.execute_script("document.querySelector('#send').textContent = ''")
        broken = faults()
    assert found == dict.fromkeys(found, [])
    assert [one[0] for one in broken] == ["button-name"]


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A NIfTI volume on disk whose slices grow brighter towards the top."""
    voxels = np.tile(np.linspace(0, 100, 64, dtype=np.float32)[:, None, None], (1, 48, 20)) + np.arange(20) * 4
    path = tmp_path_factory.mktemp("volumes") / "head.nii.gz"
    path.write_bytes(medical.nifti(voxels.astype(np.float32), np.eye(4), cal_min=0, cal_max=200))
    return path


def shown_slice(driver, text: str) -> None:
    """Wait until the page says which slice it shows."""
    WebDriverWait(driver, 10).until(lambda d: text_of(d, "#slice-number") == text and text_of(d, "#state") == "")
    WebDriverWait(driver, 10).until(
        lambda d: d.find_element(By.ID, "picture").get_attribute("src").startswith("data:image/png"))


def test_a_slice_of_a_volume_is_chosen_and_classified(site, chromium, volume):
    chromium.get(f"http://{site}/")
    slider, plane = (chromium.find_element(By.ID, name) for name in ("slice", "plane"))
    complaints(chromium)  # of the tests before
    assert not slider.is_displayed()
    chromium.find_element(By.ID, "file").send_keys(str(volume))
    shown_slice(chromium, "10 of 20")
    # Chromium 150 leaves the space between the words and the field of a label in its name.
    assert slider.accessible_name.startswith("Number") and plane.accessible_name.strip() == "Plane"
    middle = chromium.find_element(By.ID, "picture").get_attribute("src")
    slider.send_keys(Keys.END)
    shown_slice(chromium, "20 of 20")
    WebDriverWait(chromium, 10).until(lambda d: d.find_element(By.ID, "picture").get_attribute("src") != middle)
    Select(plane).select_by_visible_text("coronal")
    shown_slice(chromium, "24 of 48")
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    check_bars(chromium)
    slider.send_keys(Keys.END)
    assert not chromium.find_elements(By.CSS_SELECTOR, "#result li")  # it was of another slice
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 23)
    shown_slice(chromium, "24 of 48")
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    digest = decode.digest(volume.read_bytes())  # of the file that people have
    report = chromium.find_element(By.ID, "report").get_attribute("textContent")
    assert digest in report and "coronal 24 of 48" in report
    assert overflow(chromium) == 0 and complaints(chromium) == []


def test_a_dicom_file_is_previewed_and_its_warning_shown(site, chromium, scan, tmp_path):
    pixels = np.tile(np.arange(64, dtype=np.uint16) * 20, (64, 1))
    (tmp_path / "IM0001").write_bytes(medical.dicom(pixels, BurnedInAnnotation="YES"))
    chromium.get(f"http://{site}/")
    chromium.find_element(By.ID, "file").send_keys(str(tmp_path / "IM0001"))
    WebDriverWait(chromium, 10).until(lambda d: text_of(d, "#state") == dicom.BURNED_IN)
    assert chromium.find_element(By.ID, "picture").is_displayed()
    assert not chromium.find_element(By.ID, "slice").is_displayed()
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    assert dicom.BURNED_IN in text_of(chromium, "#result")
    drop(chromium, scan)  # an ordinary picture afterwards is one again
    WebDriverWait(chromium, 5).until(lambda d: text_of(d, "#name") == scan.name)
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    assert dicom.BURNED_IN not in text_of(chromium, "#result")
    check_bars(chromium)


def test_without_javascript_a_slice_is_chosen_in_the_form(site, volume):
    with screenshot.browser(1080, 860, javascript=False) as driver:
        driver.get(f"http://{site}/")
        driver.find_element(By.ID, "file").send_keys(str(volume))
        driver.find_element(By.ID, "send").click()
        WebDriverWait(driver, 10).until(lambda d: d.find_elements(By.ID, "error"))
        assert "Choose one: axial 1-20" in text_of(driver, "#error")
        driver.find_element(By.ID, "file").send_keys(str(volume))
        Select(driver.find_element(By.ID, "plane")).select_by_visible_text("sagittal")
        driver.find_element(By.ID, "slice").send_keys("3")
        driver.find_element(By.ID, "send").click()
        WebDriverWait(driver, 10).until(lambda d: d.find_elements(By.CSS_SELECTOR, ".bars"))
        check_bars(driver)


def test_history_lasts_as_long_as_the_tab(site, scan):
    with screenshot.browser(1080, 860) as driver:
        screenshot.classify(driver, f"http://{site}/", scan)
        label, *_ = json.loads(driver.find_element(By.ID, "answer").get_attribute("data-cells"))
        for _ in range(2):  # as it is, and after a reload
            cells = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "#past tr:first-child > *")]
            assert cells[1:3] == [scan.name, label] and cells[3].endswith(" %")
            driver.get(f"http://{site}/")
        driver.switch_to.new_window("tab")
        driver.get(f"http://{site}/")
        assert not driver.find_element(By.ID, "history").is_displayed()
        driver.close()
        driver.switch_to.window(driver.window_handles[0])
        driver.find_element(By.ID, "forget").click()
        assert not driver.find_element(By.ID, "history").is_displayed()
        driver.refresh()
        assert not driver.find_element(By.ID, "history").is_displayed() and complaints(driver) == []


def test_triton_goes_down_and_comes_back(repository, chromium, scan):
    with Server(repository) as server, published(server.url) as site:
        screenshot.classify(chromium, f"http://{site}/", scan)
        check_bars(chromium)
        server.stop()
        chromium.find_element(By.ID, "send").click()
        WebDriverWait(chromium, 20).until(lambda d: "model server cannot be reached" in text_of(d, "#result"))
        assert "model server does not answer" in text_of(chromium, "#notices")
        with Server(repository, int(server.url.rpartition(":")[2])):
            chromium.find_element(By.ID, "send").click()
            WebDriverWait(chromium, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#result li"))
            check_bars(chromium)
            assert "does not answer" not in text_of(chromium, "#notices")
