"""DiffusionRig: the published network's numbers in every configuration, and files that are not whole."""

import json
import pickle
import zipfile

import pytest
import torch
from deterministic_weights import state_for
from upstream_nets import Golden, Malicious, check_trace, filled_rig, full_size, normal, sha256_of, small_rig_config

from headlab.diffusion.upstream.blocks import timestep_embedding
from headlab.diffusion.upstream.diffusionrig import (
    DiffusionRig,
    DiffusionRigConfig,
    diffusionrig_config_of,
    diffusionrig_of,
    load_diffusionrig,
    save_diffusionrig,
)
from headlab.diffusion.upstream.loading import shapes_of
from headlab.diffusion.upstream.unet import fuse_attention
from headlab.geometry.errors import HeadlabError
from headlab.geometry.safe_pickle import UnsafePickleError

CONFIGURATIONS = {
    "r18": {},
    "r50": {"encoder": "resnet50"},
    "r18_learn_sigma": {"outputs": 6},
    "r18_heads4_legacy": {"heads": 4},
    "r18_heads4_new_order": {"heads": 4, "new_order": True},
    "r18_headch32": {"head_channels": 32},
    "r18_conv_updown": {"residual_resize": False},
    "r18_attn32_16_8": {"attention": (32, 16, 8)},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_every_published_configuration(shared, name):
    golden = Golden(shared, "diffusionrig_unet")
    assert {key for key in golden.about if key[0] != "_"} == set(CONFIGURATIONS)
    network = filled_rig(small_rig_config(**CONFIGURATIONS[name]))
    state = network.state_dict()
    about = golden.about[name]
    assert sha256_of(state) == about["weights_sha256"]
    assert sum(p.numel() for p in network.parameters()) == about["n_params"]
    if "keys" in about:
        assert {k: list(v.shape) for k, v in state.items()} == about["keys"] and list(state) == list(about["keys"])
    code = network.encode(golden["x_start"])
    torch.testing.assert_close(code, golden[f"{name}.z"], atol=1e-4, rtol=1e-5)
    said = network(golden["x_t"], golden["t"], golden["physic_cond"], code=code)
    torch.testing.assert_close(said, golden[f"{name}.out"], atol=1e-4, rtol=0)
    if name == "r18_heads4_legacy":
        fuse_attention(network, False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        plain = network(golden["x_t"], golden["t"], golden["physic_cond"], golden["x_start"])
        torch.testing.assert_close(plain, golden[f"{name}.out"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_encoder_in_training_mode_and_time(shared):
    golden = Golden(shared, "diffusionrig_unet")
    for size in (32, 33):
        want = golden[f"timestep_embedding_{size}"]
        torch.testing.assert_close(timestep_embedding(golden["t"], size), want, atol=2e-5, rtol=0)
    network = filled_rig(small_rig_config()).train()
    torch.testing.assert_close(network.encode(golden["x_start"]), golden["r18.z_bn_train_mode"], atol=1e-4, rtol=1e-5)
    for leaf in ("running_mean", "running_var"):
        made = getattr(network.encoder.bn1, leaf)
        torch.testing.assert_close(made, golden[f"r18.bn1_{leaf}_after"], atol=1e-5, rtol=1e-5)


def test_the_trace_in_order_of_execution(shared):
    """Every block's output, so that a wrong one is named."""
    golden = Golden(shared, "diffusionrig_unet")
    network = filled_rig(small_rig_config())
    check_trace(
        network, golden, "r18", lambda: network(golden["x_t"], golden["t"], golden["physic_cond"], golden["x_start"])
    )


@full_size
@torch.no_grad()
def test_the_released_size(shared):
    golden = Golden(shared, "fullsize_diffusionrig")
    network = filled_rig(DiffusionRigConfig())
    assert sha256_of(network.state_dict()) == golden.about["resnet18"]["weights_sha256"]
    photo = golden["diffusionrig/x_start_int16_div32767"].float() / 32767
    buffers = golden["diffusionrig/physic_cond_int16_div8192"].float() / 8192
    noisy = normal("full.x_t", (1, 3, 256, 256))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    code = network.encode(photo)
    torch.testing.assert_close(code, golden["diffusionrig/z"], atol=1e-4, rtol=1e-5)
    said = network(noisy, golden["diffusionrig/t"], buffers, code=code)
    torch.testing.assert_close(said, golden["diffusionrig/out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_the_released_names_and_sizes(shared, encoder):
    """Without memory for the weights: names, shapes, counts, and the sizes read off them."""
    keys = json.loads((shared / f"parity/diffusion/keys/diffusionrig_ffhq256_{encoder}.json").read_text())
    config = DiffusionRigConfig(encoder=encoder)
    with torch.device("meta"):
        network = DiffusionRig(config)
        state = network.state_dict()
    assert {k: list(v) for k, v in shapes_of(state).items()} == keys["state_dict"]
    assert list(state) == list(keys["state_dict"])
    assert sum(p.numel() for p in network.parameters()) == keys["n_params"]
    assert diffusionrig_config_of(state) == config


def tiny_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = shapes_of(DiffusionRig(tiny_config()).state_dict())
    return state_for(shapes)


def tiny_config() -> DiffusionRigConfig:
    return small_rig_config(size=32, multipliers=(1, 1), attention=(16,), blocks=1)


def test_a_checkpoint_comes_back(tmp_path):
    network = diffusionrig_of(tiny_state(), "memory")
    assert network.config == tiny_config() and not network.training
    save_diffusionrig(network, tmp_path / "model000010.pt")
    again = load_diffusionrig(tmp_path / "model000010.pt")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in network.state_dict().items())
    with torch.no_grad(), pytest.raises(HeadlabError, match="sides that 2 divides"):
        again(torch.zeros(1, 3, 31, 32), torch.zeros(1), torch.zeros(1, 9, 31, 32), code=torch.zeros(1, 64))


def test_bad_files_are_told(tmp_path):
    state = tiny_state()
    path = tmp_path / "model.pt"
    torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadlabError, match="damaged"):
        load_diffusionrig(path)
    with pytest.raises(HeadlabError, match="is not there"):
        load_diffusionrig(tmp_path / "none.pt")
    torch.save({"state": 1, "param_groups": []}, path)
    with pytest.raises(HeadlabError, match="no bare state dict"):
        load_diffusionrig(path)
    torch.save({"encoder.weight": torch.zeros(1)}, path)
    with pytest.raises(HeadlabError, match=r"no denoisingUNet\.\*"):
        load_diffusionrig(path)
    # A zip as torch writes it, whose pickle runs something.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"denoisingUNet.x": Malicious()}, protocol=2))
        archive.writestr("model/version", "3\n")
    with pytest.raises(UnsafePickleError, match=r"eval"):
        load_diffusionrig(path)


def test_half_of_the_keys_missing_lists_all_of_them():
    state = tiny_state()
    names = list(state)
    half = {name: state[name] for name in names[::2]}
    for config in (tiny_config(), None):
        with pytest.raises(HeadlabError) as caught:
            diffusionrig_of(half, "half.pt", config)
        text = str(caught.value)
        if config is not None:
            assert all(name in text for name in names[1::2])
            assert f"lacks {len(names[1::2])} of the {len(names)}" in text
        assert "lacks" in text and "\n" not in text
    with pytest.raises(HeadlabError, match="no place for"):
        diffusionrig_of(state | {"denoisingUNet.more": torch.zeros(1)}, "more.pt", tiny_config())
    wrong = state | {"encoder.fc.bias": torch.zeros(65)}
    with pytest.raises(HeadlabError, match=r"encoder.fc.bias \(65,\) in place of \(64,\)"):
        diffusionrig_of(wrong, "wrong.pt", tiny_config())
