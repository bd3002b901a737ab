"""Neural heads fitted to scans with the fields that come with headlab."""

import numpy as np
import pytest
import torch
import trimesh

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.default_fields import load_default_fields
from headlab.geometry.sdf.fit_scan import ScanFitConfig, fit_neural_head
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.latent_fit import LatentFitConfig
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.geometry.sdf.sampling import HeadSampler
from headlab.geometry.sdf.scan_points import Scan

QUICK = ScanFitConfig(LatentFitConfig(steps=60, points=300), points=4000, resolution=48)


@pytest.fixture(scope="module")
def fields() -> HeadFields:
    return load_default_fields()


@pytest.mark.slow
def test_a_head_in_millimetres_is_fitted_wherever_it_lies(fields: HeadFields, default_head: HeadModel) -> None:
    sampler = HeadSampler.of(default_head)
    shape = 0.7 * torch.randn(default_head.shapes, generator=torch.Generator().manual_seed(9))
    vertices = default_head.vertices(default_head.neutral().with_(shape=shape)).double().numpy()
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    turned *= np.sign(np.linalg.det(turned))
    scan = Scan(1000 * vertices @ turned.T - 300, sampler.faces.numpy())
    fit = fit_neural_head(fields, scan, QUICK)
    assert fit.unit == "mm" and fit.report["aligned_by"] == "shape"
    assert float(fit.report["median_mm"] or 9) < 2.0 and float(fit.report["face_distance_mm"] or 9) < 3.0
    assert fit.identity.shape == (fields.identity_size,)


@pytest.mark.slow
def test_a_ball_is_no_head(fields: HeadFields) -> None:
    ball = trimesh.creation.icosphere(4, 0.11)
    with pytest.raises(HeadlabError, match=r"does not look like a head.*\d mm off"):
        fit_neural_head(fields, Scan(np.asarray(ball.vertices), np.asarray(ball.faces)), QUICK)


def test_fields_of_another_kind_are_refused() -> None:
    npm = HeadFields(DeepSDF(4, 16, 4), None, torch.zeros(1, 4), torch.zeros(0, 0), FieldFrame(torch.zeros(3)))
    with pytest.raises(HeadlabError, match="NPM fields cannot be fitted"):
        fit_neural_head(npm, Scan(np.zeros((300, 3))), QUICK)
