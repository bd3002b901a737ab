"""Fitting to depth frames: heads of known parameters come back."""

import math

import numpy as np
import pytest
import roma
import torch

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.fitting.depth_fit import DepthFitConfig, DepthView, fit_depth
from headlab.geometry.raster import rasterize
from headlab.geometry.rgbd.normals import depth_normals

CAMERA = Camera.frontal(580.0, (320, 320))


def views(model, yaws, *, seed: int = 0, smile: float = 0.0, noise: float = 0.0):
    generator = torch.Generator().manual_seed(seed)
    code = model.neutral((len(yaws),))
    beta = 0.8 * torch.randn(model.shapes, generator=generator)
    expression = torch.zeros(len(yaws), model.expressions)
    expression[:, [model.expression_names.index(f"mouthSmile{side}") for side in ("Left", "Right")]] = smile
    code = code.with_(
        shape=beta.expand(len(yaws), -1),
        expression=expression,
        rotation=torch.tensor([[0.0, math.radians(yaw), 0.0] for yaw in yaws]),
        translation=torch.tensor([[0.01, -0.02, -0.5]]).expand(len(yaws), -1),
    )
    vertices = model.vertices(code)
    found, poses = [], []
    for i in range(len(yaws)):
        depth = rasterize(CAMERA.to_homogeneous(vertices[i])[None], model.faces, CAMERA.size).depth[0]
        depth = depth + noise * torch.randn(depth.shape, generator=generator) * (depth > 0)
        normals = depth_normals(depth, CAMERA) @ CAMERA.R
        marks = CAMERA.project(model.landmarks3d(vertices[i], "478"))
        found.append(DepthView(CAMERA, depth, normals, marks))
        turn = roma.rotvec_to_rotmat(code.rotation[i] + 0.04).double().numpy()
        poses.append((turn, np.array([0.015, -0.016, -0.508])))
    return found, poses, vertices


def face_error(model, fitted: torch.Tensor, truth: torch.Tensor) -> float:
    face = model.regions["face"]
    return float((fitted - truth)[..., face, :].norm(dim=-1).mean())


def test_a_head_seen_from_three_sides(default_head) -> None:
    found, poses, truth = views(default_head, [0, 32, -32])
    fit = fit_depth(default_head, found, poses)
    assert face_error(default_head, default_head.vertices(fit.codes), truth) < 0.0009
    assert max(fit.residuals) < 0.0003 and min(fit.matched) > 0.4
    assert torch.equal(fit.codes.shape[0], fit.codes.shape[2])


def test_one_noisy_frame_with_a_smile(default_head) -> None:
    found, poses, truth = views(default_head, [5], smile=0.7, noise=0.001)
    fit = fit_depth(default_head, found, poses)
    vertices = default_head.vertices(fit.codes)
    assert face_error(default_head, vertices, truth) < 0.0022
    stiff = fit_depth(default_head, found, poses, DepthFitConfig(fit_expression=False))
    assert face_error(default_head, vertices, truth) < face_error(
        default_head, default_head.vertices(stiff.codes), truth
    )
    bounds = default_head.expression_bounds
    assert bool((fit.codes.expression >= bounds[:, 0] - 1e-6).all())
    assert bool((fit.codes.expression <= bounds[:, 1] + 1e-6).all())


def test_the_pairs_hold_the_head_where_it_was_measured(default_head) -> None:
    found, poses, truth = views(default_head, [0])
    fit = fit_depth(default_head, found, poses)
    there = fit.pairs[0].energy(truth[0], 0.001)
    away = fit.pairs[0].energy(truth[0] + torch.tensor([0, 0, 0.002]), 0.001)
    assert float(there) < 0.3 and float(away) > 1.5


def test_what_does_not_meet_is_refused(default_head) -> None:
    found, poses, _ = views(default_head, [0])
    with pytest.raises(HeadlabError, match="give one of each"):
        fit_depth(default_head, found, [])
    far = [(poses[0][0], poses[0][1] + np.array([0, 0, -3.0]))]
    with pytest.raises(HeadlabError, match="do not meet"):
        fit_depth(default_head, found, far)
