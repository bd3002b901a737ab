"""Our own anchors on the default head and on other models."""

import torch

from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import EYES, FieldFrame, anchor_embedding, mean_anchors
from headlab.geometry.sdf.frame import BOX
from headlab.geometry.sdf.layout import EnsembleLayout


def test_anchors_of_the_default_head(default_head: HeadModel) -> None:
    layout, anchors = EnsembleLayout(), mean_anchors(default_head)
    assert anchors.shape == (layout.anchors, 3)
    pairs = anchors[: 2 * layout.pairs].view(layout.pairs, 2, 3)
    assert bool((pairs[:, 0, 0] < 0).all()), "the even one is on the subject's right"
    mirrored = pairs[:, 0] * torch.tensor([-1.0, 1, 1])
    assert float((mirrored - pairs[:, 1]).norm(dim=-1).max()) < 0.03
    assert float(anchors[2 * layout.pairs :, 0].abs().max()) < 0.01
    low, high = torch.tensor(BOX)
    assert bool(((anchors > low) & (anchors < high)).all())
    apart = torch.cdist(anchors, anchors) + torch.eye(layout.anchors)
    assert float(apart.min()) > 0.04, "no two anchors at one place"


def test_anchors_cover_the_head(default_head: HeadModel) -> None:
    """Where no anchor is within 0.37 the field fades away; on the skin none may be near that."""
    anchors = mean_anchors(default_head)
    skin = FieldFrame.of(default_head).to_field(default_head.template)
    assert float(torch.cdist(skin, anchors).amin(1).max()) < 0.33


def test_anchors_move_with_the_identity(default_head: HeadModel) -> None:
    embedding = anchor_embedding(default_head)
    code = torch.zeros(2, default_head.shapes)
    code[1, 0] = 2
    heads = default_head.shaped(code, torch.zeros(default_head.expressions))
    points = default_head.surface_points(heads, embedding)
    frame = FieldFrame.of(default_head)
    torch.testing.assert_close(frame.to_field(points[0]), mean_anchors(default_head))
    assert float((points[1] - points[0]).norm(dim=-1).max()) > 1e-3


def test_the_frame_has_its_eyes_where_flames_are(default_head: HeadModel) -> None:
    frame = FieldFrame.of(default_head)
    corners = default_head.landmarks3d(default_head.template)[[36, 39, 42, 45]].mean(0)
    torch.testing.assert_close(frame.to_field(corners), torch.tensor(EYES))
    torch.testing.assert_close(frame.to_metres(frame.to_field(default_head.template)), default_head.template)
