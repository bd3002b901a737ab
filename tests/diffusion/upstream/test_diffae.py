"""Diffusion Autoencoders: the published numbers of autoencoder, DDPM and latent DPM; checkpoints; editing."""

import json

import numpy as np
import pytest
import torch
from upstream_nets import (
    FULL,
    Golden,
    Malicious,
    check_trace,
    filled_diffae,
    full_size,
    normal,
    sha256_of,
    small_diffae_config,
    template_a,
)

from headlab.diffusion.upstream.diffae import FFHQ128, FFHQ128_DDPM, FFHQ256, DiffAE, DiffAEConfig
from headlab.diffusion.upstream.diffae_edit import DiffAEEditor, angle_between, interpolated, slerp
from headlab.diffusion.upstream.diffae_files import (
    LatentStatistics,
    load_diffae,
    load_latents,
    save_diffae,
    save_latents,
)
from headlab.diffusion.upstream.latent_net import LatentNetConfig
from headlab.diffusion.upstream.loading import shapes_of
from headlab.geometry.errors import HeadlabError
from headlab.geometry.safe_pickle import UnsafePickleError

_ROWS = slice(0, 2 if FULL else 1)


def golden_network(name: str, about) -> DiffAE:
    if name == "a":
        return template_a()
    changes = about["overrides"]["net_attn"][0]
    return filled_diffae(small_diffae_config(about["net_ch_mult"], about["net_enc_channel_mult"], changes))


