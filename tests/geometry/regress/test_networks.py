"""DECA's and EMOCA's networks against their authors' outputs with the same weights."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.regress.codes import OUTPUTS, DecaCode, ExpressionOutputs
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.geometry.regress.resnet import ResNetConfig
from headlab.geometry.regress.weights import load_network

from .conftest import relative

#: Relative to the largest output; the golden data calls this a good match.
TOLERANCE = 2e-6

SMALL = ResNetConfig(blocks=(1, 2), width=4)

VARIANTS = {
    ExpressionOutputs.EXPRESSION: "exp_only",
    ExpressionOutputs.JAW: "exp_and_jaw",
    ExpressionOutputs.GLOBAL: "exp_and_global",
    ExpressionOutputs.GLOBAL_JAW: "exp_global_jaw",
}


@pytest.mark.parametrize(
    "section, name, outputs, key",
    [
        ("E_flame", "deca_coarse_encoder", OUTPUTS, "parameters"),
        ("E_detail", "deca_detail_encoder", 128, "detail"),
    ],
)
def test_encoders(encoder, golden, images, section: str, name: str, outputs: int, key: str) -> None:
    network, expected = encoder(section, outputs), golden(name)
    with torch.inference_mode():
        features = network.encoder(images)
        codes = network(images)
    assert network.outputs == outputs
    assert relative(features, expected["feature2048"]) < TOLERANCE
    assert relative(codes, expected[key]) < TOLERANCE


def test_code_order(golden) -> None:
    expected = golden("deca_coarse_encoder")
    code = DecaCode.split(expected["parameters"])
    for name, key in (
        ("shape", "shape"),
        ("texture", "tex"),
        ("expression", "exp"),
        ("pose", "pose"),
        ("camera", "cam"),
        ("light", "light"),
    ):
        assert torch.equal(getattr(code, name), expected[f"code_{key}"]), name


@pytest.mark.parametrize("kind", list(ExpressionOutputs))
def test_expression_encoder(encoder, golden, images, kind: ExpressionOutputs) -> None:
    expected, name = golden("emoca_expression_encoder"), VARIANTS[kind]
    deca = DecaCode.split(golden("deca_coarse_encoder")["parameters"])
    with torch.inference_mode():
        prediction = encoder("E_expression", kind.outputs)(images)
    assert relative(prediction, expected[f"E_expression_output_{name}"]) < TOLERANCE
    code = kind.merge(deca, prediction)
    for field, key in (
        ("shape", "shape"),
        ("texture", "tex"),
        ("expression", "exp"),
        ("pose", "pose"),
        ("camera", "cam"),
        ("light", "light"),
    ):
        if f"code_{key}_{name}" in expected:
            assert relative(getattr(code, field), expected[f"code_{key}_{name}"]) < TOLERANCE, field
    assert not torch.equal(code.expression, deca.expression)


def test_merge_refuses_another_configuration(golden) -> None:
    deca = DecaCode.split(golden("deca_coarse_encoder")["parameters"])
    with pytest.raises(ValueError, match="53 outputs, got 50"):
        ExpressionOutputs.JAW.merge(deca, torch.zeros(2, 50))


def test_detail_decoder(decoder, golden) -> None:
    expected = golden("deca_detail_decoder")
    code = DecaCode(
        shape=torch.zeros(2, 100),
        texture=torch.zeros(2, 50),
        expression=expected["exp"],
        pose=torch.cat([torch.zeros(2, 3), expected["jaw_pose"]], -1),
        camera=torch.zeros(2, 3),
        light=torch.zeros(2, 9, 3),
        detail=expected["detail"],
    )
    assert torch.equal(code.latent, expected["latent"])
    with torch.inference_mode():
        displacement = decoder(code.latent)
    for ours, key in (
        (displacement[..., ::4, ::4], "displacement_stride4"),
        (displacement[:, 0, 17], "displacement_row17"),
        (displacement[:, 0, :, 200], "displacement_col200"),
    ):
        assert float((ours - expected[key]).abs().max()) < 2e-8, key
    whole = expected["displacement_float16_x100"].float() / 100
    assert float((displacement - whole).abs().max()) < 5e-6
    assert torch.allclose(displacement.double().mean((1, 2, 3)), expected["displacement_mean"], atol=1e-9)
    assert torch.allclose(displacement.double().flatten(1).std(1), expected["displacement_std"], atol=1e-7)


def test_codes_need_detail_to_be_decoded(golden) -> None:
    with pytest.raises(ValueError, match="no detail part"):
        _ = DecaCode.split(golden("deca_coarse_encoder")["parameters"]).latent


def test_gradients_reach_the_pixels() -> None:
    torch.manual_seed(0)
    network = CodeEncoder(5, SMALL, hidden=8).double().eval().requires_grad_(False)
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    direction = torch.randn_like(image)
    _, slope = torch.autograd.functional.jvp(lambda x: network(x).sum(), image, direction)
    step = 1e-6
    numeric = (network(image + step * direction).sum() - network(image - step * direction).sum()) / (2 * step)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-5)  # pyright: ignore


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(CodeEncoder(5, SMALL, hidden=8).state_dict())


def small() -> CodeEncoder:
    return CodeEncoder(5, SMALL, hidden=8)


def test_weights_are_those_of_the_file() -> None:
    state = small_state()
    network = load_network(small, state, "file")
    assert not network.training
    assert all(not p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layers.0.bias"), r"missing: layers\.0\.bias"),
        (lambda s: s.update(more=torch.zeros(1)), "unexpected: more"),
        (lambda s: s.update({"layers.2.bias": torch.zeros(7)}), r"misshapen: layers\.2\.bias \(7,\), not \(5,\)"),
        (lambda s: s.update({"layers.2.bias": torch.full((5,), torch.nan)}), r"not finite: layers\.2\.bias"),
        (lambda s: s.update({"layers.2.bias": "no"}), r"no tensor: layers\.2\.bias"),
        (lambda s: s.clear(), r"missing: encoder\.conv1\.weight, .* and \d+ more"),
    ],
)
def test_nothing_is_left_random(change, message: str) -> None:
    state = small_state()
    change(state)
    with pytest.raises(HeadlabError, match=message) as caught:
        load_network(small, state, "the file")
    assert "\n" not in str(caught.value)
