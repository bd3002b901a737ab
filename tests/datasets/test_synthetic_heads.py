"""Synthetic people: chance, truth, labels, files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads, read_shard, write_shards
from headlab.datasets.synthetic.expressions import ANCHORS, EMOTIONS, draw_expression
from headlab.datasets.synthetic.scene import _lobe
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.default import load_default_head
from headlab.geometry.raster import shade_sh


@pytest.fixture(scope="module")
def heads():
    return SyntheticHeads(load_default_head(), SyntheticConfig(size=64, seed=7))


@pytest.fixture(scope="module")
def batch(heads):
    return heads.batch(range(8, 20))


def test_a_sample_depends_on_its_number_alone(heads, batch):
    again = heads.batch([13, 9])
    assert (again.images[0].int() - batch.images[5].int()).abs().float().mean() < 0.05
    torch.testing.assert_close(again.landmarks[1], batch.landmarks[1])
    other = SyntheticHeads(heads.model, SyntheticConfig(size=64, seed=8)).batch([13])
    assert (other.images[0].int() - batch.images[5].int()).abs().float().mean() > 10


def test_pictures_of_one_person_share_the_face_and_nothing_else(batch):
    assert batch.person.tolist() == [i // 4 for i in range(8, 20)]
    for field in ("shape", "albedo"):
        values = getattr(batch.codes, field)
        assert bool((values[:4] == values[0]).all()) and not bool((values[4] == values[0]).any())
    assert not torch.allclose(batch.codes.rotation[0], batch.codes.rotation[1], atol=1e-3)


def test_codes_and_camera_reproduce_landmarks_and_depth(heads, batch):
    model = heads.model
    vertices = model.vertices(batch.codes)
    points = model.landmarks3d(vertices, "478")
    torch.testing.assert_close(batch.camera.project(points), batch.landmarks, atol=2e-3, rtol=0)
    depth = batch.camera.to_camera(points)[..., 2]
    # Hardly a landmark lies before the nearest surface (at an outline the pixel's centre may miss what it is on).
    pixel = batch.landmarks.floor().long().clamp(0, 63)
    rows = torch.arange(len(pixel))[:, None]
    seen = batch.maps.depth[rows, pixel[..., 1], pixel[..., 0]]
    hit = seen > 0
    assert hit.float().mean() > 0.9
    behind = (depth - seen)[hit]
    assert behind.quantile(0.02) > -0.02 and behind.abs().median() < 2e-3


def test_maps_belong_together(batch):
    maps, inside = batch.maps, batch.maps.depth > 0
    assert bool((maps.mask <= inside).all())
    torch.testing.assert_close(maps.normal.norm(dim=1)[inside], torch.ones(int(inside.sum())))
    assert bool((maps.albedo.movedim(1, -1)[~inside] == 0).all())
    share = maps.mask.mean((1, 2))
    assert 0.1 < float(share.min()) and float(share.max()) < 0.95


def test_crops_are_upright_up_to_the_faults_drawn(heads):
    points = heads.batch(range(32)).landmarks
    across = points[:, 263] - points[:, 33]
    down = points[:, [61, 291]].mean(1) - points[:, [33, 263]].mean(1)
    angle = torch.atan2(across[:, 1] - down[:, 0], across[:, 0] + down[:, 1])
    assert angle.abs().max() < 0.3 and 0.04 < angle.std() < 0.11
    box = (points.amax(1) - points.amin(1)).amax(-1) / 64
    assert abs(float(box.mean()) * 1.35 - 1) < 0.05


def test_labels_follow_the_rule_and_sides_move_together():
    model = load_default_head()
    draws = [
        draw_expression(np.random.default_rng(i), model.expression_names, np.ones(model.expressions))
        for i in range(600)
    ]
    psi = np.stack([d.psi for d in draws])
    assert psi.min() >= 0 and psi.max() <= 1
    assert {d.emotion for d in draws} == set(range(len(EMOTIONS)))
    for d in draws:
        cross = d.valence_arousal[0] * ANCHORS[d.emotion][1] - d.valence_arousal[1] * ANCHORS[d.emotion][0]
        assert abs(cross) < 1e-9 and np.linalg.norm(d.valence_arousal) <= np.linalg.norm(ANCHORS[d.emotion]) + 1e-9
    place = {name: i for i, name in enumerate(model.expression_names)}
    for name in ("browDown", "eyeBlink", "eyeWide", "mouthFrown"):
        left, right = psi[:, place[name + "Left"]], psi[:, place[name + "Right"]]
        assert np.corrcoef(left, right)[0, 1] > 0.7
    happy = np.array([d.emotion == 1 for d in draws])
    assert psi[happy, place["mouthSmileLeft"]].mean() > 4 * psi[~happy, place["mouthSmileLeft"]].mean()


def test_models_without_arkit_actions_have_no_label():
    draw = draw_expression(np.random.default_rng(0), ("e0", "e1"), np.array([1.0, 2.0]))
    assert draw.emotion == -1 and np.isnan(draw.valence_arousal).all() and draw.psi.shape == (2,)


def test_a_lamp_lights_what_faces_it_like_a_cosine():
    direction = np.array([2.0, -1.0, 2.0]) / 3
    light = torch.from_numpy(np.repeat(_lobe(direction)[:, None], 3, 1))
    for angle in (0.0, 0.7, 1.4, 2.5):
        side = np.cross(direction, [0, 1, 0])
        normal = math.cos(angle) * direction + math.sin(angle) * side / np.linalg.norm(side)
        got = float(shade_sh(torch.from_numpy(normal), light)[0])
        assert abs(got - max(0.0, math.cos(angle))) < 0.07  # degree 2 of the clamped cosine


def test_shards_go_on_where_they_stopped(heads, tmp_path):
    first = list(write_shards(heads, tmp_path, range(2), shard=8, batch=4))
    before = [path.read_bytes() for path in first]
    first[0].unlink()
    assert list(write_shards(heads, tmp_path, range(2), shard=8, batch=4)) == first
    assert first[1].read_bytes() == before[1]
    got, want = read_shard(first[1]), heads.batch(range(8, 16))
    assert got.index.tolist() == list(range(8, 16))
    torch.testing.assert_close(got.codes.shape, want.codes.shape)
    torch.testing.assert_close(
        got.camera.project(torch.zeros(8, 1, 3) - 1), want.camera.project(torch.zeros(8, 1, 3) - 1)
    )
    torch.testing.assert_close(got.maps.normal, want.maps.normal, atol=1e-3, rtol=0)
    first[0].write_bytes(before[0][:1000])
    with pytest.raises(HeadlabError, match="write it again"):
        read_shard(first[0])


def test_senseless_configurations_are_refused(heads):
    with pytest.raises(HeadlabError, match="at least 16"):
        SyntheticHeads(heads.model, SyntheticConfig(size=4), heads.albedo)
    with pytest.raises(HeadlabError, match="lips"):
        SyntheticHeads(replace(heads.model, regions={"face": heads.model.regions["face"]}), heads.config, heads.albedo)
