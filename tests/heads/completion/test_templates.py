"""Eyes and teeth for models without."""

from dataclasses import replace

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel, LandmarkEmbedding
from headlab.heads.completion import dressed, find_style, with_eyes_and_teeth
from headlab.heads.export import write_glb


@pytest.fixture(scope="module")
def bare(default_head: HeadModel) -> HeadModel:
    """The default head without eyeballs, teeth and tongue: its skin alone."""
    head = default_head
    skin = head.face_parts == head.part_names.index("skin")
    used, faces = torch.unique(head.faces[skin], return_inverse=True)
    place = torch.full((len(head.template),), -1)
    place[used] = torch.arange(len(used))
    kept_face = torch.cumsum(skin, 0) - 1
    marks = {}
    for name, embedding in head.landmarks.items():
        on_skin = torch.where(skin[embedding.faces], kept_face[embedding.faces], 0)
        marks[name] = LandmarkEmbedding(on_skin, embedding.weights)
    return replace(
        head,
        template=head.template[used],
        shape_basis=head.shape_basis[used],
        expression_basis=head.expression_basis[used],
        faces=faces,
        joint_regressor=head.joint_regressor[:, used],
        skin_weights=head.skin_weights[used],
        uv_faces=head.uv_faces[skin],
        landmarks={"68": marks["68"]},
        regions={name: head.regions[name][used] for name in ("face", "lips", "scalp", "ears", "neck")},
        part_names=("skin",),
        face_parts=None,
    )


def test_they_go_where_the_default_heads_are(bare: HeadModel, default_head: HeadModel, tmp_path) -> None:
    albedo = torch.full((3, 256, 256), 0.5)
    model, painted = with_eyes_and_teeth(bare, albedo)
    assert model.part_names == ("skin", "left_eye", "right_eye", "upper_teeth", "lower_teeth")
    generator = torch.Generator().manual_seed(1)
    beta = torch.randn(model.shapes, generator=generator)
    for shape, limit in ((torch.zeros(model.shapes), 1e-4), (beta, 0.004)):
        neutral = torch.zeros(model.expressions)
        own, true = model.shaped(shape, neutral), default_head.shaped(shape, neutral)
        for eye in ("left_eye", "right_eye"):
            gap = own[model.regions[eye]].mean(0) - true[default_head.regions[eye]].mean(0)
            assert float(gap.norm()) < limit, eye
        balls = [head[m.regions["left_eye"]] for head, m in ((own, model), (true, default_head))]
        sizes = [float((ball - ball.mean(0)).norm(dim=1).mean()) for ball in balls]
        assert 0.8 < sizes[0] / sizes[1] < 1.25
    assert set(model.regions) >= {"eyes", "teeth", "left_eye", "right_eye"} and not any(
        name.startswith("_") for name in model.regions
    )
    assert not torch.equal(painted, albedo)
    open_mouth = torch.zeros(model.expressions)
    open_mouth[model.expression_names.index("jawOpen")] = 1
    lower = model.face_parts == model.part_names.index("lower_teeth")
    rows = model.faces[lower].unique()
    move = model.shaped(torch.zeros(model.shapes), open_mouth)[rows] - model.template[rows]
    assert float(move[:, 1].mean()) < -0.005  # with the chin
    write_glb(tmp_path / "b.glb", model, model.neutral(), painted)
    worn, _ = dressed(model, model.neutral(), painted, find_style("short"))
    assert worn.part_names[-1] == "hair"


def test_eyes_turn_with_their_joint(bare: HeadModel) -> None:
    model, _ = with_eyes_and_teeth(bare)
    code = model.neutral()
    look = code.with_(eyes=torch.tensor([[0.0, 0.4, 0.0], [0.0, 0.0, 0.0]]))
    moved = (model.vertices(look) - model.vertices(code)).norm(dim=1)
    assert float(moved[model.regions["left_eye"]].max()) > 0.003
    assert float(moved[model.regions["right_eye"]].max()) < 1e-6


def test_whole_models_stay_as_they_are(default_head: HeadModel, bare: HeadModel) -> None:
    assert with_eyes_and_teeth(default_head) == (default_head, None)
    with pytest.raises(HeadlabError, match="no 68 landmarks"):
        with_eyes_and_teeth(replace(bare, landmarks={}))
