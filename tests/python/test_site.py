"""The manual as a site (tools/docs): what it leads to is there, mistakes end the build, and people can read it, from disk, on a phone too."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / ".cache/sphinx/.stamp").exists(), reason="Sphinx is not installed (tools/docs --install)")
MAIN_PAGES = ["README", *(f"docs/{path.stem}" for path in sorted((ROOT / "docs").glob("*.md"))), "docs/demo", "CHANGELOG"]
PATIENCE_S = 120


def copy_of_the_manual(folder):
    """All that a site is made of, to be built where no other test builds."""
    for name in ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "CMakeLists.txt", "tools/docs", "tools/requirements-docs.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("docs", "include", "jobs", "src", "tools/docs-site", "tools/lib"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("models", "results") if name == "jobs" else None)
    (folder / ".cache").symlink_to(ROOT / ".cache")
    return folder


def build(folder):
    return subprocess.run([folder / "tools/docs"], capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = copy_of_the_manual(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/site"


def test_links_lead_to_files_of_the_site(site):
    targets = set()
    for page in site.rglob("*.html"):
        for tag, link in re.findall(r'<(\w+)\s[^>]*?(?:href|src)="([^"#?]*)', page.read_text(encoding="utf-8")):
            if re.match(r"https?:", link):
                assert tag == "a", f"{page.name} loads {link}"  # what is only linked is never asked for
            elif link and not link.startswith("data:"):
                targets.add((page.parent / unquote(link)).resolve())
    assert [str(target) for target in targets if not target.is_file()] == []
    found = {str(target.relative_to(site)) for target in targets}
    assert {f"{page}.html" for page in MAIN_PAGES} | {"include/spectrace/numerics/thermodynamics.html", "CITATION.html"} <= found
    assert any(name.endswith("/LICENSE") for name in found)


def test_source_and_page_lead_to_each_other(site):
    assert 'href="../include/spectrace/numerics/thermodynamics.html"' in (site / "docs/quantities.html").read_text(encoding="utf-8")
    header = (site / "include/spectrace/numerics/thermodynamics.html").read_text(encoding="utf-8")
    assert 'href="../../../docs/quantities.html"' in header and "heat_capacity" in header


def test_mistakes_end_the_build(tmp_path):
    folder = copy_of_the_manual(tmp_path)
    (folder / "docs/lost.md").write_text("# A page that nothing leads to\n")
    with (folder / "docs/cluster.md").open("a") as page:
        page.write("\n[a](no-such-page.md) [b](manual.md#no-such-heading) [c](#not-here) [d](../include/no-such.hpp)\n")
    assert build(folder).returncode != 0
    warnings = [line for line in (folder / "build/docs.log").read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == 5
    for mistake in ("no-such-page.md", "no-such-heading", "not-here", "no-such.hpp", "lost.md"):
        assert any(mistake in line for line in warnings), warnings


@pytest.fixture
def opened(driver, site):
    """Opens a page at a width and returns what was asked for meanwhile, and what the console said."""
    def open_at(page, width):
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 600})
        driver.get("about:blank")
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get((site / page.split("?")[0]).as_uri() + page[len(page.split("?")[0]):])
        messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
        urls = {message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"}
        return urls, [entry["message"] for entry in driver.get_log("browser")]
    return open_at


@pytest.mark.parametrize("page", MAIN_PAGES)
def test_page_fits_the_window_and_asks_for_nothing_outside(opened, driver, site, page):
    for width in (390, 1280):
        urls, console = opened(f"{page}.html", width)
        assert console == []
        assert len(urls) > 3 and [url for url in urls if not url.startswith((site.as_uri(), "data:"))] == []
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.execute_script("return document.querySelector('h1').getBoundingClientRect().right") <= width


def test_site_begins_with_the_overview_and_lists_the_pages_in_their_order(opened, driver):
    opened("index.html", 1280)
    end = time.monotonic() + PATIENCE_S
    while not driver.current_url.endswith("/README.html") and time.monotonic() < end:
        time.sleep(0.1)
    shown = driver.execute_script("return [...document.querySelectorAll('.sidebar-tree a')].map(a => a.getAttribute('href'))")
    assert shown[:6] == ["#", "docs/installing.html", "docs/manual.html", "docs/cluster.html", "docs/quantities.html", "docs/file-format.html"]
    assert shown[-2:] == ["CHANGELOG.html", "tools/docs-site/licence.html"]


def test_search_works_from_disk(opened, driver):
    _, console = opened("search.html?q=fiedler", 1280)
    end = time.monotonic() + PATIENCE_S
    while not (found := driver.execute_script("return [...document.querySelectorAll('#search-results li a')].map(a => a.innerText)")) and time.monotonic() < end:
        time.sleep(0.1)
    assert "Quantities" in found and console == []
