"""Checks a built site in headless Chromium; see scripts/check_site.

Every page, in light and dark, at three widths: no error in the console, no broken link or image,
no page or table that scrolls sideways, no drawing that is cut off, no image alone in its row of a
gallery, text with enough contrast. The slider of the home page works by mouse and by keyboard;
without scripts its two images are shown; the search finds `GramStyleLoss`.
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

WIDE = (1280, 900)
SIZES = (WIDE, (390, 800), (1920, 1080))
LOWEST_CONTRAST = 4.5  # WCAG 2, level AA; 3 for large text
SHOWN = (
    "",
    "gallery/",
    "getting-started/first-picture/",
    "how-it-works/concepts/",
    "how-to/choose-a-loss/",
    "how-to/masks/",
    "how-to/troubleshooting/",
    "benchmarks/",
    "comparison/",
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
    """Return what is wrong with the links and images of the open page."""
    found = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    found += driver.execute_async_script("""
        const done = arguments[0], images = [...document.images];
        for (const image of images) image.loading = "eager";
        Promise.allSettled(images.map((image) => image.decode())).then((results) => done([
            ...images.filter((_, i) => results[i].status === "rejected")
                .map((image) => `broken image ${image.src}`),
            ...images.filter((image) => image.alt.length < 20)
                .map((image) => `no description of ${image.src}`),
        ]));
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


def misfits(driver: webdriver.Chrome) -> list[str]:
    """Return what does not fit into the open page at its width."""
    found: list[str] = driver.execute_script("""
        const found = [], all = (selector) => [...document.querySelectorAll(selector)];
        const wide = document.documentElement.scrollWidth - window.innerWidth;
        if (wide > 1) found.push(`${wide} pixels wider than the screen`);
        if (window.innerWidth > 1000)
            for (const table of all(".md-typeset__scrollwrap"))
                if (table.scrollWidth > table.clientWidth + 1)
                    found.push(`a table scrolls: ${table.innerText.slice(0, 40)}`);
        for (const drawing of all("svg.drawing")) {
            const frame = drawing.getBoundingClientRect();
            for (const part of drawing.querySelectorAll("text, rect, path, circle")) {
                const box = part.getBoundingClientRect();
                if (box.left < frame.left - 1 || box.right > frame.right + 1
                    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
                    found.push(`a drawing is cut off at ${part.textContent || part.tagName}`);
            }
        }
        for (const gallery of all(".gallery")) {
            const rows = {};
            for (const figure of gallery.children) (rows[figure.offsetTop] ||= []).push(figure);
            const lengths = Object.values(rows).map((row) => row.length);
            if (Math.max(...lengths) > 1 && Math.min(...lengths) === 1)
                found.push("an image is alone in its row");
        }
        return found;
    """)
    return found


def faint_texts(driver: webdriver.Chrome) -> list[str]:
    """Return the texts of the open page whose contrast with their background is too low."""
    found: list[str] = driver.execute_script(
        """
        const parse = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
        const over = ([r, g, b, a = 1], [x, y, z]) =>
            [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
        const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const luminance = ([r, g, b]) =>
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        const background = (element) => {
            if (!element) return [255, 255, 255];
            const color = parse(getComputedStyle(element).backgroundColor);
            return color[3] === undefined ? color : over(color, background(element.parentElement));
        };
        const found = new Set();
        const content = document.querySelector(".md-content");
        const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const element = walker.currentNode.parentElement;
            const style = getComputedStyle(element);
            const shown = element.checkVisibility({opacityProperty: true}) && !element.closest(
                "svg, script, style, .headerlink, .md-source-file");
            if (!walker.currentNode.data.trim() || !shown) continue;
            const behind = background(element);
            const levels = [behind, over(parse(style.color), behind)].map(luminance).sort();
            const contrast = (Math.max(...levels) + 0.05) / (Math.min(...levels) + 0.05);
            const large = parseFloat(style.fontSize) >= 24;
            const name = element.className || element.tagName;
            if (contrast < (large ? 3 : arguments[0]))
                found.add(`contrast ${contrast.toFixed(1)} of ${name}`);
        }
        return [...found];
        """,
        LOWEST_CONTRAST,
    )
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
                for size in SIZES:
                    resize(driver, size)
                    look = f"{'dark' if dark else 'light'}-{size[0]}"
                    for page in pages:
                        driver.get(root + page)
                        found = misfits(driver)
                        if size == WIDE:
                            found += faint_texts(driver)
                            found += [] if dark else problems_of(driver, root, page, known)
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
