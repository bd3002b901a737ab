"""gallery.html: what is in the file, and the page driven in a real browser with ten thousand items."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from headlab.geometry.files import encode_image, write_bytes
from headlab.heads.batch_manifest import Manifest
from headlab.viewers import batch_gallery
from headlab.viewers.batch_gallery import gallery_page, write_gallery

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> $title %2f 'ü'.jpg"
COUNT = 10_000


def record(i: int) -> dict:
    name = f"folder {i % 7}/photo {i:05d}.jpg"
    one = {"key": f"/in/{name}", "name": name, "kind": "photo", "seconds": {"decode": 0.25, "solve": i / 100}}
    if i % 100 == 3:
        return {**one, "status": "failed", "error": {"kind": "no face", "message": f"no face found {i}"}}
    return {**one, "status": "done", "nme": (i * 7919 % COUNT) / COUNT, "files": {"thumb.jpg": 1, "index.html": 1}}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    write_bytes(folder / "thumb.jpg", encode_image(torch.linspace(0, 1, 96 * 288).reshape(1, 96, 288), "JPEG"))
    with Manifest(str(folder)) as manifest:
        manifest.open({"same": {"task": "auto", "method": "regress"}, "versions": {}}, False, True)
        for i in range(COUNT):
            manifest.add(record(i))
            if "files" in record(i):
                (folder / record(i)["name"]).mkdir(parents=True)
                os.link(folder / "thumb.jpg", folder / record(i)["name"] / "thumb.jpg")
        files = {"thumb.jpg": 1}
        manifest.add({"key": EVIL, "name": EVIL.replace("/", "_"), "kind": "video", "status": "done", "files": files})
        (folder / EVIL.replace("/", "_")).mkdir()
        os.link(folder / "thumb.jpg", folder / EVIL.replace("/", "_") / "thumb.jpg")
    write_gallery(str(folder))
    return folder / "gallery.html"


def test_page_holds_strings_as_strings(gallery: Path) -> None:
    html = gallery.read_text(encoding="utf-8")
    assert "<script>alert" not in html and "onerror=alert(2)>" in html  # within JSON
    script = html.rsplit("<script>", 1)[1].rsplit("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html and "default-src 'none'" in html
    rows = json.loads(html.split('id="items">', 1)[1].split("</script>", 1)[0])
    assert len(rows) == COUNT + 1 and rows[3][3] == "no face found 3" and rows[-1][0] == EVIL.replace("/", "_")
    assert "http://" not in html and "https://" not in html and len(html) < 3_000_000


def test_only_the_worst_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_gallery, "MOST", 5)
    html = gallery_page([record(i) for i in range(50)], "t", {"same": {}})
    rows = json.loads(html.split('id="items">', 1)[1].split("</script>", 1)[0])
    worst = sorted((record(i)["nme"] for i in range(50) if "nme" in record(i)), reverse=True)[:4]
    assert rows[0][3] == "no face found 3" and [row[2] for row in rows[1:]] == worst
    assert "the 5 worst of 50 items" in html


_DRIVE = """
const { chromium } = require("playwright-core");
const [program, url, folder] = process.argv.slice(1);
(async () => {
  const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 1240, height: 800 } });
  const heard = { errors: [], requests: [], dialogs: 0 };
  page.on("console", (message) => message.type() === "error" && heard.errors.push(message.text()));
  page.on("pageerror", (error) => heard.errors.push(error.message));
  page.on("dialog", (dialog) => { heard.dialogs++; dialog.dismiss(); });
  page.on("request", (request) => heard.requests.push(request.url()));
  const texts = () => page.locator(".tile b").allTextContents();
  const settle = () =>
    page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.goto(url);
  await page.waitForSelector("html[data-state=drawn]");
  heard.milliseconds = await page.evaluate(() => performance.now());
  heard.count = await page.locator("#count").textContent();
  heard.worst = await texts();
  await page.selectOption("#show", "done");
  heard.done = (await texts()).slice(0, 3);
  await page.locator(".tile img").first().evaluate((image) => image.decode());
  heard.loaded = await page.locator(".tile img").first().evaluate((image) => image.naturalWidth);
  await settle();
  await page.screenshot({ path: `${folder}/top.png` });
  await page.selectOption("#sort", "best");
  heard.best = (await texts()).slice(0, 3);
  await page.selectOption("#sort", "name");
  await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
  await settle();
  heard.last = (await texts()).slice(-1)[0];
  heard.tiles = await page.locator(".tile").count();
  await page.selectOption("#show", "failed");
  heard.failed = await page.locator("#count").textContent();
  heard.scroll = await page.evaluate(() => window.scrollY);
  await settle();
  await page.screenshot({ path: `${folder}/failed.png` });
  await page.selectOption("#show", "all");
  await page.fill("#search", "photo 01234");
  heard.found = await texts();
  heard.href = await page.locator("a.tile").first().getAttribute("href");
  await page.fill("#search", "alert");
  heard.evil = await texts();
  await page.locator(".tile img").first().evaluate((image) => image.decode());
  await page.fill("#search", "");
  await page.selectOption("#sort", "slow");
  heard.slow = (await texts())[0];
  const frames = [];
  for (let i = 0; i < 40; i++) {
    const start = Date.now();
    await page.evaluate((y) => window.scrollTo(0, y), (i * 7919 % 40) * 9000);
    await settle();
    frames.push(Date.now() - start);
  }
  heard.frame = frames.sort((a, b) => a - b)[20];
  await page.setViewportSize({ width: 420, height: 800 });
  await settle();
  heard.narrow = await page.evaluate(
    () => new Set([...document.querySelectorAll(".tile")].map((tile) => tile.style.left)).size,
  );
  console.log(JSON.stringify(heard));
  await browser.close();
})();
"""


@pytest.mark.slow
def test_in_a_browser(gallery: Path, tmp_path: Path, node_modules: Path) -> None:
    """Opens at once, sorts, filters, finds, scrolls to the end; the tree stays small; names stay names."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    chromium = os.environ.get("HEADLAB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None or not (node_modules / "playwright-core").is_dir():
        pytest.skip("no Chromium or no playwright-core")
    done = subprocess.run(
        ["node", "-e", _DRIVE, chromium, gallery.as_uri(), str(tmp_path)],
        env={**os.environ, "NODE_PATH": str(node_modules)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    print({name: heard[name] for name in ("milliseconds", "frame", "tiles")})
    assert heard["errors"] == [] and heard["dialogs"] == 0
    assert [url for url in heard["requests"] if not url.startswith(("file:", "data:"))] == []
    records = [record(i) for i in range(COUNT)]
    fitted = sorted((r for r in records if "nme" in r), key=lambda r: r["nme"])
    assert heard["count"] == f"{COUNT + 1} items, 100 failed" and heard["failed"].startswith("100 of ")
    failed = {r["name"] for r in records if "error" in r}
    assert set(heard["worst"]) <= failed and heard["scroll"] == 0
    assert heard["done"] == [r["name"] for r in fitted[:-4:-1]] and heard["loaded"] == 288
    evil = EVIL.replace("/", "_")
    assert heard["best"] == [evil, *(r["name"] for r in fitted[:2])]
    assert heard["last"] == "folder 6/photo 09995.jpg" and heard["tiles"] < 60
    assert heard["found"] == ["folder 2/photo 01234.jpg"] and heard["href"] == "folder%202/photo%2001234.jpg/index.html"
    assert heard["evil"] == [evil] and heard["slow"] == "folder 3/photo 09999.jpg" and heard["narrow"] == 1
    assert heard["milliseconds"] < 5000
