"""Registration of a template: to heads its own basis cannot make, whose true correspondence is known."""

import numpy as np
import pytest
import torch

from headlab.geometry.fitting.registration import RegistrationConfig, neutral_of, register_scan, stiffer
from headlab.geometry.fitting.scan import outer_skin
from headlab.geometry.models.deformation_modes import deformation_modes
from headlab.geometry.models.head_model import HeadModel


@pytest.fixture(scope="module")
def stranger(default_head: HeadModel) -> np.ndarray:
    """A head of the model with a free-form deformation of some millimetres that its basis does not hold."""
    generator = torch.Generator().manual_seed(2)
    code = torch.randn(default_head.shapes, generator=generator)
    head = default_head.shaped(code, torch.zeros(default_head.expressions)).double().numpy()
    face = default_head.regions["face"].double().numpy()
    modes = deformation_modes(head, face, 24, scales=((0.018, 0.0015),), samples=250)
    return head + np.einsum("k,kvc->vc", np.random.default_rng(0).normal(size=24), modes)


def test_goes_where_the_basis_does_not(default_head: HeadModel, stranger: np.ndarray) -> None:
    skin, faces = outer_skin(default_head)
    marks = default_head.landmarks3d(torch.from_numpy(stranger).float(), "68").double().numpy()
    found = register_scan(default_head, stranger, faces, marks)
    face = default_head.regions["face"].numpy() & skin
    fitted = default_head.vertices(found.fit.code).double().numpy()
    before = np.linalg.norm(fitted - stranger, axis=1)[face].mean()
    after = np.linalg.norm(found.vertices - stranger, axis=1)[face].mean()
    assert found.matched > 0.9
    assert found.distance < 0.0002  # on the surface
    assert found.distance < 0.5 * found.fit.report["face_distance"]
    assert after < 0.9 * before and after < 0.0008  # and nearer to the right points of it
    stiff = register_scan(default_head, stranger, faces, marks, config=stiffer(RegistrationConfig(), 100.0))
    assert stiff.distance > found.distance


def test_a_cloud_in_another_unit(default_head: HeadModel, stranger: np.ndarray) -> None:
    marks = default_head.landmarks3d(torch.from_numpy(stranger).float(), "68").double().numpy()
    skin, _ = outer_skin(default_head)
    found = register_scan(default_head, 37 * stranger[skin], None, 37 * marks, scale=True)
    assert found.fit.scale * 37 == pytest.approx(1, abs=0.08)
    assert found.distance < 0.001


def test_pose_and_expression_are_taken_back(default_head: HeadModel) -> None:
    generator = torch.Generator().manual_seed(0)
    code = default_head.neutral().with_(
        shape=torch.randn(default_head.shapes, generator=generator),
        expression=torch.rand(default_head.expressions, generator=generator) * 0.4,
        rotation=torch.tensor([0.1, -0.4, 0.05]),
        jaw=torch.tensor([0.1, 0.0, 0.0]),
        neck=torch.tensor([0.0, 0.2, 0.0]),
        translation=torch.tensor([0.3, 0.1, -1.0]),
    )
    double = default_head.to(dtype=torch.float64)
    posed = double.vertices(code.to(dtype=torch.float64)).numpy()
    wanted = double.shaped(code.shape.double(), torch.zeros(default_head.expressions).double()).numpy()
    np.testing.assert_allclose(neutral_of(default_head, code, posed), wanted, atol=1e-9)
