"""Networks against the numbers of the authors' code (with stand-in weights)."""

from pathlib import Path

import nphm
import pytest
import torch

from headlab.geometry.sdf.blend import member_weights, normalised
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField, member_values
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.mlp import DeepSDF


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


def close(ours: torch.Tensor, theirs: torch.Tensor, limit: float) -> bool:
    assert ours.shape == theirs.shape
    return float((ours.detach() - theirs).abs().max()) <= limit


def test_identity_in_train_mode(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    points, latent = golden["xyz"].clone().requires_grad_(), golden["latent"][:, 0].clone().requires_grad_()
    sdf = field(points, latent)
    grad, dlatent = torch.autograd.grad(sdf.sum(), (points, latent))
    assert close(sdf, golden["sdf_train"], 4e-7)
    assert close(grad, golden["grad_train"], 2e-4)
    assert close(dlatent, golden["dsumsdf_dlatent_train"][:, 0], 2e-4 * float(dlatent.abs().max()))
    assert close(field.anchors(latent), golden["anchors_pred"], 1e-7)


def test_identity_in_double_precision(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder).double()
    points, latent = golden["xyz"].double().requires_grad_(), golden["latent"][:, 0].double()
    sdf = field(points, latent)
    (grad,) = torch.autograd.grad(sdf.sum(), points)
    # The authors' table of anchors is float32; so is the file's.
    assert close(sdf, golden["sdf_train_f64"], 1e-9)
    assert close(grad, golden["grad_train_f64"], 1e-6)


def test_members_and_weights(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    head = field.folded(golden["latent"][:, 0])
    assert close(member_values(head, golden["xyz"]), golden["member_sdf_train"], 1e-6)
    assert close(normalised(member_weights(golden["xyz"], head.anchors)), golden["blend_weight"], 2e-6)


def test_background_outside(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    sdf = field(golden["xyz"], golden["latent"][:, 0], background_outside=True)
    assert close(sdf, golden["sdf_background_forced_to_1"], 4e-7)


@pytest.mark.parametrize("chunk", [500, 125])
def test_the_authors_slip_only_when_asked_for(folder: Path, chunk: int) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    parts = golden["xyz"].split(chunk, 1)
    slipped = torch.cat([field(part, golden["latent"][:, 0], upstream_eval_slip=True) for part in parts], 1)
    assert close(slipped, golden[f"sdf_eval_chunk{chunk}"], 4e-7)
    plain = torch.cat([field(part, golden["latent"][:, 0]) for part in parts], 1)
    differing = (plain - golden[f"sdf_eval_chunk{chunk}"]).abs() > 1e-3
    last = torch.arange(500) % chunk == chunk - 1
    assert bool(differing.any()) and not bool(differing[:, ~last].any())


def test_identity_broadcasts_leading_axes(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    points, latent = golden["xyz"][0, :7], golden["latent"][0, 0]
    alone = field(points, latent)
    for batch in ((1,), (3, 1, 2, 1)):
        many = field(points.expand(*batch, 7, 3), latent.expand(*batch, -1))
        assert many.shape == (*batch, 7)
        torch.testing.assert_close(many, alone.expand_as(many), atol=2e-7, rtol=0)


@pytest.mark.parametrize("mode", ["compress", "glob_only", "expr_only", "interpolate", "GNN"])
def test_expression_modes(folder: Path, mode: str) -> None:
    golden, field = nphm.golden(folder, "nphm_expression"), nphm.expression(folder, mode)
    identity, expression = golden["latent_id"][:, 0], golden["latent_ex"][:, 0]
    offsets = field(golden["xyz"], identity, expression, golden["anchors"])
    assert close(offsets, golden[f"offsets_{mode}"], 4e-7)
    if mode == "compress":
        assert close(field.code(identity, golden["anchors"]), golden["compress_code"], 1e-6)
        double = field.double()(
            golden["xyz"].double(), identity.double(), expression.double(), golden["anchors"].double()
        )
        assert close(double, golden["offsets_compress_f64"], 1e-9)


def test_npm(folder: Path) -> None:
    golden, field = nphm.golden(folder, "npm_identity"), nphm.npm(folder, "npm_identity", 512, 1)
    points = golden["xyz"].clone().requires_grad_()
    sdf = field(points, golden["latent"][:, 0]).squeeze(-1)
    (grad,) = torch.autograd.grad(sdf.sum(), points)
    assert close(sdf, golden["sdf"], 4e-7) and close(grad, golden["grad"], 1e-4)
    golden, field = nphm.golden(folder, "nphm_expression"), nphm.npm(folder, "npm_expression", 712, 3)
    latent = torch.cat([golden["npm_latent_id"], golden["latent_ex"]], -1)[:, 0]
    assert close(field(golden["xyz"], latent), golden["offsets_npm"], 3e-7)


def test_layout_numbers() -> None:
    layout = EnsembleLayout()
    assert (layout.members, layout.sets, layout.latent) == (40, 24, 1344)
    sets = layout.set_of_member()
    assert sets[:4].tolist() == [0, 0, 1, 1] and sets[31:].tolist() == [15, *range(16, 24)]
    assert layout.mirrored().nonzero().flatten().tolist() == list(range(1, 32, 2))


def test_mirrored_latents_give_a_mirrored_head() -> None:
    torch.manual_seed(0)
    layout = EnsembleLayout(anchors=5, pairs=2, latent_global=6, latent_local=4)
    anchors = torch.tensor([[-0.1, 0, 0], [0.1, 0, 0], [-0.2, 0.1, 0], [0.2, 0.1, 0], [0, 0.1, 0.1]])
    field = IdentityField(IdentityConfig(layout, 32, 4, 8), anchors)
    torch.nn.init.zeros_(field.mlp_pos[4].weight)
    torch.nn.init.zeros_(field.mlp_pos[4].bias)
    latent = torch.randn(layout.latent)
    swapped = latent.clone()
    order = [1, 0, 3, 2, 4, 5]
    swapped[6:] = latent[6:].view(6, 4)[order].flatten()
    points = torch.randn(40, 3) * 0.1
    # Members on the mid plane see the same x in both heads: compare where the pairs alone are heard.
    points = points - torch.tensor([0.3, 0, 0])
    mirrored = points * torch.tensor([-1.0, 1, 1])
    a, b = (normalised(member_weights(p, anchors)) for p in (points, mirrored))
    values_a, values_b = (member_values(field.folded(z), p) for z, p in ((latent, points), (swapped, mirrored)))
    torch.testing.assert_close(values_a[:, :4], values_b[:, [1, 0, 3, 2]])
    torch.testing.assert_close(a[:, :4], b[:, [1, 0, 3, 2]])


def test_sphere_start() -> None:
    field = DeepSDF(8, 256, 4)
    field.initialise_as_sphere(0.5, torch.Generator().manual_seed(0))
    points = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    inside, outside = (field(r * points, torch.zeros(8)).squeeze(-1) for r in (0.1, 1.5))
    assert bool((inside < 0).all()) and bool((outside > 0).all())


def test_a_latent_of_the_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match="1344 numbers here, not 1300"):
        EnsembleLayout().split(torch.zeros(1300))
    with pytest.raises(ValueError, match="8 numbers, not 5"):
        DeepSDF(8, 16, 2)(torch.zeros(1, 3), torch.zeros(5))
