"""index.html: what is in the file, its arithmetic run by node, and the page driven in a real browser."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from riggable import ramp_texture, random_code, riggable_head

from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.heads.export import write_glb
from headlab.viewers.page import write_index_html

EVIL = '"><script>alert(1)</script><b onclick=alert(2)>$title &amp; .jpg'
REPORT = {
    "photo": EVIL,
    "landmark_nme": np.float32(0.0123456),
    EVIL: {"inner": [1, 2.5, None, True], "faces": [{"score": 0.5}, {"score": float("nan")}]},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    model = riggable_head()
    write_glb(folder / "head.glb", model, random_code(model, 3), ramp_texture())
    write_png(folder / "overlay.png", torch.rand(3, 300, 900, generator=torch.Generator().manual_seed(0)))
    write_png(folder / "render.png", ramp_texture())
    pictures = {"overlay": folder / "overlay.png", EVIL: folder / "render.png"}
    write_index_html(folder / "index.html", folder / "head.glb", pictures, REPORT, title=EVIL)
    return folder / "index.html"


class _Page(HTMLParser):
    """Tags and texts of a page, as a browser would see them."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: list[tuple[str, str]] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        self.texts.append(data)
        self.inside.append((self._open, data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_everything_is_inside(page):
    html = page.read_text(encoding="utf-8")
    seen = _Page(html)
    for _, attributes in seen.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "https://" not in html and "http://" not in html
    embedded = next(text for tag, text in seen.inside if tag == "script" and len(text) > 1000)
    assert base64.b64decode(embedded) == page.with_name("head.glb").read_bytes()


def test_strings_stay_strings(page):
    """File names are shown as they are and bring no tags, attributes or scripts with them."""
    html = page.read_text(encoding="utf-8")
    seen = _Page(html)
    assert not seen.all("b") and not any("onclick" in attributes for _, attributes in seen.tags)
    assert ("title", EVIL) in seen.inside and ("h1", EVIL) in seen.inside
    assert ("figcaption", EVIL) in seen.inside and ("td", EVIL) in seen.inside
    scripts = [attributes for attributes in seen.all("script") if "type" not in attributes]
    assert len(scripts) == 1
    script = html.rsplit("<script>", 1)[1].rsplit("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [a["content"] for a in seen.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_report_is_a_table(page):
    texts = [text for tag, text in _Page(page.read_text(encoding="utf-8")).inside if tag == "td"]
    assert "0.01235" in texts and "1, 2.5, –, yes" in texts and "0.5" in texts and "–" in texts


def test_heavy_pictures_become_lighter(page):
    images = [a["src"] for a in _Page(page.read_text(encoding="utf-8")).all("img") if a.get("src")]
    assert page.with_name("overlay.png").stat().st_size > 300_000
    assert images[0].startswith("data:image/jpeg;base64,") and images[1].startswith("data:image/png;base64,")
    original = page.with_name("render.png").read_bytes()
    assert base64.b64decode(images[1].split(",", 1)[1]) == original


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_bad_pictures_are_named(tmp_path, page, content):
    picture = tmp_path / "overlay.png"
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(HeadlabError, match=r"overlay\.png") as caught:
        write_index_html(tmp_path / "index.html", page.with_name("head.glb"), {"overlay": picture}, {})
    assert "\n" not in str(caught.value) and not (tmp_path / "index.html").exists()


def test_missing_head_is_named(tmp_path):
    with pytest.raises(HeadlabError, match=r"head\.glb"):
        write_index_html(tmp_path / "index.html", tmp_path / "head.glb", {}, {})
    assert os.listdir(tmp_path) == []


_EVALUATE = """
const fs = require("fs"), vm = require("vm"), [folder, glb, pose] = process.argv.slice(1);
const names = ["matrix.js", "glb.js", "viewer.js"];
const source = names.map((name) => fs.readFileSync(folder + "/" + name, "utf8")).join("\\n");
vm.runInThisContext(source + `
  this.posed = (glb, {weights, rotations}) => {
    const head = readGlb(glb), bones = HeadViewer.prototype._bones.call({ head, rotations });
    return head.parts.map((part) => {
      const points = part.positions.slice(), out = [];
      weights.forEach((weight, k) => addScaled(points, part.targets[k].positions, weight));
      for (let i = 0; i < points.length / 3; i++)
        for (let r = 0; r < 3; r++) {
          let sum = 0;
          for (let j = 0; j < 4; j++) {
            const bone = bones.subarray(16 * part.joints[4 * i + j]), weight = part.weights[4 * i + j];
            const place = [0, 1, 2].reduce((x, c) => x + bone[4 * c + r] * points[3 * i + c], bone[12 + r]);
            sum += weight * place;
          }
          out.push(sum);
        }
      return { points: out, faces: Array.from(part.indices) };
    });
  };
  this.vectors = (q) => q.map((one) => rotationVector(one));`);
const bytes = new Uint8Array(fs.readFileSync(glb)), given = JSON.parse(pose);
console.log(JSON.stringify({ parts: posed(bytes, given), vectors: vectors(given.quaternions) }));
"""


def test_arithmetic_equals_the_model(page):
    """The page's own reader, blending and bones, run by node, against HeadModel and roma."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    import roma

    model = riggable_head()
    code = random_code(model, 8).with_(shape=random_code(model, 3).shape)
    rotations = torch.stack([torch.zeros(3), code.neck, code.jaw, code.eyes[0], code.eyes[1]])
    many = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
    many = torch.cat([many * 1.5, many[:2] * 1e-7])
    quaternions = -roma.rotvec_to_unitquat(many.double())  # the sign must not matter
    pose = {
        "weights": code.expression.tolist(),
        "rotations": rotations.tolist(),
        "quaternions": quaternions.tolist(),
    }
    import headlab.viewers.page as module

    assets = Path(module.__file__).parent / "assets"
    done = subprocess.run(
        ["node", "-e", _EVALUATE, str(assets), str(page.with_name("head.glb")), json.dumps(pose)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    upright = code.with_(rotation=torch.zeros(3), translation=torch.zeros(3))
    vertices = model.vertices(upright)
    for i, part in enumerate(found["parts"]):
        points = np.array(part["points"]).reshape(-1, 3)[np.array(part["faces"]).reshape(-1, 3)]
        expected = vertices[model.faces[model.face_parts == i]].numpy()
        assert np.abs(points - expected).max() < 1e-6
    expected = roma.unitquat_to_rotvec(quaternions)
    np.testing.assert_allclose(np.array(found["vectors"]), expected.numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("HEADLAB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium: install the package `chromium`, or set HEADLAB_CHROMIUM to its program")
    return found


#: WebGL without a graphics card.
_FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

_DRIVE = """
const { chromium } = require("playwright-core");
const [program, url, folder, flags] = process.argv.slice(1);
(async () => {
  const browser = await chromium.launch({ executablePath: program, args: JSON.parse(flags) });
  const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
  const heard = { errors: [], requests: [], dialogs: 0 };
  page.on("console", (message) => message.type() === "error" && heard.errors.push(message.text()));
  page.on("pageerror", (error) => heard.errors.push(error.message));
  page.on("dialog", (dialog) => { heard.dialogs++; dialog.dismiss(); });
  page.on("request", (request) => heard.requests.push(request.url().slice(0, 60)));
  const shoot = async (name) => {
    await page.evaluate(() => document.activeElement.blur()); // no focus rings in the pictures
    await page.waitForSelector("#view[data-state=drawn]", { timeout: 60000 });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await page.locator("#view").screenshot({ path: `${folder}/${name}.png` });
  };
  await page.goto(url);
  await shoot("opened");
  await page.focus('[id="slider-jawOpen"]');
  await page.keyboard.press("End");
  heard.value = await page.locator('[id="slider-jawOpen"]').inputValue();
  await shoot("jaw");
  await page.click("#neutral");
  await shoot("neutral");
  await page.click("#fitted");
  heard.fitted = await page.locator('[id="slider-browInnerUp"] + output').textContent();
  await shoot("fitted");
  await page.click("#neutral");
  await page.uncheck("#texture");
  await shoot("clay");
  await page.check("#texture");
  const box = await page.locator("#view").boundingBox();
  await page.mouse.move(box.x + 300, box.y + 200);
  await page.mouse.down();
  await page.mouse.move(box.x + 420, box.y + 220, { steps: 3 });
  await page.mouse.up();
  await shoot("turned");
  await page.focus("#view");
  await page.keyboard.press("Home");
  await shoot("home");
  await page.fill("#search", "blink left");
  heard.visible = await page.locator(".row:visible label").allTextContents();
  heard.scripts = await page.evaluate(() => document.scripts.length);
  for (const name of ["link", "again"]) {
    await page.goto("about:blank");
    await page.goto(url + "#jawOpen=1");
    await shoot(name);
  }
  console.log(JSON.stringify(heard));
  await browser.close();
})();
"""


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _changed(a: np.ndarray, b: np.ndarray) -> float:
    """Share of pixels that differ visibly."""
    return float((np.abs(a - b).max(-1) > 8).mean())


@pytest.mark.slow
def test_in_a_browser(page, tmp_path, chromium, node_modules):
    """Sliders by keyboard, buttons, mouse, search and links do what they say; no errors, no requests, no scripts."""
    if not (node_modules / "playwright-core").is_dir():
        pytest.skip(f"playwright-core is not in {node_modules}: npm install --prefix build playwright-core")
    done = subprocess.run(
        ["node", "-e", _DRIVE, chromium, page.as_uri(), str(tmp_path), json.dumps(_FLAGS)],
        env={**os.environ, "NODE_PATH": str(node_modules)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard["errors"] == [] and heard["dialogs"] == 0 and heard["scripts"] == 2
    assert [url for url in heard["requests"] if not url.startswith(("file:", "data:", "blob:"))] == []
    assert float(heard["value"]) == 1.0 and heard["visible"] == ["Eye blink left"]
    assert float(heard["fitted"]) == pytest.approx(float(random_code(riggable_head(), 3).expression[0]), abs=0.006)

    names = ("opened", "jaw", "neutral", "fitted", "clay", "turned", "home", "link", "again")
    seen = {name: _pixels(tmp_path / f"{name}.png") for name in names}
    background = _changed(seen["opened"], seen["opened"][:1, :1])
    assert background > 0.1 and len(np.unique(seen["opened"].reshape(-1, 3), axis=0)) > 500  # not blank
    assert _changed(seen["opened"], seen["neutral"]) == 0 == _changed(seen["neutral"], seen["home"])
    assert _changed(seen["link"], seen["again"]) == 0
    for name in ("jaw", "fitted", "clay", "turned", "link"):
        assert _changed(seen[name], seen["neutral"]) > 0.01, name
