"""Take docs/page.png and docs/table.png: open a running page in Chromium, classify through it, save what it shows.

Of one image the window is saved, of several the table.

Takes a few seconds; needs chromium, chromedriver and selenium (requirements-dev.txt).
"""

import argparse
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

EXAMPLE = """example:
  python -m serving --repository model_repository -- python -m webapp --port 5000
  python -m tools.screenshot http://127.0.0.1:5000 docs/page.png scan.png
  python -m tools.screenshot http://127.0.0.1:5000 docs/table.png webapp/static/samples/*.png
"""
FLAGS = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "hide-scrollbars", "force-device-scale-factor=1")
QUIET = ("disable-background-networking", "disable-component-update", "disable-sync")
PATIENCE = 20.0  # seconds


class Browser(webdriver.Chrome):
    """Chromium that shows a page whole: chromedriver 150 sometimes returns before style sheets and scripts are there.

    Args:
        dark: prefer dark colours. options, service: selenium's.
    """

    def __init__(self, options: webdriver.ChromeOptions, service: webdriver.ChromeService, dark: bool = False):
        super().__init__(options, service)
        self._scheme = "dark" if dark else "light"
        self.show_as()

    def get(self, url: str) -> None:
        """Open a page and wait until all of it is loaded. Raises TimeoutException."""
        super().get(url)
        WebDriverWait(self, PATIENCE).until(lambda d: d.execute_script("return document.readyState") == "complete")

    def show_as(self, medium: str = "") -> None:
        """Show pages as on "print" or, by default, as on the screen; nothing moves."""
        scheme = {"name": "prefers-color-scheme", "value": self._scheme}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": [scheme, still]})


@contextmanager
def browser(width: int, height: int, dark: bool = False, javascript: bool = True):
    """Yield a Chromium with an empty profile and a window of width x height pixels, closed at the end."""
    # Chromium may still write into its profile while it ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, *QUIET, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        setting = "profile.managed_default_content_settings.javascript"
        options.add_experimental_option("prefs", {setting: 1 if javascript else 2})
        driver = Browser(options, webdriver.ChromeService(shutil.which("chromedriver")), dark)
        try:
            # Not --window-size: Chromium makes no window narrower than 500 pixels.
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield driver
        finally:
            driver.quit()


def classify(driver: webdriver.Chrome, url: str, image: Path) -> None:
    """Send an image through the page and wait for the answer. Raises selenium's TimeoutException without one."""
    driver.get(url)
    driver.find_element(By.ID, "file").send_keys(str(image.resolve()))
    driver.find_element(By.ID, "send").click()
    wait_for_answer(driver)


def tabulate(driver: webdriver.Chrome, url: str, images: list[Path]) -> None:
    """Send several images through the page and wait for the whole table. Raises TimeoutException without one."""
    driver.get(url)
    driver.find_element(By.ID, "file").send_keys("\n".join(str(image.resolve()) for image in images))
    driver.find_element(By.ID, "send").click()
    WebDriverWait(driver, PATIENCE).until(lambda d: "classified" in d.find_element(By.ID, "summary").text)


def wait_for_answer(driver: webdriver.Chrome) -> None:
    """Wait until the page shows probabilities or an error and waits for nothing more. Raises TimeoutException."""
    WebDriverWait(driver, PATIENCE).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#result li, #error"))
    WebDriverWait(driver, PATIENCE).until(lambda d: d.find_element(By.ID, "state").text == "")


def window(text: str) -> tuple[int, int]:
    """Read a window size such as 1080x1020. Raises ArgumentTypeError."""
    if not (found := re.fullmatch(r"([1-9]\d{2,3})x([1-9]\d{2,3})", text)):
        raise argparse.ArgumentTypeError(f"Expected WIDTHxHEIGHT of 100 to 9999 pixels. Received: {text}.")
    return int(found[1]), int(found[2])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="address of the running page")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help="image to classify")
    parser.add_argument("--size", type=window, default="1080x1020", help="window in pixels (default: %(default)s)")
    parser.add_argument("--dark", action="store_true", help="in dark mode")
    arguments = parser.parse_args()
    for image in arguments.images:
        if not image.is_file():
            parser.error(f"Expected an image file. Received: {image}, which is none. Check the path.")
    return arguments


def main() -> None:
    """Write the picture under a temporary name first, so that an interrupted run leaves no half file."""
    arguments = parse_arguments()
    try:
        width, height = arguments.size
        with browser(width, height, arguments.dark) as driver:
            if len(arguments.images) > 1:
                tabulate(driver, arguments.url, arguments.images)
                picture = driver.find_element(By.ID, "table").screenshot_as_png
            else:
                classify(driver, arguments.url, arguments.images[0])
                picture = driver.get_screenshot_as_png()
    except WebDriverException as error:
        reason = (error.msg or type(error).__name__).splitlines()[0]
        raise SystemExit(f"Expected an answer from the page at {arguments.url}. Received: {reason}.") from error
    part = arguments.output.with_name(arguments.output.name + ".part")
    part.write_bytes(picture)
    part.replace(arguments.output)


if __name__ == "__main__":
    main()
