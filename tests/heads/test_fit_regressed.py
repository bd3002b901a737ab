"""Photos through DECA's path, with networks that always give one known code."""

from pathlib import Path

import pytest
import torch

from headlab.datasets.photo import read_photo
from headlab.geometry.errors import HeadlabError
from headlab.geometry.landmarks import open_detector
from headlab.geometry.models.flame import load_flame
from headlab.geometry.regress import Deca
from headlab.geometry.regress.detail_decoder import DetailDecoder
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.heads.fit import FitTools
from headlab.heads.fit_regressed import fit_regressed, load_networks
from headlab.heads.head_fit import HeadFit


def _always(code: torch.Tensor) -> CodeEncoder:
    network = CodeEncoder(len(code)).eval().requires_grad_(False)
    torch.nn.init.zeros_(network.layers[2].weight)
    network.layers[2].bias.copy_(code)
    return network


@pytest.mark.slow
def test_known_code_comes_through(shared: Path, tmp_path: Path) -> None:
    folder = shared / "parity/geometry"
    flame = load_flame(
        folder / "flame_like.pkl",
        landmark_embedding=folder / "landmark_embedding.npy",
        mediapipe_embedding=folder / "mediapipe_landmark_embedding.npz",
        uv=folder / "decode_assets/head_template.obj",
    )
    tools = FitTools.build("flame2020", flame, texture_size=64)
    assert any("photometric" in reason for reason in tools.skipped)
    # shape 100, texture 50, expression 50, pose 6, camera 3, light 27
    code = torch.zeros(236)
    code[0], code[150], code[203] = 0.7, 0.4, 0.2
    code[206:209] = torch.tensor([8.0, 0.01, -0.02])
    code[209:212] = 3.5
    networks = Deca("deca", _always(code), _always(torch.zeros(128)), DetailDecoder().eval())
    frame = read_photo(shared / "data/photos/p01.jpg")
    with open_detector() as detector:
        fit = fit_regressed(tools, networks, [frame, frame], detector)
    assert fit.codes.shape.shape == (2, flame.shapes) and fit.codes.expression.shape == (2, flame.expressions)
    torch.testing.assert_close(fit.codes.shape[0, 0], torch.tensor(0.7))
    torch.testing.assert_close(fit.codes.expression[1, 0], torch.tensor(0.4))
    torch.testing.assert_close(fit.codes.jaw[0], torch.tensor([0.2, 0.0, 0.0]))
    # The head lies over the face: DECA's crop covers about twice the face, the stand-in egg a good part of the crop.
    pixels = fit.cameras[0].project(flame.vertices(fit.codes[0]))
    with open_detector() as detector:
        left, top, right, bottom = detector.detect(frame.image)[0].box
    middle = pixels.mean(0)
    assert left - (right - left) < middle[0] < right + (right - left)
    assert top - (bottom - top) < middle[1] < bottom + (bottom - top)
    assert fit.report["method"] == "deca" and fit.albedo is not None and fit.albedo.shape == (3, 64, 64)
    fit.save(tmp_path / "head.npz")
    again = HeadFit.load(tmp_path / "head.npz")
    torch.testing.assert_close(again.codes.shape, fit.codes.shape)


def test_unknown_method_is_named() -> None:
    with pytest.raises(HeadlabError, match="deca, emoca"):
        load_networks("magic")
