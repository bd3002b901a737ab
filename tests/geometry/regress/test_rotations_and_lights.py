"""Rotation conversions, lights, normals and projection against upstream's."""

import math

import pytest
import roma
import torch

from headlab.geometry.camera import WeakPerspective
from headlab.geometry.raster import sh_basis, vertex_normals
from headlab.geometry.regress import rotations
from headlab.geometry.regress.detail import grid_faces
from headlab.geometry.regress.lights import directional_lights, point_lights
from headlab.geometry.regress.render import shade_map

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def data(golden):
    return golden("sh_lighting")


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    return float((ours - theirs).abs().max()) < tolerance


def test_conversions(data) -> None:
    euler, rotvec = data["euler"], data["axis_angle"]
    assert close(rotations.euler_to_quaternion(euler), data["euler_to_quaternion"])
    assert close(rotations.euler_to_rotvec(euler), data["euler_to_axis"])
    assert close(rotations.euler_to_matrix(euler), data["euler_to_matrix"])
    assert close(rotations.rotvec_to_quaternion(rotvec), data["axis_to_quaternion"])
    assert close(rotations.quaternion_to_rotvec(data["axis_to_quaternion"]), data["quaternion_to_axis"])
    assert close(rotations.quaternion_to_matrix(data["axis_to_quaternion"]), data["quaternion_to_matrix"])
    quaternion = rotations.matrix_to_quaternion(data["rodrigues"])
    sign = (quaternion * data["matrix_to_quaternion"]).sum(-1, keepdim=True).sign()
    assert close(quaternion * sign, data["matrix_to_quaternion"])
    assert close(roma.rotmat_to_rotvec(data["rodrigues"]), data["matrix_to_axis"])
    assert close(roma.rotvec_to_rotmat(rotvec), data["rodrigues"])
    assert close(roma.rotvec_to_rotmat(rotvec), data["axis_to_matrix"])
    assert close(rotations.head_yaw(data["rodrigues"]), data["rot_mat_to_euler_y"])


def test_degrees(data) -> None:
    """Upstream's matrices come out mixed up over the batch; unmixed they are ours."""
    unmixed = data["angle2matrix"].reshape(9, -1).T.reshape(-1, 3, 3)
    assert close(rotations.degrees_to_matrix(data["degrees"]), unmixed)


def test_matrix_to_euler_is_the_inverse(data) -> None:
    euler = data["euler"].double()
    inside = euler[:, 1].abs() < math.pi / 2
    back = rotations.matrix_to_euler(rotations.euler_to_matrix(euler[inside]))
    assert close(back, euler[inside], 1e-9)


def test_spherical_harmonics(data) -> None:
    light = data["sh_coefficients"].reshape(2, 9, 3)
    assert close(shade_map(data["normals"], light), data["shading"])
    assert close(shade_map(data["normals_not_unit"], light), data["shading_not_unit"], 3e-6)
    # Where every other factor is 1, the basis is the table of constants.
    basis = sh_basis(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    ours = torch.cat([basis[0, :7], basis[1, 7:8], basis[2, 8:] / 2])
    assert close(ours, data["constant_factor"])


def test_lights(data) -> None:
    lights, normals = data["lights_xyzrgb"], data["light_normals"]
    assert close(point_lights(data["light_vertices"], normals, lights), data["point_light"])
    assert close(directional_lights(normals, lights), data["direction_light"])


def test_projection(data) -> None:
    projected = WeakPerspective(data["cam"]).project_ndc(data["points"])
    assert close(projected, data["projected_image_space"])
    assert close(projected * torch.tensor([1.0, -1.0, -1.0]), data["projected"])


def test_vertex_normals(data, flame) -> None:
    assert close(vertex_normals(data["normals_vertices"], flame.faces), data["vertex_normals"], 2e-5)


def test_grid_faces(data) -> None:
    assert torch.equal(grid_faces(16), data["generate_triangles_16"].long())
