"""DreamBooth, PortraitBooth and ID-Booth on tiny random pipelines: layout, prompts, losses, LoRA files, pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_pipeline import tiny_pipeline
from upstream_nets import Malicious

from headlab.diffusion.losses import l_tid
from headlab.diffusion.training import train
from headlab.diffusion.training_config import TrainingConfig
from headlab.diffusion.upstream.booth_data import IdentityPhotos, embeddings_folder, face_crops, read_identity
from headlab.diffusion.upstream.booth_generation import generate, load_booth_pipeline, prior_pictures
from headlab.diffusion.upstream.booth_prompts import BACKGROUNDS, NEGATIVE, PromptConfig, base_prompt, complex_prompts
from headlab.diffusion.upstream.booth_training import BoothConfig, BoothTask, adapted
from headlab.diffusion.upstream.iresnet import IResNet, load_arcface
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.regress.default_crop import UprightSquare
from headlab.geometry.safe_pickle import UnsafePickleError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "1.5": tiny_pipeline(root / "15"),
        "2.1": tiny_pipeline(root / "21", prediction="v_prediction"),
        "xl": tiny_pipeline(root / "xl", large=True),
    }


class Colours:
    """An embedder: mean colours of the picture's quarters. Differentiable."""

    def vectors(self, pictures):
        cells = torch.nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1)
        return torch.nn.functional.normalize(cells - 0.4, dim=-1)


def people(count=4, seed=0, embeddings=None):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    square = UprightSquare(torch.tensor([16.0, 16.0]), torch.tensor(20.0), torch.tensor(0.1))
    return IdentityPhotos(torch.nn.functional.interpolate(coarse, 32) * 2 - 1, (square,) * count, embeddings)


def quick(method, **changes) -> BoothConfig:
    training = TrainingConfig(steps=3, batch=2, rate=1e-2, warmup=0, average=0.0, cpu=True, save_every=10**9)
    return replace(BoothConfig(method=method, training=training), **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "method"),
    [("1.5", "dreambooth"), ("2.1", "portraitbooth"), ("1.5", "idbooth"), ("2.1", "idbooth"), ("xl", "idbooth")],
)
def test_a_person_is_learned_saved_and_drawn(folders, tmp_path, version, method):
    pipeline = load_booth_pipeline(folders[version])
    before = {k: v.clone() for k, v in pipeline.unet.state_dict().items()}
    config = quick(method)
    task = BoothTask(pipeline, people(), people(5, 1), config, None if method == "dreambooth" else Colours())
    adapters = task.networks["adapters"]
    count = sum(p.numel() for p in adapters.parameters())
    assert 0 < count < 0.2 * sum(v.numel() for v in before.values())
    rows = []
    train(task, config.training, tmp_path / "run", callback=rows.append)
    wanted = {"dreambooth": set(), "portraitbooth": {"identity"}, "idbooth": {"triplet"}}[method]
    assert set(rows[0]) == {"step", "simple", "prior"} | wanted
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    after = pipeline.unet.state_dict()
    for name, value in before.items():  # the UNet's own weights stay
        key = (
            name
            if name in after
            else name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")
        )
        assert torch.equal(after[key], value)
    weights = tmp_path / "run/weights"
    assert (weights / "pytorch_lora_weights.safetensors").is_file()
    plain, tuned = load_booth_pipeline(folders[version]), load_booth_pipeline(folders[version], weights)
    prompts = [base_prompt(), base_prompt(gender="female")]
    first, second = (generate(p, prompts, steps=2, size=32, seed=1) for p in (plain, tuned))
    assert first.shape == (2, 3, 32, 32) and float((first - second).abs().mean()) > 1e-4
    # A pipeline that was trained in place draws what the one that was loaded draws.
    torch.testing.assert_close(generate(pipeline, prompts, steps=2, size=32, seed=1), second, atol=2e-3, rtol=0)


def test_the_triplet_loss_is_the_authors(folders):
    """torch's triplet margin loss with the distance 1 - cos, weighted by (1 - t / T)^2; adapters get gradients."""
    pipeline = load_booth_pipeline(folders["1.5"])
    config = quick("idbooth")
    own = torch.nn.functional.normalize(torch.randn(1, 12, generator=torch.Generator().manual_seed(3)), dim=-1)
    task = BoothTask(pipeline, people(4, embeddings=own.expand(4, -1)), people(5, 1), config, Colours())
    assert task.own_vectors is not None and torch.allclose(task.own_vectors[2], own[0])
    batch = task.load(torch.tensor([1, 6]), torch.device("cpu"))
    assert batch.rows.tolist() == [1, 2] and batch.others.tolist() == [1, 1]
    terms = task.losses("adapters", task.networks, batch, 0, torch.Generator().manual_seed(0))
    sum(terms.values()).backward()
    gradients = [p.grad for p in task.networks["adapters"].parameters()]
    assert any(g is not None and float(g.abs().max()) > 0 for g in gradients)
    a, p, n = torch.nn.functional.normalize(torch.randn(3, 7, 12), dim=-1)
    theirs = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda x, y: 1 - torch.nn.functional.cosine_similarity(x, y), reduction="none"
    )
    torch.testing.assert_close(l_tid(a, p, n, config.margin), theirs(a, p, n))


