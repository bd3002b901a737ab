"""Controls: what is read is what was written, and only that; ranges, regions, light."""

import math

import pytest
import roma
import torch
from riggable import random_code, riggable_head

from headlab.geometry.raster import sh_basis
from headlab.heads.view.controls import Edit, controls_of, spoken
from headlab.heads.view.lighting import LightEdit, edited_light, rotated_light


def test_every_control_reads_back_and_moves_nothing_else(default_head):
    controls = controls_of(default_head)
    assert len({control.name for control in controls}) == len(controls)
    edit = Edit(default_head.neutral())
    for control in controls[:: max(1, len(controls) // 60)]:
        value = control.low + 0.7 * (control.high - control.low)
        moved = control.write(edit, value)
        assert control.read(moved) == pytest.approx(value, abs=1e-4)
        for other in controls:
            if other.field != control.field or not set(other.places) & set(control.places):
                if other is not control:
                    assert other.read(moved) == pytest.approx(other.read(edit), abs=1e-6)
        for name, values in edit.code.arrays().items():
            if name != control.field:
                assert torch.equal(values, getattr(moved.code, name))


def test_all_of_beta_psi_joints_and_light_are_there(default_head):
    fields = [control.field for control in controls_of(default_head)]
    assert fields.count("shape") == default_head.shapes and fields.count("expression") == default_head.expressions
    assert {"neck", "jaw", "eyes", "light.turn", "light.rise", "light.brightness"} <= set(fields)
    regions = {control.name: control.region for control in controls_of(default_head)}
    assert regions["jawOpen"] == "Jaw" and regions["mouthSmileLeft"] == "Mouth and lips"
    assert regions["eyeBlinkLeft"] == "Eyes and lids" and regions["tongueOut"] == "Tongue"


def test_values_stop_at_the_ends_and_angles_are_degrees(default_head):
    edit = Edit(default_head.neutral())
    controls = {control.name: control for control in controls_of(default_head)}
    assert controls["jawOpen"].read(controls["jawOpen"].write(edit, 9.0)) == controls["jawOpen"].high
    turned = controls["pose.turn"].write(edit, 30.0)
    assert float(turned.code.neck[1]) == pytest.approx(math.pi / 6)
    looking = controls["pose.lookLeft"].write(edit, 20.0)
    assert torch.allclose(looking.code.eyes[:, 1], torch.tensor(math.radians(20)))


def test_coefficients_without_names_of_faces_go_both_ways():
    model = riggable_head()
    controls = {control.name: control for control in controls_of(model)}
    assert controls["beta.0"].low == -3 and "beta.4" not in controls
    assert (controls["jawOpen"].low, controls["jawOpen"].high) == (-3.0, 3.0)  # it has no bounds
    assert "pose.jaw" in controls and random_code(model, 1).expression.shape[-1] == model.expressions


@pytest.mark.parametrize(
    ("name", "words"),
    [("mouthSmile_L", "Mouth smile left"), ("eyeBlinkRight", "Eye blink right"), ("psi_12", "Psi 12")],
)
def test_names_are_spoken(name, words):
    assert spoken(name) == words


def test_a_rotated_light_shines_on_rotated_normals_alike():
    generator = torch.Generator().manual_seed(0)
    light = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    rotation = roma.rotvec_to_rotmat(torch.randn(3, generator=generator, dtype=torch.float64))
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator, dtype=torch.float64), dim=-1)
    turned = rotated_light(light, rotation)
    torch.testing.assert_close(sh_basis(normals @ rotation.mT) @ turned, sh_basis(normals) @ light)
    torch.testing.assert_close(rotated_light(turned, rotation.mT), light)


def test_light_from_the_front_turns_to_the_subjects_left_and_up():
    light = torch.zeros(9, 3)
    light[3] = 1.0  # along +Z
    left = edited_light(light, LightEdit(turn=math.pi / 2))
    torch.testing.assert_close(left[1], torch.ones(3), atol=1e-5, rtol=0)  # along +X
    up = edited_light(light, LightEdit(rise=math.pi / 2))
    torch.testing.assert_close(up[2], torch.ones(3), atol=1e-5, rtol=0)  # along +Y
    assert torch.equal(edited_light(light, LightEdit(brightness=2.0)), 2 * light)
    assert torch.equal(edited_light(light, LightEdit()), light)
