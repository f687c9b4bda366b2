"""Make the picture of the explorer: ``python docs/figures/explorer.py``; needs selenium and chromium."""

from __future__ import annotations

import shutil
import socket
import time
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

import xr_rsembed as xs
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.explore.app import serve

FIND = """
const all = Array.from(Bokeh.documents[0]._all_models.values())
all.find(m => ['label', 'title', 'name'].some(k => m[k] === arguments[0]))[arguments[1]] = arguments[2]
"""
PRESS = """
const walk = root => { for (const e of root.querySelectorAll('*')) {
    if (e.localName === 'button' && e.textContent === arguments[0]) e.click()
    if (e.shadowRoot) walk(e.shadowRoot) } }
walk(document)
"""
# What lies where on the map, in pixels of the screen.
LABELS = (
    ("water", 400, 175),
    ("water", 398, 218),
    ("forest", 110, 520),
    ("forest", 150, 470),
    ("town", 255, 292),
    ("town", 88, 338),
    ("fields", 170, 240),
    ("fields", 320, 350),
    ("fields", 300, 430),
    ("fields", 110, 190),
    ("fields", 400, 460),
)


def main() -> None:
    scene = synthetic_scene((1120, 1120), seed=3).load()
    emb = xs.embed(scene, "terramind_v1_tiny", weights="random", overlap=112, blend="mean")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve(emb, scene, port=port, show=False, threaded=True)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,860"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        time.sleep(2)
        browser.get(f"http://127.0.0.1:{port}/")
        time.sleep(8)
        put = lambda *given: browser.execute_script(FIND, *given)  # noqa: E731
        browser.execute_script(PRESS, "Labels")
        time.sleep(2)
        put("Scene side by side", "active", True)
        time.sleep(5)
        for name, across, down in LABELS:
            put("Class of the next label", "value", name)
            time.sleep(3)
            pointer = ActionChains(browser)
            pointer.move_by_offset(across, down).click().perform()
            pointer.move_by_offset(-across, -down).perform()
            time.sleep(2)
        time.sleep(3)
        picture = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        small = picture.quantize(256, dither=Image.Dither.NONE)
        small.save(Path(__file__).parent / "explorer.png", optimize=True)
    finally:
        browser.quit()
        server.stop()


if __name__ == "__main__":
    with xs.set_options(progress=False):
        main()