def test_losses_that_lack_something(folders):
    pipeline = load_booth_pipeline(folders["1.5"])
    with pytest.raises(HeadlabError, match="needs an identity embedder"):
        BoothTask(pipeline, people(), people(), quick("idbooth"))
    wrong = torch.randn(4, 512)
    with pytest.raises(HeadlabError, match="have 512 numbers, this embedder's 12"):
        BoothTask(pipeline, people(embeddings=wrong), people(), quick("portraitbooth"), Colours())
    adapted(pipeline.unet, 2)
    with pytest.raises(HeadlabError, match="adapters already"):
        adapted(pipeline.unet, 2)
    with pytest.raises(HeadlabError, match="at least 1"):
        adapted(pipeline.unet, 0)


def test_the_authors_folders(tmp_path):
    folder = tmp_path / "set/images/ID_1"
    folder.mkdir(parents=True)
    for i in range(3):
        write_png(folder / f"{i}.png", torch.full((3, 40, 60), 0.2 * (i + 1)))
    photos = read_identity(folder, 32)
    assert photos.pictures.shape == (3, 3, 32, 32) and photos.embeddings is None
    torch.testing.assert_close(photos.pictures[:, 0, 0, 0], torch.tensor([-0.6, -0.2, 0.2]), atol=5e-3, rtol=0)
    place = embeddings_folder(folder)
    assert place == tmp_path / "set/ArcFace_embeds/ID_1" and embeddings_folder(tmp_path / "other") is None
    place.mkdir(parents=True)
    torch.save(torch.arange(4.0)[None], place / "ID_1.pt")
    assert read_identity(folder, 32).embeddings.tolist() == [[0, 1, 2, 3]] * 3
    (place / "ID_1.pt").unlink()
    for i in range(3):
        np.save(place / f"{i}.npy", np.full(4, i, np.float32))
    assert read_identity(folder, 32, limit=2).embeddings[:, 0].tolist() == [0, 1]
    (place / "2.npy").unlink()
    with pytest.raises(HeadlabError, match="2 embeddings for 3 photos"):
        read_identity(folder, 32)
    torch.save(Malicious(), place / "0.pt")
    with pytest.raises(UnsafePickleError, match="eval"):
        read_identity(folder, 32)
    with pytest.raises(HeadlabError, match="holds no photos"):
        read_identity(tmp_path / "set", 32)
    with pytest.raises(HeadlabError, match="is no folder"):
        read_identity(tmp_path / "none", 32)


def test_faces_are_cut_where_they_are():
    pictures = torch.rand(2, 3, 32, 32)
    square = UprightSquare(torch.tensor([16.0, 16.0]), torch.tensor(16.0), torch.tensor(0.0))
    crops = face_crops(pictures, [square] * 2, 16)
    torch.testing.assert_close(crops, pictures[..., 8:24, 8:24])
    assert face_crops(pictures, None, 8).shape == (2, 3, 8, 8)


def test_prompts():
    assert base_prompt() == "face portrait photo of sks person"
    assert base_prompt("xyz", "male") == "face portrait photo of male xyz person"
    made = complex_prompts(21, PromptConfig(gender="female", seed=2))
    assert len(made) == 21 and made[0] == "face portrait photo of female sks person"
    for place in BACKGROUNDS:
        assert sum(text.endswith(f", {place} background") for text in made) in (1, 2)
    assert 3 < sum("side-portrait" in text for text in made) < 18 and "cartoon" in NEGATIVE
    aged = complex_prompts(44, PromptConfig(ages=True, poses=False))
    assert sum("young sks person" in text for text in aged) == 11 and not any("side" in text for text in aged)
    assert complex_prompts(5, PromptConfig(seed=1)) == complex_prompts(5, PromptConfig(seed=1))


def test_prior_pictures_are_the_base_models(folders):
    pipeline = load_booth_pipeline(folders["1.5"])
    made = prior_pictures(pipeline, 2, steps=2, size=32)
    assert made.shape == (2, 3, 32, 32) and -1 <= float(made.min()) <= float(made.max()) <= 1
    with pytest.raises(HeadlabError, match="holds no pytorch_lora_weights"):
        load_booth_pipeline(folders["1.5"], folders["xl"])
    with pytest.raises(HeadlabError, match="lacks vae"):
        load_booth_pipeline(folders["1.5"] / "unet")


def test_arcface_backbones(tmp_path):
    """Sizes that insightface's networks are known to have, and a file that comes back."""
    with torch.device("meta"):
        counts = {depth: sum(p.numel() for p in IResNet(depth).parameters()) for depth in (50, 100)}
    assert counts[100] == 65_156_160 and round(counts[50] / 1e6, 2) == 43.59
    network = IResNet(18).eval()
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    embedder = load_arcface(tmp_path / "backbone.pth")
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    vectors = embedder.vectors(picture)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(1))
    vectors[0, 0].backward()
    assert picture.grad is not None and float(picture.grad.abs().max()) > 0
    state = dict(list(network.state_dict().items())[::2]) | {
        k: network.state_dict()[k] for k in ("layer1.0.bn1.weight", "features.weight")
    }
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(HeadlabError, match=r"backbone.pth (lacks|has)"):
        load_arcface(tmp_path / "backbone.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "backbone.pth")
    with pytest.raises(HeadlabError, match="no ArcFace backbone"):
        load_arcface(tmp_path / "backbone.pth")
