"""`headlab generate` and `headlab booth` on tiny random pipelines."""

import json

import pytest
import torch
import trimesh
from tiny_pipeline import tiny_pipeline

from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.scripts.booth import BoothDraw, BoothLearn
from headlab.scripts.generate import Generate, generate_command


def test_words_to_points_and_meshes(tmp_path):
    folder = tiny_pipeline(tmp_path / "ldm3d", channels=6)
    options = Generate(("a face", "a head"), tmp_path / "out", folder, steps=1, size=(32, 32))
    options.run()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{i}{end}" for i in (0, 1) for end in (".png", "_depth.png", "_mesh.ply", "_cloud.ply")} | {
        "report.json"
    }
    cloud = trimesh.load(tmp_path / "out/0_cloud.ply")
    z = -cloud.vertices[:, 2]
    assert len(z) > 100 and 0.39 < z.min() <= z.max() < 2.01
    with pytest.raises(HeadlabError, match="nothing to draw"):
        generate_command(Generate((), tmp_path / "x", folder))
    with pytest.raises(HeadlabError, match="near and a far"):
        generate_command(Generate(("a",), tmp_path / "x", folder, steps=1, size=(32, 32), near=3.0))


def test_a_person_is_learned_and_drawn(tmp_path, capsys):
    folder = tiny_pipeline(tmp_path / "sd")
    photos = tmp_path / "set/images/ID_1"
    photos.mkdir(parents=True)
    for i in range(2):
        write_png(photos / f"{i}.png", torch.rand(3, 40, 36, generator=torch.Generator().manual_seed(i)))
    BoothLearn(
        photos, tmp_path / "run", folder, "dreambooth", prior_pictures=2, prior_steps=1, size=32, steps=2, cpu=True
    ).run()
    assert "headlab booth draw" in capsys.readouterr().out
    draw = BoothDraw(tmp_path / "out", folder, tmp_path / "run/weights", count=3, steps=1, size=32, gender="male")
    draw.run()
    prompts = json.loads((tmp_path / "out/prompts.json").read_text())
    assert len(prompts) == 3 and prompts["000.png"] == "face portrait photo of male sks person"
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == set(prompts)
    with pytest.raises(HeadlabError, match="no face found"):
        BoothLearn(photos, tmp_path / "run2", folder, "idbooth", size=32, cpu=True).run()


def test_a_diffusion_autoencoder_and_its_latent_dpm(tmp_path, capsys, monkeypatch):
    """Both trainings on a folder of pictures, and people that nobody is."""
    from headlab.diffusion.upstream import diffae
    from headlab.diffusion.upstream.diffae_edit import DiffAEEditor
    from headlab.diffusion.upstream.diffae_files import load_diffae, load_latents
    from headlab.diffusion.upstream.latent_net import LatentNetConfig
    from headlab.scripts.train_diffae import TrainDiffAE

    for i in range(4):
        (tmp_path / "faces/a").mkdir(parents=True, exist_ok=True)
        write_png(tmp_path / f"faces/a/{i}.png", torch.rand(3, 70, 64, generator=torch.Generator().manual_seed(i)))
    data = f"album:{tmp_path / 'faces'}"
    common = {"size": 64, "channels": 32, "steps": 1, "batch": 2, "cpu": True}
    TrainDiffAE(data, tmp_path / "one", **common).run()
    assert "1 steps, 2 samples, 0.50 epochs of 4 pictures" in capsys.readouterr().out
    assert TrainDiffAE(data, tmp_path / "x").config().steps == 1_000_000
    start = tmp_path / "one/weights/last.ckpt"
    small = LatentNetConfig(hidden=64, layers=3)
    monkeypatch.setattr(diffae, "LatentNetConfig", lambda size: small)
    TrainDiffAE(data, tmp_path / "two", "latent", start, **common).run()
    loaded = load_diffae(tmp_path / "two/weights/last.ckpt")
    statistics, codes = load_latents(tmp_path / "two/latent.pkl")
    assert codes is not None and codes.shape == (4, 512) and torch.equal(statistics.mean, loaded.statistics.mean)
    made = DiffAEEditor(loaded.network, loaded.statistics).sample(torch.randn(1, 3, 64, 64), torch.randn(1, 512), 2, 2)
    assert made.shape == (1, 3, 64, 64)
    TrainDiffAE(data, tmp_path / "three", "ddpm", **common).run()
    ddpm = load_diffae(tmp_path / "three/weights/last.ckpt").network
    assert ddpm.sizes.stages is None
    with pytest.raises(HeadlabError, match=r"--start last\.ckpt"):
        TrainDiffAE(data, tmp_path / "four", "latent").network()


def test_stable_diffusion_learns_depth(tmp_path, default_head):
    """A colour pipeline, two synthetic people: what comes out draws colour with depth."""
    from headlab.datasets.synthetic import EditPairs, PairConfig
    from headlab.datasets.synthetic.pairs_shards import write_pairs
    from headlab.scripts.train_ldm3d import TrainLdm3d

    folder = tiny_pipeline(tmp_path / "sd")
    people = EditPairs(default_head, PairConfig(size=64, seed=3))
    list(write_pairs(people, tmp_path / "pairs", range(1), shard=2, batch=2))
    TrainLdm3d(tmp_path / "pairs", tmp_path / "run", folder, autoencoder_steps=2, unet_steps=2, batch=2, cpu=True).run()
    options = Generate(
        ("a face",), tmp_path / "out", tmp_path / "run/unet/weights", steps=1, size=(32, 32), depth="linear"
    )
    assert "0_mesh.ply" in generate_command(options)
