"""The report as people see it: in headless Chromium, wide and narrow, by mouse and by keys. Skipped where there is no browser."""

import json
import re
import time

import pytest
import spectrace
from fake_results import FakeModel, write_folder, zoo
from spectrace import report

WIDTHS = (390, 1280)
PATIENCE_S = 120  # of a loaded machine; a page that is right takes a second


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of everything at once: eight good models, one with failed prompts, one that failed, two prompt sets."""
    models = zoo()
    for model in models:
        model.sets = {"test": model.sets["test"], "facts": ["x", "y", "z"]}
    models += [FakeModel("a-model-of-an-organisation-with-a-long-name--7b-instruct-v0.1", lab="Meta", failed_prompts=("x",), sets=models[0].sets),
               FakeModel("broken", error="config.json is missing")]
    folder = write_folder(tmp_path_factory.mktemp("browser"), models)
    with spectrace.open_results(folder) as results:
        report.write_report(results, folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture
def opened(driver, page):
    """Opens the page at a width."""
    def open_at(width):
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 600})
        driver.get("about:blank")
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(page.as_uri())
        return driver
    return open_at


def until(driver, script):
    """Waits for a script to give something true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := driver.execute_script(f"return {script}")):
        assert time.monotonic() < end, script
        time.sleep(0.1)
    return found


def draw_everything(driver):
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true); dispatchEvent(new Event('beforeprint'))")
    until(driver, "[...document.querySelectorAll('.drawing')].filter(p => p.offsetParent).every(p => p.querySelector('.main-svg'))")


def shown_text(driver, selector):
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent).map(e => e.innerText)", selector)


