"""Pairs of pictures of one moment with two faces."""

import pytest
import torch

from headlab.datasets.synthetic import EditPairs, PairConfig, read_pairs, write_pairs
from headlab.datasets.synthetic.pairs import FARTHER, NEARER, TENSORS, depth_of, nearness
from headlab.geometry.errors import HeadlabError


@pytest.fixture(scope="module")
def pairs(default_head):
    return EditPairs(default_head, PairConfig(size=32, seed=7))


@pytest.fixture(scope="module")
def batch(pairs):
    return pairs.batch(range(6))


def test_a_pair_depends_on_its_index_alone(pairs, batch):
    alone = pairs.batch([4])
    for name in TENSORS:
        one, same = (x.double().nan_to_num() for x in (getattr(alone, name)[0], getattr(batch, name)[4]))
        # Products of matrices round otherwise in batches of another size: a vertex on a pixel's edge may fall outside.
        assert float((one - same).abs().mean()) <= 1e-3 * float(same.abs().max()), name
    for name, value in alone.codes.arrays().items():
        torch.testing.assert_close(value[0], batch.codes.arrays()[name][4], atol=1e-6, rtol=0)


def test_two_pairs_show_one_person(batch):
    assert batch.person.tolist() == [0, 0, 1, 1, 2, 2]
    shape = batch.codes.shape
    assert torch.equal(shape[0], shape[1]) and not torch.equal(shape[1], shape[2])
    assert not torch.equal(batch.codes.rotation[0], batch.codes.rotation[1])  # at two moments


def test_only_the_face_differs(batch):
    codes = batch.codes
    for name in ("shape", "rotation", "translation", "albedo", "light", "neck"):
        value = getattr(codes, name)
        assert torch.equal(value[:, 0], value[:, 1]), name
    assert bool((codes.expression[:, 0] != codes.expression[:, 1]).any(-1).all())
    first, second = batch.images.float().unbind(1)
    outside = (batch.surface == 0).all(1)
    moved = (first - second).abs().amax(1)
    assert float(outside.float().mean()) > 0.02
    # Exposure's blur carries a little over the edge.
    assert float(moved[outside].mean()) < 1
    assert float(moved[batch.mask.amin(1) > 0].mean()) > 1


def test_maps_agree_with_each_other(batch):
    covered = batch.head > 0
    assert bool((batch.surface >= batch.head - 2e-3).all())  # hair and glasses lie before the skin
    inside = batch.mask == 255
    assert torch.equal(covered, batch.mask > 0)
    length = (batch.normal.float() / 127).norm(dim=2)
    assert float(length[inside].mean()) > 0.9 and float(length[~covered].abs().max()) == 0
    assert float(batch.albedo.float().movedim(2, -1)[~covered].abs().max()) == 0
    assert batch.pictures().shape == (6, 2, 4, 32, 32)
    assert float(batch.pictures(bare=True)[:, :, 3].max()) <= 1


def test_the_camera_sees_the_head_where_the_maps_show_it(default_head, batch):
    code = batch.codes[2]
    points = default_head.landmarks3d(default_head.vertices(code[0]), "478")
    pixels = batch.camera.project(points.expand(6, -1, -1))[2]
    nose = pixels[4].round().long()
    assert int(batch.mask[2, 0, nose[1], nose[0]]) == 255
    depth = depth_of(batch.head[2, 0].float(), batch.distance[2])
    behind = batch.camera.to_camera(points.expand(6, -1, -1))[2, 4, 2]
    assert abs(float(depth[nose[1], nose[0]] - behind)) < 0.01


def test_nearness_is_invertible():
    depth = torch.tensor([[0.0, 0.9, 1.0, 1.1, 1.2]])[:, None].expand(1, 2, 5)
    near = nearness(depth, torch.tensor([1.0]))
    assert near[0, 0, 0] == 0 and near[0, 0, 1] == 1
    assert float(near[0, 0, 2]) == pytest.approx(FARTHER / (FARTHER + NEARER))
    torch.testing.assert_close(depth_of(near, torch.tensor([1.0])), depth, atol=1e-6, rtol=0)


def test_shards_hold_what_was_made_and_go_on(pairs, tmp_path):
    paths = list(write_pairs(pairs, tmp_path, range(2), shard=2, batch=2))
    read, made = read_pairs(paths[1]), pairs.batch([2, 3])
    for name in TENSORS:
        assert torch.equal(getattr(read, name).nan_to_num(), getattr(made, name).nan_to_num()), name
    assert torch.equal(read.codes.expression, made.codes.expression) and torch.equal(read.camera.K, made.camera.K)
    assert len(read[torch.tensor([1])]) == 1
    stamp = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    list(write_pairs(pairs, tmp_path, range(2), shard=2, batch=2))
    assert paths[0].stat().st_mtime_ns == stamp and paths[1].is_file()
    paths[1].write_bytes(b"nothing")
    with pytest.raises(HeadlabError, match="no shard of pairs"):
        read_pairs(paths[1])


def test_a_senseless_configuration_is_refused(default_head):
    with pytest.raises(HeadlabError, match="supersampling"):
        EditPairs(default_head, PairConfig(supersampling=0))