@pytest.mark.parametrize("name", ["a", "b", "c"])
@torch.no_grad()
def test_every_template(shared, name):
    golden = Golden(shared, "diffae_autoenc")
    about = golden.about[name]
    network = golden_network(name, about)
    state = network.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == about["keys"] and list(state) == list(about["keys"])
    assert sha256_of(state) == about["weights_sha256"]
    assert sum(p.numel() for p in network.parameters()) == about["n_params"]
    photo, noisy, t = golden["x_start"], golden["x_t"], golden["t"]
    features = network.encoder.features(photo)
    torch.testing.assert_close(features, golden[f"{name}/z_2d"], atol=1e-4, rtol=1e-5)
    code = network.encoder.out(features)
    torch.testing.assert_close(code, golden[f"{name}/z_sem"], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(network(noisy, t, None, photo), golden[f"{name}/forward"], atol=1e-4, rtol=0)
    torch.testing.assert_close(network(noisy, t, code), golden[f"{name}/forward"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_given_code_style_space_and_trace(shared):
    golden = Golden(shared, "diffae_autoenc")
    network = template_a()
    code = golden["a/z_sem"]
    style = network.style_space(code)
    torch.testing.assert_close(style, golden["a/stylespace"], atol=1e-5, rtol=1e-5)
    sizes = [block.cond_emb_layers[1].out_features for block in network.residuals()]
    assert sizes == golden.about["a_stylespace_sizes"]
    check_trace(network, golden, "a", lambda: network(golden["x_t"], golden["t"], None, golden["x_start"]), "/")


@pytest.mark.parametrize("name", ["a", "b", "c"])
@torch.no_grad()
def test_five_steps_there_and_back(shared, name):
    golden = Golden(shared, "diffae_autoenc")
    editor = DiffAEEditor(golden_network(name, golden.about[name]))
    code, photo, seen = golden[f"{name}/z_sem"][_ROWS], golden["x_start"][_ROWS], []
    noise = editor.invert(photo, code, 5, callback=lambda done, x: seen.append(x[0]))
    torch.testing.assert_close(noise, golden[f"{name}/encode_stochastic_T5"][_ROWS], atol=1e-3, rtol=1e-4)
    made = editor.decode(noise, code, 5)
    torch.testing.assert_close(made, golden[f"{name}/render_T5"][_ROWS], atol=1e-3, rtol=1e-4)
    made = editor.decode(golden["x_T"][_ROWS], code, 5)
    torch.testing.assert_close(made, golden[f"{name}/render_from_x_T_T5"][_ROWS], atol=1e-3, rtol=1e-4)
    if name == "a":
        # Each step's pictures of the first photo, wherever the golden file keeps the batch axis.
        want = golden["a/reverse_sample_t"]
        torch.testing.assert_close(torch.stack(seen), want, atol=1e-3, rtol=1e-4)
        noise = editor.invert(photo, code, 5, clip=False)
        torch.testing.assert_close(noise, golden["a/encode_stochastic_T5_noclip"][_ROWS], atol=1e-3, rtol=1e-4)
        for start, name in ((noise, "from_noclip"), (golden["x_T"][_ROWS], "from_x_T")):
            made = editor.decode(start, code, 5, clip=False)
            made = made if float(golden[f"a/decode_T5_noclip_{name}"].min()) >= 0 else made * 2 - 1
            torch.testing.assert_close(made, golden[f"a/decode_T5_noclip_{name}"][_ROWS], atol=2e-3, rtol=1e-4)


def test_interpolation(shared):
    golden = Golden(shared, "diffae_autoenc")
    code, noise = golden["a/z_sem"], golden["a/encode_stochastic_T5"]
    codes, noises = interpolated((code[0], code[1]), (noise[0], noise[1]), golden["a/interp_alpha"])
    torch.testing.assert_close(codes, golden["a/interp_z"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(angle_between(noise[0], noise[1]), golden["a/interp_theta"], atol=1e-5, rtol=0)
    torch.testing.assert_close(noises[1], golden["a/interp_xT_alpha0.25"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(slerp(noise[0], noise[0], 0.3), noise[0])


@torch.no_grad()
def test_unconditional_ddpm(shared):
    golden = Golden(shared, "diffae_ddpm")
    config = small_diffae_config((1, 1, 2, 3, 4), None, 8, code=None, nested_time=False)
    network = filled_diffae(config)
    assert sha256_of(network.state_dict()) == golden.about["weights_sha256"]
    torch.testing.assert_close(network(golden["x_t"], golden["t"]), golden["forward"], atol=1e-4, rtol=0)
    editor = DiffAEEditor(network)
    made = editor.decode(golden["x_T"][_ROWS], None, 5) * 2 - 1
    want = golden["sample_T5_from_x_T"][_ROWS]
    want = want * 2 - 1 if float(want.min()) >= 0 else want
    torch.testing.assert_close(made, want, atol=1e-3, rtol=1e-4)
    with pytest.raises(HeadlabError, match="has no encoder"):
        editor.encode(golden["x_t"])
    with pytest.raises(HeadlabError, match="without any"):
        editor.decode(golden["x_T"], torch.zeros(2, 64), 5)


@full_size
@pytest.mark.parametrize("name", ["ffhq128_autoenc_130M", "ffhq256_autoenc"])
@torch.no_grad()
def test_the_released_sizes(shared, name):
    golden = Golden(shared, "fullsize_diffae")
    network = filled_diffae(FFHQ256 if "256" in name else FFHQ128)
    assert sha256_of(network.state_dict()) == golden.about[name]["weights_sha256"]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    photo = golden[f"{name}/x_start_int16_div32767"].float() / 32767
    code = network.encode(photo)
    torch.testing.assert_close(code, golden[f"{name}/z_sem"], atol=1e-4, rtol=1e-5)
    said = network(normal("full.x_t", tuple(photo.shape)), golden[f"{name}/t"], code)
    torch.testing.assert_close(said, golden[f"{name}/out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ffhq128_autoenc_130M", FFHQ128),
        ("ffhq256_autoenc", FFHQ256),
        ("ffhq128_ddpm_130M", FFHQ128_DDPM),
        ("ffhq128_autoenc_latent", FFHQ128),
        ("ffhq256_autoenc_latent", FFHQ256),
    ],
)
def test_the_released_names_and_sizes(shared, name, config):
    from headlab.diffusion.upstream.diffae_files import _config_of

    folder = shared / "parity/diffusion/keys"
    keys = json.loads((folder / f"diffae_{name}.json").read_text())
    wanted = keys.get("state_dict")
    if wanted is None:
        wanted = json.loads((folder.parent / keys["autoenc_keys_in"]).read_text())["state_dict"]
        wanted = wanted | keys["state_dict_latent_net"]
        config = DiffAEConfig(config.unet, config.stages, LatentNetConfig())
    with torch.device("meta"):
        network = DiffAE(config)
        shapes = shapes_of(network.state_dict())
    assert {k: list(v) for k, v in shapes.items()} == wanted
    assert _config_of(shapes) == config
    if "n_params" in keys:
        assert sum(p.numel() for p in network.parameters()) == keys["n_params"]


@torch.no_grad()
def test_latent_dpm(shared):
    """The latent MLP at its released size."""
    from headlab.diffusion.upstream.diffae_edit import LATENT_SCHEDULE
    from headlab.diffusion.upstream.diffae_training import latent_loss
    from headlab.diffusion.upstream.process import Process

    golden = Golden(shared, "diffae_latent_classifier")
    network = latent_network()
    assert sum(p.numel() for p in network.parameters()) == golden.about["latent_net_params"]
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == golden.about["latent_net_keys"]
    x, t = golden["latent/x"], golden["latent/t"]
    torch.testing.assert_close(network(x, t), golden["latent/forward"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(LATENT_SCHEDULE.betas, golden.arrays["latent/betas_const0.008"], rtol=1e-9)
    np.testing.assert_allclose(LATENT_SCHEDULE.alphas_cumprod, golden.arrays["latent/alphas_cumprod"], rtol=1e-9)
    start, noise = golden["latent/x_start_normalised"], golden["latent/noise"]
    torch.testing.assert_close(
        latent_loss(network, start, noise, t), golden["latent/training_loss_l1"], atol=1e-5, rtol=1e-4
    )
    noisy = LATENT_SCHEDULE.add_noise(start, noise, t)
    squared = (network(noisy, t) - noise).square().mean(1)
    torch.testing.assert_close(squared, golden["latent/training_loss_mse"], atol=1e-5, rtol=1e-4)
    clean = Process.of(LATENT_SCHEDULE).x0_from(network(noisy, t), noisy, t)
    torch.testing.assert_close(clean, golden["latent/training_pred_xstart_l1"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(clean, golden["latent/training_pred_xstart_mse"], atol=1e-3, rtol=1e-4)
    for count in (5, 20):
        process = Process.of(LATENT_SCHEDULE, f"ddim{count}")
        assert list(process.times) == golden[f"latent/timestep_map_ddim{count}"].tolist()
        for clip in (False, True):
            made = process.ddim(network, x, clip=clip)
            want = golden[f"latent/sample_ddim{count}_{'clip' if clip else 'noclip'}"]
            torch.testing.assert_close(made, want, atol=1e-3, rtol=1e-4)


def latent_network():
    from deterministic_weights import state_for

    from headlab.diffusion.upstream.latent_net import LatentNet
    from headlab.diffusion.upstream.loading import assemble

    with torch.device("meta"):
        shapes = shapes_of(LatentNet().state_dict())
    state = state_for({k: v for k, v in shapes.items() if ".linear_emb." not in k}, "latent_net.")
    state |= {k: state[k.replace(".linear_emb.", ".cond_layers.1.")] for k in shapes if ".linear_emb." in k}
    network = assemble(LatentNet, state, "stand-in weights", "the latent network")
    for layer in network.layers:
        if layer.cond_layers is not None:
            layer.linear_emb = layer.cond_layers[1]
    return network


@pytest.mark.slow
@torch.no_grad()
def test_unconditional_sampling_through_the_latent_dpm(shared):
    golden = Golden(shared, "diffae_latent_classifier")
    unet = small_diffae_config((1, 1, 2, 3, 4), (1, 1, 2, 3, 4, 4), 8, time=512, code=512)
    network = filled_diffae(DiffAEConfig(unet.unet, unet.stages, LatentNetConfig()))
    statistics = LatentStatistics.of(golden["conds"])
    torch.testing.assert_close(statistics.mean, golden["conds_mean"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(statistics.std, golden["conds_std"], atol=1e-6, rtol=1e-5)
    editor = DiffAEEditor(network, statistics)
    made = editor.sample(golden["pipeline/x_T"], golden["pipeline/latent_noise"], 5, 20)
    torch.testing.assert_close(made, golden["pipeline/sample_N2_T5_Tlatent20"], atol=1e-3, rtol=1e-4)
    with pytest.raises(HeadlabError, match="needs a latent DPM"):
        DiffAEEditor(network).sample_codes(torch.zeros(1, 512))


class FakeCheckpoint:
    """Stands for Lightning's ModelCheckpoint, whose class is a key of `callbacks`."""


def tiny_config(latent: bool = False) -> DiffAEConfig:
    sizes = small_diffae_config((1, 1), (1, 1, 1), 16, size=32, blocks=1)
    return DiffAEConfig(sizes.unet, sizes.stages, LatentNetConfig(64, 32, 3, 8) if latent else None)


def test_lightning_checkpoints_load_without_lightning(tmp_path, monkeypatch):
    """With everything that Lightning puts beside the weights, a class among the keys included."""
    import sys
    import types

    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    FakeCheckpoint.__module__, FakeCheckpoint.__qualname__ = name, "ModelCheckpoint"
    sys.modules[name].ModelCheckpoint = FakeCheckpoint  # type: ignore[attr-defined]
    network = filled_diffae(tiny_config(latent=True))
    own = network.state_dict()
    state = {"x_T": torch.zeros(2, 3, 32, 32), "conds_mean": torch.ones(1, 64), "conds_std": torch.full((1, 64), 2.0)}
    state |= {f"model.{k}": v + 1 for k, v in own.items()} | {f"ema_model.{k}": v for k, v in own.items()}
    content = {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "1.4.5",
        "state_dict": state,
        "callbacks": {FakeCheckpoint: {"best_model_score": None, "dirpath": "x"}},
        "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [],
        "native_amp_scaling_state": {"scale": 65536.0},
        "hyper_parameters": {"img_size": 32, "name": "tiny"},
    }
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.delitem(sys.modules, part)
    loaded = load_diffae(path)
    assert loaded.network.sizes == tiny_config(latent=True)
    assert all(torch.equal(v, loaded.network.state_dict()[k]) for k, v in own.items())
    assert loaded.statistics is not None and float(loaded.statistics.std[0]) == 2
    trained = load_diffae(path, averaged=False).network.state_dict()
    assert all(torch.equal(v + 1, trained[k]) for k, v in own.items())
    layer = loaded.network.latent_net.layers[0]
    assert layer.linear_emb is layer.cond_layers[1]

    content["state_dict"] = {k: v for i, (k, v) in enumerate(state.items()) if not k.startswith("ema") or i % 2}
    torch.save({"state_dict": content["state_dict"]}, path)
    with pytest.raises(HeadlabError) as caught:
        load_diffae(path, config=tiny_config(latent=True))
    gone = {k.removeprefix("ema_model.") for k in state if k.startswith("ema_")} - {
        k.removeprefix("ema_model.") for k in content["state_dict"]
    }
    assert len(gone) > 40 and all(name in str(caught.value) for name in gone)
    content["callbacks"] = {Malicious(): 1}
    torch.save(content, path)
    with pytest.raises(UnsafePickleError, match="eval"):
        load_diffae(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(HeadlabError, match="damaged"):
        load_diffae(path)
    torch.save({"state_dict": {"classifier.weight": torch.zeros(40, 512)}}, path)
    with pytest.raises(HeadlabError, match="no DiffAE network but a classifier"):
        load_diffae(path)
    torch.save({"state_dict": {"denoisingUNet.x": torch.zeros(1)}}, path)
    with pytest.raises(HeadlabError, match="DiffusionRig"):
        load_diffae(path)


def test_our_own_files_come_back(tmp_path):
    network = filled_diffae(tiny_config())
    save_diffae(network, tmp_path / "last.ckpt", LatentStatistics(torch.zeros(64), torch.ones(64)))
    again = load_diffae(tmp_path / "last.ckpt")
    assert all(torch.equal(v, again.network.state_dict()[k]) for k, v in network.state_dict().items())
    codes = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    statistics = save_latents(tmp_path / "latent.pkl", codes)
    read, all_codes = load_latents(tmp_path / "latent.pkl")
    assert torch.equal(read.std, statistics.std) and all_codes is not None and torch.equal(all_codes, codes)
    torch.testing.assert_close(read.restored(read.normalized(codes)), codes)
    torch.save({"other": 1}, tmp_path / "latent.pkl")
    with pytest.raises(HeadlabError, match="no latent statistics"):
        load_latents(tmp_path / "latent.pkl")
    with pytest.raises(HeadlabError, match="at least 2"):
        LatentStatistics.of(codes[:1])
