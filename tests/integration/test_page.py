"""The page in a real browser: with and without JavaScript, on a phone, by keyboard, in light and dark."""

import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("selenium", reason="selenium is not installed: pip install -r requirements-dev.txt")
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from docs import screenshot  # noqa: E402
from imaging import contract, decode  # noqa: E402
from tests.integration.test_webapp import published  # noqa: E402
from webapp.page import TITLES  # noqa: E402

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


def check_bars(driver) -> None:
    """Assert that the four classes are shown in order, each bar as long as its number says."""
    bars = driver.find_elements(By.CSS_SELECTOR, "#result li")
    assert [bar.get_attribute("data-class") for bar in bars] == list(contract.CLASSES)
    shares = [float(bar.find_element(By.CSS_SELECTOR, ".value").text.removesuffix(" %")) for bar in bars]
    widths = [bar.find_element(By.TAG_NAME, "rect").rect["width"] for bar in bars]
    full = bars[0].find_element(By.TAG_NAME, "svg").rect["width"]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert [100 * width / full for width in widths] == pytest.approx(shares, abs=0.5)


@pytest.mark.parametrize("model", contract.NETWORKS)
def test_an_upload_shows_four_bars(site, chromium, scan, model):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.CSS_SELECTOR, f"input[value={model}]").click()
    chromium.find_element(By.ID, "file").send_keys(str(scan))
    assert chromium.find_element(By.ID, "picture").is_displayed()
    chromium.find_element(By.ID, "send").click()
    screenshot.wait_for_answer(chromium)
    check_bars(chromium)
    assert TITLES[model] in text_of(chromium, "#result")
    assert contract.DISCLAIMER in text_of(chromium, "#result")
    assert complaints(chromium) == []


def drop(driver, *paths) -> None:
    """Drop files onto the middle of the field for them, as a file manager does."""
    area = driver.find_element(By.ID, "drop").rect
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    point = {"x": area["x"] + area["width"] / 2, "y": area["y"] + area["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **point})


def test_a_dropped_file_is_taken(site, chromium, scan):
    chromium.get(f"http://{site}/")
    drop(chromium, scan)
    assert chromium.find_element(By.ID, "picture").is_displayed()
    assert text_of(chromium, "#name") == scan.name


def test_of_two_dropped_files_none_is_taken(site, chromium, scan):
    chromium.get(f"http://{site}/")
    drop(chromium, scan, scan)
    assert "one image at a time" in text_of(chromium, "#error")
    assert chromium.find_element(By.ID, "file").get_attribute("value") == ""


def test_phantoms_are_called_phantoms(site, chromium):
    chromium.get(f"http://{site}/")
    assert "mean nothing" in text_of(chromium, "#notices")


def test_the_keyboard_alone_suffices_and_focus_moves_to_the_answer(site, chromium, scan):
    chromium.get(f"http://{site}/")
    chromium.find_element(By.ID, "file").send_keys(str(scan))
    visited = [press(chromium, Keys.TAB) for _ in range(4)]
    assert visited == ["skip", "file", "model", "send"]
    press(chromium, Keys.ENTER)
    screenshot.wait_for_answer(chromium)
    assert chromium.switch_to.active_element.get_attribute("id") == "answer"


def test_every_field_has_a_name_for_screen_readers(site, chromium):
    chromium.get(f"http://{site}/")
    fields = chromium.find_elements(By.CSS_SELECTOR, "input, button")
    names = [field.accessible_name for field in fields]
    assert len(names) == 2 + len(contract.NETWORKS)
    assert all(names)


BAD_FILES = {"text": (b"no picture", "Expected a PNG"), "11 MB": (bytes(decode.MAX_BYTES + 1), "larger than 10 MiB")}


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


@pytest.mark.parametrize(("width", "javascript"), [(320, True), (390, True), (320, False)])
def test_a_phone_needs_no_sideways_scrolling(site, scan, width, javascript):
    with screenshot.browser(width, 740, javascript=javascript) as driver:
        driver.get(f"http://{site}/")
        assert overflow(driver) <= 0
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
