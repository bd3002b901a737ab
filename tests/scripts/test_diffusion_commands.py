"""`headlab transfer --renderer diffusion` and `headlab personalize`, with a tiny random model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from tiny_diffusion import tiny_diffusion

from headlab.datasets.depth_map import read_depth, write_depth
from headlab.diffusion.conditions import Conditions
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.heads.emotions import category, expression_of
from headlab.heads.head_fit import HeadFit
from headlab.heads.transfer_renderer import PERSONAL, load_editor
from headlab.scripts.personalize import Personalize
from headlab.scripts.transfer import Transfer

SIZE = (260, 240)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_diffusion().save(folder)
    return folder


@pytest.fixture(scope="module")
def people(default_head: HeadModel, tmp_path_factory) -> Path:
    """Renders of one head with four expressions, one of them with its fit and depth."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "fit").mkdir()
    light = torch.zeros(9, 3)
    light[0], light[2], light[3] = 2.2, 0.2, 0.35
    camera, albedo = Camera.frontal(620.0, SIZE), default_albedo(default_head).mean
    for i, name in enumerate(("neutral", "happy", "surprise", "anger")):
        code = default_head.neutral().with_(
            translation=torch.tensor([0.0, 0.0, -1.0]),
            rotation=torch.tensor([0.0, 0.06 * i, 0.0]),
            expression=expression_of(category(name), default_head.expression_names),
            light=light,
        )
        maps = Conditions.of(default_head, code, camera, albedo)
        image = maps.shaded.clamp(0, 1) * maps.mask + 0.6 * (1 - maps.mask)
        write_png(folder / f"{name}.png", image)
        if i == 0:
            write_png(folder / "fit" / "neutral.png", image)
            write_depth(folder / "fit" / "depth.png", torch.where(maps.depth > 0, maps.depth + 0.2, 2.0))
            HeadFit("default", code.map(lambda x: x[None]), (camera,), albedo, ("neutral.png",)).save(
                folder / "fit" / "head.npz"
            )
    return folder


def _report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_transfer_by_diffusion(bundle: Path, people: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    options = {"renderer": "diffusion", "model": str(bundle), "steps": 2}
    Transfer(("happy", "va:0.2,0.8"), people / "fit", out, **options, depth=people / "fit" / "depth.png").run()
    names = {"edited.png", "edited_2.png", "edited_depth.png", "edited_depth_2.png", "edited.ply", "edited_2.ply"}
    assert {path.name for path in out.iterdir()} == names | {"strip.png", "head.npz", "report.json"}
    report = _report(out)
    assert (report["renderer"], report["renderer_why"]) == ("diffusion", "asked for")
    assert "renderer diffusion: asked for" in capsys.readouterr().out
    before, after = (np.asarray(Image.open(path)).astype(int) for path in (people / "neutral.png", out / "edited.png"))
    assert after.shape == before.shape and (after[:20] == before[:20]).all() and (after != before).any()
    depth = read_depth(out / "edited_depth.png")
    measured = read_depth(people / "fit" / "depth.png")
    assert depth.shape == measured.shape and (depth == measured).float().mean() > 0.4
    mesh = trimesh.load(out / "edited.ply", process=False)
    assert len(mesh.vertices) == int((depth > 0).sum()) and len(mesh.faces) > 1000


def test_auto_says_what_it_took(bundle: Path, people: Path, tmp_path: Path) -> None:
    Transfer(("happy",), people / "fit", tmp_path / "mesh", model=str(bundle)).run()
    report = _report(tmp_path / "mesh")
    assert report["renderer"] == "mesh" and "times the 32 of the general model" in report["renderer_why"]
    Transfer(("happy",), people / "fit", tmp_path / "ply", model=str(bundle), ply=True, steps=1).run()
    assert _report(tmp_path / "ply")["renderer_why"] == "--depth or --ply needs it"


def test_transfer_refuses(bundle: Path, people: Path, tmp_path: Path) -> None:
    fit, out = people / "fit", tmp_path / "out"
    with pytest.raises(HeadlabError, match="--steps is from 1"):
        Transfer(("happy",), fit, out, steps=0).run()
    with pytest.raises(HeadlabError, match="--guidance is from 0"):
        Transfer(("happy",), fit, out, guidance=-1.0).run()
    with pytest.raises(HeadlabError, match="leave out --renderer mesh"):
        Transfer(("happy",), fit, out, renderer="mesh", ply=True).run()
    with pytest.raises(HeadlabError, match="trained without text"):
        Transfer(("happy",), fit, out, renderer="diffusion", model=str(bundle), text="a smile").run()
    with pytest.raises(HeadlabError, match="no depth map"):
        Transfer(("happy",), fit, out, depth=people / "none.png").run()
    with pytest.raises(HeadlabError, match="no folder of a latent diffusion model"):
        Transfer(("happy",), fit, out, model=str(people)).run()
    with pytest.raises(HeadlabError, match="neither a head model"):
        Transfer(("happy",), fit, out, model="nowhere").run()
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    with pytest.raises(HeadlabError, match="Stable Diffusion"):
        Transfer(("happy",), fit, out, renderer="diffusion", model=str(tmp_path / "sd")).run()
    colour = tmp_path / "colour"
    tiny_diffusion(3).save(colour)
    with pytest.raises(HeadlabError, match="knows colour alone"):
        Transfer(("happy",), fit, out, renderer="diffusion", model=str(colour), ply=True, steps=1).run()
    assert not out.exists()


@pytest.mark.slow
def test_personalize_and_use_it(bundle: Path, people: Path, tmp_path: Path, capsys) -> None:
    (people / "blank.png").write_bytes((people / "neutral.png").read_bytes()[:200])
    own = tmp_path / "own"
    Personalize((people,), own, base=bundle, steps=3, batch=2, variants=1, prior_pictures=3, rank=2).run()
    said = capsys.readouterr().out
    assert "left out blank.png" in said and f"--model {own}" in said
    about = json.loads((own / PERSONAL).read_text())
    assert len(about["photos"]) == 4 and about["examples"] == 4 and about["method"] == "lora"
    assert {"simple", "prior"} <= set(about["losses"]["last_third"])
    assert load_editor(own).personal == about
    Transfer(("happy",), people / "fit", tmp_path / "out", renderer="diffusion", model=str(own), steps=1).run()
    with pytest.raises(HeadlabError, match="already holds files"):
        Personalize((people,), own, base=bundle).run()


def test_personalize_refuses(bundle: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(HeadlabError, match="an album needs at least 2 photos"):
        Personalize((people / "happy.png",), out).run()
    with pytest.raises(HeadlabError, match="no album given"):
        Personalize((), out).run()
    with pytest.raises(HeadlabError, match="--steps is at least 1"):
        Personalize((people,), out, steps=0).run()
    with pytest.raises(HeadlabError, match="--shape is a weight"):
        Personalize((people,), out, shape=-1.0).run()
    with pytest.raises(HeadlabError, match="--rate lies between"):
        Personalize((people,), out, rate=2.0).run()
    with pytest.raises(HeadlabError, match="no folder of a latent diffusion model"):
        Personalize((people,), out, base=people).run()
    assert not out.exists()
