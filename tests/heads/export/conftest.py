"""Heads to export."""

from dataclasses import replace

import pytest
import torch
from riggable import ramp_texture, riggable_head

from headlab.geometry.models.head_model import HeadModel


@pytest.fixture(scope="session")
def small_head() -> HeadModel:
    return riggable_head()


@pytest.fixture(scope="session")
def bare_head(small_head: HeadModel) -> HeadModel:
    """No texture coordinates, no expressions, only a root joint, one part."""
    return replace(
        small_head,
        uvs=None,
        uv_faces=None,
        part_names=("skin",),
        face_parts=None,
        expression_basis=small_head.expression_basis[..., :0],
        expression_names=(),
        joint_names=("root",),
        parents=(-1,),
        joint_regressor=small_head.joint_regressor[:1],
        skin_weights=torch.ones(len(small_head.template), 1),
    )


@pytest.fixture(scope="session")
def albedo() -> torch.Tensor:
    return ramp_texture()
