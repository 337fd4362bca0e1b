"""Looks at a built site in headless Chromium; see scripts/check_site.

Every page, in light and dark, wide and narrow: no error in the console, no broken link or picture,
nothing wider than the screen. The slider of the home page moves by mouse and by keyboard, and
without scripts its two pictures are there; the search finds `GramStyleLoss`.
"""

from __future__ import annotations

import functools
import http.server
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

WIDE, NARROW = (1280, 900), (390, 800)
SHOWN = (
    "",
    "quickstart/",
    "concepts/",
    "choosing/",
    "how-to/write-a-loss/",
    "gallery/",
    "benchmarks/",
    "api/losses/",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def browser(*, dark: bool = False, scripts: bool = True) -> Iterator[webdriver.Chrome]:
    """Open Chromium without a window."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    if not scripts:
        options.add_experimental_option(
            "prefs", {"profile.managed_default_content_settings.javascript": 2}
        )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, size: tuple[int, int]) -> None:
    """Make the page so large, whatever the window's frame; below 500 pixels Chrome needs asking."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500},
    )


def problems_of(
    driver: webdriver.Chrome, root: str, page: str, known: dict[str, set[str]]
) -> list[str]:
    """Return what is wrong with a page that is open."""
    found = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    found += driver.execute_script("""
        for (const image of document.images) image.loading = "eager";
        const pictures = [...document.images];
        const missing = pictures.filter((i) => i.complete && !i.naturalWidth);
        const silent = pictures.filter((i) => !i.alt);
        return [...missing.map((i) => `no picture ${i.src}`),
                ...silent.map((i) => `no description of ${i.src}`)];
    """)
    for link in driver.execute_script(
        "return [...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))"
    ):
        address, anchor = urldefrag(urljoin(root + page, link))
        if not address.startswith(root):
            continue
        target = address.removeprefix(root)
        if target not in known:
            found.append(f"link to {link}")
        elif anchor not in known[target]:
            found.append(f"link to {link}: no such place")
    return found


def overflow(driver: webdriver.Chrome) -> list[str]:
    """Return what makes a page wider than the screen."""
    found: list[str] = driver.execute_script("""
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        return wide > 1 ? [`${wide} pixels wider than the screen`] : [];
    """)
    return found


def places(site: Path) -> dict[str, set[str]]:
    """Return every address of the site, with the anchors of pages."""
    known: dict[str, set[str]] = {}
    for path in site.rglob("*"):
        if path.is_file():
            name = path.relative_to(site).as_posix()
            name = name.removesuffix("index.html") if path.name == "index.html" else name
            is_page = path.suffix == ".html"
            text = path.read_text(encoding="utf-8") if is_page else ""
            known[name] = {"", *re.findall(r'\bid="([^"]+)"', text)}
    return known


def check_slider(driver: webdriver.Chrome, root: str) -> list[str]:
    """Move the slider of the home page by keyboard and by mouse."""
    driver.get(root)
    slider = driver.find_element(By.CSS_SELECTOR, ".before-after input")
    share = """
        const frame = document.querySelector(".before-after p");
        return getComputedStyle(frame).getPropertyValue("--share");
    """
    problems = []
    if driver.execute_script(share) != "50%":
        problems.append("the slider does not start in the middle")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    if driver.execute_script(share) != "52%":
        problems.append(f"arrow keys leave the slider at {driver.execute_script(share)}")
    webdriver.ActionChains(driver).move_to_element_with_offset(slider, 100, 0).click().perform()
    if not 60 < float(driver.execute_script(share).rstrip("%")) < 90:
        problems.append(f"a click leaves the slider at {driver.execute_script(share)}")
    return problems


def check_search(driver: webdriver.Chrome, root: str) -> list[str]:
    """Search for a class."""
    driver.get(root)
    driver.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("GramStyleLoss")
    for _ in range(50):
        time.sleep(0.1)
        links = driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
        targets = [link.get_attribute("href") or "" for link in links]
        if any("api/losses/#nst.GramStyleLoss" in target for target in targets):
            return []
    return [f"the search for GramStyleLoss finds {targets[:5]}"]


def check_without_scripts(root: str) -> list[str]:
    """Look at the home page with JavaScript turned off."""
    with browser(scripts=False) as driver:
        resize(driver, WIDE)
        driver.get(root)
        pictures = driver.find_elements(By.CSS_SELECTOR, ".before-after img")
        sizes = [picture.size for picture in pictures]
        sliders = driver.find_elements(By.CSS_SELECTOR, ".before-after input")
    shown = len(sizes) == 2 and all(size["width"] > 100 for size in sizes) and not sliders
    return [] if shown else [f"without scripts, the home page shows {sizes}"]


def main(site: Path, pictures: Path | None) -> int:
    """Look at every page."""
    known = places(site)
    pages = sorted(name for name in known if name.endswith("/") or not name)
    problems: list[str] = []
    with served(site) as root:
        for dark in (False, True):
            with browser(dark=dark) as driver:
                for size in (WIDE, NARROW):
                    resize(driver, size)
                    look = f"{'dark' if dark else 'light'}-{size[0]}"
                    for page in pages:
                        driver.get(root + page)
                        found = overflow(driver)
                        if size == WIDE:
                            found += problems_of(driver, root, page, known)
                        problems += [f"{look} {page or 'home'}: {problem}" for problem in found]
                        if pictures is not None and page in SHOWN:
                            pictures.mkdir(parents=True, exist_ok=True)
                            name = page.strip("/").replace("/", "-") or "home"
                            driver.save_screenshot(str(pictures / f"{name}-{look}.png"))
                if not dark:
                    resize(driver, WIDE)
                    problems += check_slider(driver, root) + check_search(driver, root)
        problems += check_without_scripts(root)
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    sys.stdout.write(f"{len(pages)} pages, {len(problems)} problems\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
