"""Rodrigues' formula against roma and the matrix exponential."""

import math

import pytest
import roma
import torch

from headlab.geometry.rodrigues import rotvec_to_rotmat


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2, 1)])
def test_equals_roma_whatever_the_batch(batch):
    vectors = torch.randn(*batch, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(rotvec_to_rotmat(vectors), roma.rotvec_to_rotmat(vectors), rtol=0, atol=1e-14)
    single = rotvec_to_rotmat(vectors.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), roma.rotvec_to_rotmat(vectors), rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 0.00999999, 0.01000001, 0.1, 1.0, math.pi, 6.0, 20.0])
def test_is_the_exponential_at_every_angle(angle):
    axis = torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)
    x, y, z = (angle * axis).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    torch.testing.assert_close(rotvec_to_rotmat(angle * axis), torch.linalg.matrix_exp(cross), rtol=0, atol=1e-13)


@pytest.mark.parametrize("angle", [0.0, 0.005, 0.01, 0.7])
def test_derivatives_are_right_near_nothing(angle):
    vector = (angle * torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(rotvec_to_rotmat, vector)
    if angle != 0.01:  # where the two branches meet, finite differences take the step between them
        assert torch.autograd.gradgradcheck(rotvec_to_rotmat, vector)
