"""Loss terms and their gradients against the authors' code, and the evaluation measures."""

import json
from pathlib import Path
from typing import Any

import nphm
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.expression import CODE_NOISE
from headlab.geometry.sdf.frame import ScanFrame, above_plane, to_metres
from headlab.geometry.sdf.losses import (
    ExpressionWeights,
    IdentityWeights,
    SurfaceBatch,
    anywhere,
    ensemble_terms,
    expression_terms,
    identity_terms,
    total,
)
from headlab.geometry.sdf.metrics import compare_surfaces


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "losses.json").read_text())


def surface_batch(golden: dict[str, Tensor]) -> SurfaceBatch:
    names = ("points_face", "normals_face", "points_non_face", "normals_non_face", "sup_grad_near", "sup_grad_far")
    return SurfaceBatch(*(golden[f"id/{name}"] for name in names))


def check(
    terms: dict[str, Tensor],
    weights: IdentityWeights | ExpressionWeights,
    expected: dict[str, Any],
    network: nn.Module,
    latent: Tensor,
    dlatent: Tensor,
) -> None:
    for name, value in expected["terms"].items():
        assert float(terms[name].detach()) == pytest.approx(value, rel=3e-6), name
    loss = total(terms, weights)
    assert float(loss.detach()) == pytest.approx(expected["total"], rel=2e-6)
    parameters = dict(network.named_parameters())
    wanted = expected["param_grad_norms"]
    gradients = torch.autograd.grad(loss, [latent, *(parameters[name] for name in wanted)])
    assert float((gradients[0] - dlatent).abs().max() / dlatent.abs().max()) < 2e-5
    for (name, value), gradient in zip(wanted.items(), gradients[1:], strict=True):
        assert float(gradient.double().norm()) == pytest.approx(value, rel=2e-5), name


def test_identity_loss(folder: Path, expected: dict[str, Any]) -> None:
    golden, field = nphm.golden(folder, "losses"), nphm.identity(folder).requires_grad_(True)
    latent = golden["id/latent"][:, 0].clone().requires_grad_()
    terms = identity_terms(lambda points: field(points, latent), surface_batch(golden), latent)
    terms |= ensemble_terms(field.layout, latent, field.anchors(latent), golden["id/gt_anchors"])
    check(terms, IdentityWeights(), expected["identity_f32"], field, latent, golden["id/dtotal_dlatent"][:, 0])


def test_npm_identity_loss(folder: Path, expected: dict[str, Any]) -> None:
    golden, field = nphm.golden(folder, "losses"), nphm.npm(folder, "npm_identity", 512, 1).requires_grad_(True)
    latent = golden["npm/latent"][:, 0].clone().requires_grad_()
    terms = identity_terms(lambda points: field(points, latent).squeeze(-1), surface_batch(golden), latent)
    wanted = expected["npm_identity_f32"]
    check(terms, IdentityWeights.npm(), wanted, field, latent, golden["npm/dtotal_dlatent"][:, 0])


@pytest.mark.parametrize("training", [False, True])
def test_expression_loss(folder: Path, expected: dict[str, Any], training: bool) -> None:
    golden, field = nphm.golden(folder, "losses"), nphm.expression(folder, "compress").requires_grad_(True)
    with torch.no_grad():  # the authors take the anchors from the trained identity network
        anchors = nphm.identity(folder).anchors(golden["ex/latent_id"][:, 0])
    latent = golden["ex/latent_ex"][:, 0].clone().requires_grad_()
    space = anywhere(golden["ex/reg_uniform"])
    torch.testing.assert_close(space, golden["ex/reg_points"])

    def offsets(points: Tensor, noise: Tensor) -> Tensor:
        return field(points, golden["ex/latent_id"][:, 0], latent, anchors, CODE_NOISE * noise if training else None)

    terms = expression_terms(
        offsets(golden["ex/points_neutral"], golden["ex/train_noise_points"]),
        golden["ex/points_neutral"],
        golden["ex/points_posed"],
        offsets(space, golden["ex/train_noise_reg"]),
        latent,
    )
    mode = "train" if training else "eval"
    dlatent = golden[f"ex/dtotal_dlatent_{mode}"][:, 0]
    check(terms, ExpressionWeights(), expected[f"expression_{mode}_f32"], field, latent, dlatent)


