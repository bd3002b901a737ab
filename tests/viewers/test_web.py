"""The web viewer in a real browser: sliders, buttons, reload; and ports that are taken."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headlab.geometry.errors import HeadlabError
from headlab.viewers.web import WebViewer
from headlab.viewers.web_port import check_port

_FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_DRIVE = """
const { chromium } = require("playwright-core");
const [program, url, folder, flags] = process.argv.slice(1);
(async () => {
  const browser = await chromium.launch({ executablePath: program, args: JSON.parse(flags) });
  const page = await browser.newPage({ viewport: { width: 800, height: 520 } });
  const heard = { errors: [] };
  page.on("pageerror", (error) => heard.errors.push(error.message));
  const shots = [];
  // A picture that stays, has many colours and is none of those before.
  const shoot = async (name) => {
    let last = "";
    for (let i = 0; i < 240; i++) {
      const data = (await page.locator("canvas").first().screenshot()).toString("base64");
      if (data === last && data.length > 20000 && !shots.includes(data)) break;
      last = data;
      await page.waitForTimeout(250);
    }
    shots.push(last);
    require("fs").writeFileSync(`${folder}/${name}.png`, Buffer.from(last, "base64"));
  };
  const open = async () => {
    await page.waitForSelector("canvas", { timeout: 60000 });
    await page.waitForSelector("text=Jaw open", { timeout: 60000 });
    const close = page.locator(".mantine-Notification-closeButton");
    if (await close.first().waitFor({ timeout: 3000 }).then(() => true, () => false)) await close.first().click();
    await page.waitForFunction(() => !document.querySelector(".mantine-Notification-root"));
  };
  const slider = () => page.locator("label", { hasText: /^Jaw open$/ }).first()
    .locator("xpath=ancestor::div[contains(@class,'mantine-Flex-root')][1]").getByRole("slider");
  await page.goto(url);
  await open();
  await shoot("opened");
  await slider().focus();
  await page.keyboard.press("End");
  await shoot("jaw");
  heard.jaw = await slider().getAttribute("aria-valuenow");
  await page.getByRole("button", { name: "Neutral" }).or(page.getByText("Neutral", { exact: true })).first().click();
  await page.waitForFunction((e) => e.getAttribute("aria-valuenow") === "0", await slider().elementHandle());
  await shoot("neutral");
  const box = await page.locator("canvas").first().boundingBox();
  await page.mouse.move(box.x + 150, box.y + 200);
  await page.mouse.down();
  await page.mouse.move(box.x + 250, box.y + 210, { steps: 4 });
  await page.mouse.up();
  await shoot("turned");
  await slider().focus();
  await page.keyboard.press("End");
  await shoot("open again");
  await page.reload();
  await open();
  heard.reloaded = await slider().getAttribute("aria-valuenow");
  await shoot("reloaded");
  console.log(JSON.stringify(heard));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def viewer() -> Iterator[WebViewer]:
    if find_spec("viser") is None:
        pytest.skip("viser is not installed: pip install 'headlab[view]'")
    from viewed import head

    from headlab.viewers.session import Session

    session = Session([head()], generator=torch.Generator().manual_seed(0))
    opened = WebViewer(session, port=_free_port())
    yield opened
    opened.close()


def test_a_port_in_use_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        with pytest.raises(HeadlabError, match=f"port {port} of 127.0.0.1 cannot be used: it is in use; .*--port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(HeadlabError, match=r"port 80 of 203\.0\.113\.9 cannot be used"):
        check_port("203.0.113.9", 80)


def test_every_slider_of_the_panel_is_served(viewer):
    names = {control.name for group in viewer.session.panel.groups for control in group.controls}
    assert set(viewer.panel.sliders) == names
    viewer.panel.search("blink left")
    assert [name for name, slider in viewer.panel.sliders.items() if slider.visible] == ["eyeBlinkLeft"]
    viewer.panel.search("")
    viewer.session.set("jawOpen", 1.25)
    viewer.panel.show_values()
    assert viewer.panel.sliders["jawOpen"].value == 1.25
    viewer.session._give(viewer.session.shown.head)  # a second head: the panel is made anew
    viewer.panel.rebuild()
    assert set(viewer.panel.sliders) == names | {"view.strength"}


@pytest.mark.slow
def test_in_a_browser(viewer, tmp_path, node_modules):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = os.environ.get("HEADLAB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium: install the package `chromium`, or set HEADLAB_CHROMIUM to its program")
    if not (node_modules / "playwright-core").is_dir():
        pytest.skip(f"playwright-core is not in {node_modules}: npm install --prefix build playwright-core")
    done = subprocess.run(
        ["node", "-e", _DRIVE, program, viewer.url, str(tmp_path), json.dumps(_FLAGS)],
        env={**os.environ, "NODE_PATH": str(node_modules)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard["errors"] == []
    assert float(heard["jaw"]) == 3.0 == float(heard["reloaded"]) == viewer.session.value("jawOpen")
    seen = {name: _pixels(tmp_path / f"{name}.png") for name in ("opened", "jaw", "neutral", "turned", "reloaded")}
    assert len(np.unique(seen["opened"].reshape(-1, 3), axis=0)) > 500  # not blank
    for first, second in (("opened", "jaw"), ("jaw", "neutral"), ("neutral", "turned"), ("neutral", "reloaded")):
        assert _changed(seen[first], seen[second]) > 0.01, (first, second)
    # The browser that came back looks from where it began, at the head as it was left.
    deadline = time.monotonic() + 10
    while len(viewer._clients) != 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not viewer._clients  # browsers that went are forgotten


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _changed(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.abs(a - b).max(-1) > 8).mean())