@pytest.mark.parametrize("width", WIDTHS)
def test_page_draws_all_its_figures_without_an_error_or_a_request(opened, page, width):
    driver = opened(width)
    draw_everything(driver)
    assert driver.execute_script("return document.querySelectorAll('.drawing').length") > 60
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = {message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(opened, width):
    driver = opened(width)
    draw_everything(driver)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    figures = driver.execute_script("return [...document.querySelectorAll('.drawing')].filter(p => p.offsetParent).map(p => [p.clientWidth, p.querySelector('.main-svg').getBoundingClientRect().width])")
    assert all(0 < drawn <= given + 1 for given, drawn in figures)
    assert min(given for given, _ in figures) >= 280  # wide enough to read


def test_figures_are_drawn_as_they_are_reached(opened):
    driver = opened(1280)
    drawn = "document.querySelectorAll('.drawing[data-drawn]').length"
    total = driver.execute_script("return document.querySelectorAll('.drawing').length")
    assert driver.execute_script(f"return {drawn}") < total / 2
    driver.execute_script("document.querySelector('#restriction_maps .drawing').scrollIntoView({behavior: 'instant'})")
    until(driver, "document.querySelector('#restriction_maps .drawing[data-drawn] .main-svg')")


def test_hidden_model_leaves_figures_and_tables(opened):
    driver = opened(1280)
    draw_everything(driver)
    rows = "document.querySelectorAll('tr[data-model=gpt2]:not([hidden])').length"
    traces = "[...document.querySelectorAll('.drawing')].flatMap(p => p.data || []).filter(t => t.meta === 'gpt2' && t.visible !== false).length"
    assert driver.execute_script(f"return {rows}") > 0 and driver.execute_script(f"return {traces}") > 0
    driver.execute_script("document.querySelector('#models input[value=gpt2]').click()")
    until(driver, f"{traces} === 0")
    assert driver.execute_script(f"return {rows}") == 0
    driver.execute_script("document.getElementById('all-models').click()")
    until(driver, f"{traces} > 0")
    driver.execute_script("document.getElementById('no-models').click()")
    assert driver.execute_script("return document.querySelectorAll('#models input:checked').length") == 0


def test_prompt_set_is_chosen(opened):
    driver = opened(1280)
    assert "Prompt set" in shown_text(driver, "label.set")[0]
    sets = "new Set([...document.querySelectorAll('[data-set]')].filter(e => e.offsetParent).map(e => e.dataset.set))"
    assert driver.execute_script(f"return [...{sets}]") == ["test"]
    driver.execute_script("const s = document.getElementById('prompt-set'); s.value = 'facts'; s.dispatchEvent(new Event('change'))")
    assert driver.execute_script(f"return [...{sets}]") == ["facts"]
    driver.execute_script("document.querySelector('#h4_v2_extended .card[data-set=facts]').scrollIntoView({behavior: 'instant'})")
    until(driver, "document.querySelector('#h4_v2_extended .card[data-set=facts] .main-svg')")


def test_tables_sort_by_value_with_keys_alone(opened):
    from selenium.webdriver.common.keys import Keys

    driver = opened(1280)
    head = driver.execute_script("return [...document.querySelectorAll('#sweep th button')].find(b => b.innerText.startsWith('mean trace'))")
    column = "[...arguments[0].closest('table').tBodies[0].rows].map(r => r.cells[arguments[0].parentElement.cellIndex].dataset.v ?? null)"
    for direction, reverse in (("ascending", False), ("descending", True)):
        head.send_keys(Keys.ENTER)
        values = driver.execute_script(f"return {column}", head)
        numbers = [float(value) for value in values if value is not None]
        assert numbers == sorted(numbers, reverse=reverse) and len(numbers) > 5
        assert values[len(numbers):] == [None] * (len(values) - len(numbers))  # what has no value comes last
        assert driver.execute_script("return arguments[0].parentElement.getAttribute('aria-sort')", head) == direction


def test_figures_zoom_by_mouse_keys_and_show_values_when_pointed_at(opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    driver = opened(1280)
    driver.execute_script("document.getElementById('residual').scrollIntoView({behavior: 'instant'})")
    until(driver, "document.querySelector('#residual .drawing .main-svg .scatterlayer')")
    plot = driver.find_element("css selector", "#residual .drawing")
    whole = driver.execute_script("return arguments[0].layout.xaxis.range", plot)
    plot.send_keys("+")
    zoomed = driver.execute_script("return arguments[0].layout.xaxis.range", plot)
    assert zoomed[1] - zoomed[0] < whole[1] - whole[0]
    plot.send_keys(Keys.ARROW_RIGHT)
    assert driver.execute_script("return arguments[0].layout.xaxis.range", plot)[0] > zoomed[0]
    plot.send_keys("0")
    until(driver, f"Math.abs(document.querySelector('#residual .drawing').layout.xaxis.range[1] - {whole[1]}) < 1e-9")
    point = driver.execute_script("""const p = arguments[0], t = p.data.findIndex(t => t.mode && t.mode.includes('lines') && t.hovertemplate), r = p.getBoundingClientRect(), l = p._fullLayout;
        return [r.left + l.xaxis._offset + l.xaxis.l2p(p._fullData[t].x[2]), r.top + l.yaxis._offset + l.yaxis.l2p(p._fullData[t].y[2])]""", plot)
    size = driver.execute_script("const r = arguments[0].getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]", plot)
    ActionChains(driver).move_to_element_with_offset(plot, round(point[0] - size[0]), round(point[1] - size[1])).perform()
    until(driver, "document.querySelector('#residual .hoverlayer text')")


def test_every_control_is_reached_by_tab_and_shows_focus(opened):
    from selenium.webdriver.common.keys import Keys

    driver = opened(1280)
    reached = set()
    for _ in range(60):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(driver.execute_script("const e = document.activeElement; return e.id || e.className || e.tagName"))
        outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
    assert {"skip", "prompt-set", "all-models", "no-models", "A", "INPUT", "BUTTON", "wide"} <= reached


def test_narrow_page_has_its_menu_closed_and_leads_to_the_sections(opened):
    driver = opened(390)
    assert driver.execute_script("return document.getElementById('panel').open") is False
    driver.execute_script("document.querySelector('#panel > summary').click()")
    driver.execute_script("document.querySelector('nav a[href=\"#lstar\"]').click()")
    assert driver.execute_script("return document.getElementById('panel').open") is False and driver.current_url.endswith("#lstar")


@pytest.mark.parametrize("width", WIDTHS)
def test_colours_of_the_models_are_told_beside_the_figures(opened, width):
    driver = opened(width)
    keys = [text for text in shown_text(driver, ".key") if text]
    chooser = [text for text in shown_text(driver, "#models .list") if text]
    assert (bool(keys), bool(chooser)) == ((True, False) if width == 390 else (False, True))
    assert all(model in (keys + chooser)[0] for model in ("gpt2", "opt-125m", "mistral-7b"))


def luminance(color):
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_stands_out_from_its_ground(opened, width):
    """WCAG 2 AA: 4.5 to 1 for every text of the page, that of figures too."""
    driver = opened(width)
    draw_everything(driver)
    pairs = driver.execute_script("""
        const found = new Map();
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const e = walker.currentNode.parentElement;
          if (!walker.currentNode.textContent.trim() || !e.getClientRects().length || e.closest('script, style, noscript, .skip, .modebar')) continue;
          const isSvg = e.namespaceURI.endsWith('svg');
          let ground = 'rgb(255, 255, 255)';
          for (let p = e; p; p = p.parentElement) {
            const b = getComputedStyle(p).backgroundColor;
            if (!p.closest('svg') && !/rgba?\\(.*, 0\\)$|transparent/.test(b)) { ground = b; break; }
          }
          const style = getComputedStyle(e);
          found.set((isSvg ? style.fill : style.color) + '|' + ground, e.outerHTML.slice(0, 120));
        }
        return [...found]""")
    assert len(pairs) > 5
    for pair, where in pairs:
        lighter, darker = sorted((luminance(color) for color in pair.split("|")), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (pair, where)


def test_what_failed_and_what_is_small_is_seen_without_a_click(opened):
    driver = opened(390)
    text = driver.execute_script("return document.getElementById('sweep').innerText")
    assert "config.json is missing" in text and "failed" in text and "9 " not in text.split("of 10 models")[0][-3:]
    driver.execute_script("const s = document.getElementById('prompt-set'); s.value = 'facts'; s.dispatchEvent(new Event('change'))")
    text = driver.execute_script("return document.getElementById('sweep').innerText")
    assert "made to fail" in text and "Few prompts: means over “facts” are of 2 to 3 prompts" in text


def test_tables_are_saved_as_csv(opened, tmp_path):
    driver = opened(1280)
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    driver.execute_script("document.querySelector('#opt_anomaly .csv').click()")
    end = time.monotonic() + PATIENCE_S
    while not (files := list(tmp_path.glob("*.csv"))) and time.monotonic() < end:
        time.sleep(0.1)
    lines = files[0].read_text().splitlines()
    assert lines[0].startswith('"model"') and any(line.startswith('"gpt2"') for line in lines)