def test_npm_expression_loss(folder: Path, expected: dict[str, Any]) -> None:
    golden, field = nphm.golden(folder, "losses"), nphm.npm(folder, "npm_expression", 712, 3).requires_grad_(True)
    latent = golden["ex/latent_ex"][:, 0].clone().requires_grad_()
    wanted = expected["npm_expression_f32"]
    identity = golden["npm/latent"][:, 0]
    both = torch.cat([identity, latent], -1)
    neutral, posed = golden["ex/points_neutral"], golden["ex/points_posed"]
    terms = expression_terms(field(neutral, both), neutral, posed, field(golden["ex/reg_points"], both), latent)
    for name, value in wanted["terms"].items():
        assert float(terms[name].detach()) == pytest.approx(value, rel=3e-6), name
    loss = total(terms, ExpressionWeights.npm())
    assert float(loss.detach()) == pytest.approx(wanted["total"], rel=2e-6)
    parameters = dict(field.named_parameters())
    for (name, value), gradient in zip(
        wanted["param_grad_norms"].items(),
        torch.autograd.grad(loss, [parameters[name] for name in wanted["param_grad_norms"]]),
        strict=True,
    ):
        assert float(gradient.double().norm()) == pytest.approx(value, rel=2e-5), name


def test_measures(folder: Path) -> None:
    with np.load(folder / "metrics.npz") as file:
        data = {name: file[name] for name in file.files}
    expected = json.loads((folder / "metrics.json").read_text())
    for name, scale, thresholds in (
        ("metric_space_true", 1 / float(data["s"]), expected["thresholds"]["metric_space_true_mm"]),
        ("metric_space_false", 1.0, expected["thresholds"]["metric_space_false_nphm_units"]),
    ):
        found = compare_surfaces(
            data["points_pred"] * scale, data["points_gt"] * scale, data["normals_pred"], data["normals_gt"]
        )
        wanted = expected[name]
        assert found.chamfer_l1 == pytest.approx(wanted["chamfer_l1"], rel=1e-12)
        assert found.chamfer_l2 == pytest.approx(wanted["chamfer_l2"], rel=1e-12)
        assert found.normal_consistency == pytest.approx(wanted["normals consistency"], rel=1e-12)
        for key, threshold in zip(("05", "10", "15", "20"), thresholds, strict=True):
            assert found.f_score(float(threshold)) == pytest.approx(wanted[f"f_score_{key}"], rel=1e-12)
        if scale != 1:
            np.testing.assert_allclose(found.completeness.distance, data["metric_completeness"], rtol=1e-12)
            for threshold, score in expected["f_score_mm_from_upstream_helpers"].items():
                assert found.f_score(float(threshold)) == pytest.approx(score, rel=1e-12)
                assert found.recall(float(threshold)) == pytest.approx(expected["recall_mm"][threshold], rel=1e-12)
    assert compare_surfaces(data["points_pred"], data["points_gt"]).normal_consistency is None


def test_measures_refuse_nothing_to_measure() -> None:
    points = np.zeros((3, 3))
    with pytest.raises(HeadlabError, match="predicted surface has no points"):
        compare_surfaces(np.zeros((0, 3)), points)
    with pytest.raises(HeadlabError, match="true surface has 3 points and 2 normals"):
        compare_surfaces(points, points, points, points[:2])
    apart = compare_surfaces(points, points + 5)
    assert apart.f_score(1.0) == 0.0


def test_frames_and_throat(folder: Path) -> None:
    with np.load(folder / "metrics.npz") as file:
        data = {name: torch.from_numpy(np.array(file[name])) for name in file.files}
    frame = ScanFrame(float(data["s"]), data["xf_R"], data["xf_t"])
    raw = frame.to_raw(data["xf_in_nphm"])
    torch.testing.assert_close(raw, data["xf_out_raw"], atol=1e-9, rtol=1e-12)
    torch.testing.assert_close(frame.to_nphm(raw), data["xf_in_nphm"], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(to_metres(data["xf_in_nphm"]), data["xf_out_flame"])
    plane = data["throat_plane_v3276_v3207_v3310"]
    assert torch.equal(above_plane(data["throat_points"], plane), data["throat_kept_margin0"])
    assert torch.equal(above_plane(data["throat_points"], plane, 0.003), data["throat_kept_eval_margin0.003"])
