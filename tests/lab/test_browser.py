"""A real browser: JupyterLab runs chapters, a slider moves a figure, the playground draws.

Wants Chromium (`apt-get install chromium`). Where there is none these tests are skipped, and say
so; with CI set in the environment, as continuous integration does, that is a failure.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
START, RUN = 90_000, 240_000  # milliseconds: for a page to come up, for a notebook to run
IDLE = """[...document.querySelectorAll('#jp-main-statusbar *')]
    .some(item => item.textContent.trim().endsWith('Idle'))"""
ALL_RAN = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    return prompts.length && prompts.every(p => /^\\[\\d+\\]:$/.test(p.textContent.trim()));
}"""
CHANGED = "([element, before]) => element.innerHTML !== before"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        told = "no Chromium here: apt-get install chromium"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def serve(tmp_path):
    """Starts a server of a module on a free port, waits until it listens; ends it at last."""
    started = []

    def start(module, *arguments, **environment):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        log = tmp_path / f"{module}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--no-browser", f"--port={port}", *arguments],
                stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "MINIDALLE_PRESET": "smoke", **environment},
            )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return f"http://127.0.0.1:{port}"
            except OSError:
                time.sleep(0.5)

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("name", ["00_start_here", "03_discrete_codes"])
def test_jupyterlab_runs_a_chapter_and_its_slider_moves_the_figure(browser, serve, tmp_path, name):
    """Catches widgets that do not render, and sliders that are tied to nothing."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")  # the page may save over what it runs
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    every_cell = {"windowingMode": "none"}  # cells out of sight stay in the page
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(every_cell))
    token = secrets.token_hex(16)
    address = serve(
        "jupyterlab", "--allow-root", f"--IdentityProvider.token={token}",
        f"--notebook-dir={tmp_path / 'notebooks'}", JUPYTER_CONFIG_DIR=str(tmp_path / "config"),
        JUPYTERLAB_SETTINGS_DIR=str(tmp_path / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(tmp_path / "workspaces"),
    )  # fmt: skip
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset&token={token}", timeout=START)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=START)
    page.wait_for_function(IDLE, timeout=START)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ALL_RAN, timeout=RUN)
    told = page.locator(".jp-OutputArea-output[data-mime-type*='error']").all_inner_texts()
    assert told == []

    slider = page.locator(".widget-slider .noUi-handle").first
    slider.scroll_into_view_if_needed()
    figure = page.locator(".widget-vbox .widget-html-content").first
    before = figure.inner_html()
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function(CHANGED, arg=[figure.element_handle(), before], timeout=START)
    page.close()


def test_the_playground_page_draws_a_typed_caption(browser, serve):
    """Voilà serves the playground as README says; a caption is typed, and other pictures come."""
    address = serve("voila", str(NOTEBOOKS / "playground.ipynb"), "--strip_sources=True")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.goto(address, timeout=RUN)
    pictures = page.locator(".widget-html-content [role=img]").first
    pictures.wait_for(timeout=RUN)
    assert "bear" in pictures.get_attribute("aria-label")
    caption = page.get_by_role("combobox")
    caption.fill("two pink hearts at night")
    caption.press("Enter")
    asked = page.locator("[aria-label*='two pink hearts at night']").first
    asked.wait_for(timeout=RUN)
    assert asked.locator("img").count() == 4
    page.get_by_role("button", name="complete 1", exact=True).click()
    page.get_by_text("The frame marks what was kept").wait_for(timeout=RUN)
    page.get_by_role("tab", name="describe").click()
    page.get_by_role("button", name="Rank").click()
    page.locator("td", has_text="a red car on the grass").wait_for(timeout=RUN)
    page.close()
