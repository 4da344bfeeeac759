import pathlib
import shutil

import pytest
from fake_results import FakeModel, write_folder

import spectrace

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def root() -> pathlib.Path:
    """The checkout."""
    return ROOT


def write_four_models(path: pathlib.Path) -> pathlib.Path:
    sets = {"test": ["a", "b", "c"], "facts": ["x", "y"]}
    return write_folder(path, [
        FakeModel("zebra", num_layers=5, scale=2.0, sets=sets),
        FakeModel("ant", num_layers=4, sets=sets),
        FakeModel("mole", num_layers=6, scale=0.5, sets=sets, failed_prompts=("b",)),
        FakeModel("bat", error="config.json is missing (no such file). Is the path right?"),
    ])


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Two models that went well, one with a failed prompt, one that failed; the job's order is not the alphabet's."""
    return write_four_models(tmp_path / "sweep")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The same, open: what one test has read is read for the next."""
    with spectrace.open_results(write_four_models(tmp_path_factory.mktemp("opened"))) as results:
        yield results


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Headless Chromium."""
    browser, chromedriver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (browser and chromedriver):
        pytest.skip("chromium and chromedriver are not installed (tools/setup --tests)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.set_script_timeout(120)  # of a loaded machine
    yield driver
    driver.quit()
