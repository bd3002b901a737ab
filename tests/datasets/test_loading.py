"""What training reads: the order, batches, balance, alignment, attached fits."""

import io

import cv2
import numpy as np
import pytest
import torch
from drawn_faces import drawn_face, drawn_faces, face_points
from PIL import Image

from headlab.datasets.attached_fit import fit_told, moved, read_fit
from headlab.datasets.balance import Balance, count_table, repeats, weights
from headlab.datasets.convert import ConvertConfig, convert
from headlab.datasets.ffhq_align import align_ffhq, ffhq_matrix, ffhq_quad, square_matrix
from headlab.datasets.inspection import inspect, summary
from headlab.datasets.kinds import DataSpec, open_pictures
from headlab.datasets.layouts import write_layout
from headlab.datasets.loader import LoaderConfig, SquareLoader, unit_range
from headlab.datasets.order import Order, mirrored
from headlab.datasets.picture_codec import decode_square, decode_strict
from headlab.datasets.records import EXPRESSIONS
from headlab.datasets.store_records import LmdbPictures
from headlab.datasets.store_targets import LmdbTarget, ShardTarget
from headlab.datasets.va_picture import draw_valence_arousal
from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError


def jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_every_epoch_has_every_item_once_and_is_a_function_of_the_position():
    order = Order((5, 7, 3, 9), seed=3, window=2)
    two = order[np.arange(48)]
    assert sorted(two[:24]) == sorted(two[24:]) == list(range(24))
    assert two[:24].tolist() != two[24:].tolist()
    assert np.array_equal(order[np.arange(30, 40)], two[30:40])
    assert Order((24,), shuffle=False)[np.arange(24)].tolist() == list(range(24))
    assert not np.array_equal(Order((24,), 0).epoch(0), Order((24,), 1).epoch(0))
    shards = np.searchsorted(np.cumsum((5, 7, 3, 9)), two[:24], side="right")
    assert len(set(shards[:8])) <= 2  # neighbours come from few shards


def test_ranks_share_a_step_as_one_large_batch_would():
    order = Order((40,), seed=1)
    for step in (0, 3, 7):
        large = order.batch(step, 12)
        parts = [order.batch(step, 4, rank, 3) for rank in range(3)]
        assert np.array_equal(np.concatenate(parts), large)


def test_half_of_the_items_are_mirrored():
    flips = mirrored(5, np.arange(20_000))
    assert abs(flips.mean() - 0.5) < 0.02 and np.array_equal(flips[100:200], mirrored(5, np.arange(100, 200)))
    assert (mirrored(6, np.arange(1000)) != flips[:1000]).any()


@pytest.mark.parametrize("size, flip", [(96, False), (64, True), (48, False), (24, True), (128, False)])
def test_fast_decoding_is_the_picture(size, flip):
    face = drawn_face(1).pixels
    out = np.zeros((3, size, size), np.uint8)
    assert decode_square(jpeg(face), out, flip)
    reference = decode_strict(jpeg(face), "x").resize((size, size), Image.Resampling.BOX if size < 96 else 3)
    reference = np.asarray(reference, np.float32)[:, ::-1] if flip else np.asarray(reference, np.float32)
    # Pillow's box takes whole pixels where the ratio is no whole number.
    assert np.abs(out.transpose(1, 2, 0) - reference).mean() < (3 if size == 64 else 1.5)
    if size == 96:
        assert np.abs(out.transpose(1, 2, 0) - reference).max() <= 1


def test_damaged_pictures_are_told_apart():
    data, out = jpeg(drawn_face(2).pixels), np.zeros((3, 32, 32), np.uint8)
    assert not decode_square(data[:-40], out) and not decode_square(b"", out) and not decode_square(b"x" * 99, out)
    assert not out.any()
    middle = bytearray(data)
    start = len(data) // 2
    middle[start : start + 1500] = bytes(np.random.default_rng(0).integers(0, 256, 1500, np.uint8))
    for broken in (data[:-40], b"", b"text", bytes(middle)):
        with pytest.raises(HeadlabError, match="here"):
            decode_strict(broken, "here")
    turned = io.BytesIO()
    picture = Image.fromarray(drawn_face(2).pixels[:60])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(turned, "JPEG", exif=exif)
    assert decode_strict(turned.getvalue(), "x").size == (60, 96)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_layout(root / "a", "affectnet", drawn_faces(20))
    spec = DataSpec.parse(f"affectnet:{root}/a?split=train")
    convert(spec.items(), LmdbTarget(root / "l", (64,)))
    convert(spec.items(), ShardTarget(str(root / "w"), (64,), per_shard=5))
    return root


def test_stores_files_and_shards_give_the_same_batches_and_can_go_on(store):
    order = Order((5, 5, 5, 1), seed=2)
    loaders = {
        kind: SquareLoader(open_pictures(DataSpec.parse(f"{kind}:{store}/{kind[0]}"))) for kind in ("lmdb", "wds")
    }
    batches = {}
    for kind, loader in loaders.items():
        assert loader.count == 16
        stream = loader.batches(order, 4)
        batches[kind] = [next(stream) for _ in range(6)]
        stream.close()
    later = loaders["lmdb"].batches(order, 4, start=4)
    assert torch.equal(next(later), batches["lmdb"][4])
    later.close()
    for a, b in zip(batches["lmdb"], batches["wds"], strict=True):
        assert a.shape == (4, 3, 64, 64) and torch.equal(a, b)
    first = loaders["lmdb"].batches(order, 2, start=1, rank=1, ranks=2)
    assert torch.equal(next(first), batches["lmdb"][1][2:])
    first.close()
    files = SquareLoader(open_pictures(DataSpec.parse(f"affectnet:{store}/a?split=train")))
    difference = files.load(np.arange(16)).float() - loaders["lmdb"].load(np.arange(16)).float()
    assert difference.abs().mean() < 4
    unit = unit_range(batches["lmdb"][0])
    assert unit.min() >= -1 and unit.max() <= 1
    assert torch.allclose((unit + 1) * 127.5, batches["lmdb"][0].float(), atol=1e-3)


class Holes:
    """Pictures of which one in four is missing."""

    name, counts = "holes", (8,)

    def encoded(self, indices):
        return [None if i % 4 == 1 else jpeg(drawn_face(int(i)).pixels) for i in indices]

    def lines(self):
        return iter([])


def test_pictures_that_cannot_be_read_are_replaced_and_named_or_stop():
    loader = SquareLoader(Holes(), LoaderConfig(32))
    batch = loader.load(np.arange(8))
    assert torch.equal(batch[1], batch[0]) and torch.equal(batch[5], batch[4]) and loader.report.total == 2
    loader.load(np.arange(8))
    assert loader.report.total == 2 and "holes#5" in "\n".join(loader.report.lines())
    with pytest.raises(HeadlabError, match="holes#1"):
        SquareLoader(Holes(), LoaderConfig(32, bad="stop")).load(np.arange(8))
    with pytest.raises(HeadlabError, match="none of 1"):
        SquareLoader(Holes(), LoaderConfig(32)).load(np.array([1]))


def test_balancing_evens_out_the_classes():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 5 + [-1] * 3)

    def counts(balance: Balance) -> list[int]:
        return np.bincount(labels[:75], repeats(labels, balance)[:75]).astype(int).tolist()

    assert counts(Balance("cap")) == [5, 5, 5] and counts(Balance("cap", 20)) == [20, 20, 5]
    assert counts(Balance("oversample")) == [50, 50, 50] and counts(Balance("oversample", 12)) == [12, 12, 12]
    assert counts(Balance("weights")) == [50, 20, 5] and counts(Balance()) == [50, 20, 5]
    times = repeats(labels, Balance("oversample"))
    assert times[75:].sum() == 0 and times[70:75].tolist() == [10] * 5 and set(times[50:70]) == {2, 3}
    assert np.array_equal(times, repeats(labels, Balance("oversample")))
    w = weights(labels)
    assert w[:75].mean() == pytest.approx(1) and w[70] * 5 == pytest.approx(w[0] * 50) and w[75] == 0
    order = Order((78,), repeats=repeats(labels, Balance("cap")))
    epoch = order.epoch(0)
    assert order.length == len(epoch) == len(set(epoch.tolist())) == 15
    with pytest.raises(HeadlabError, match="no item"):
        repeats(np.full(3, -1), Balance("cap"))
    with pytest.raises(HeadlabError, match="at least 1"):
        repeats(labels, Balance("cap", 0))
    table = count_table(np.array([50, 20, 5]), np.array([5, 5, 5]))
    assert "Neutral" in table[1] and table[-1].split() == ["all", "75", "15"]


def test_the_aligned_square_turns_and_grows_with_the_face():
    quad = ffhq_quad(face_points((50, 60), 10))
    side = np.hypot(*(quad[3] - quad[0]))
    for turn, scale in ((0.3, 10.0), (-1.0, 20.0)):
        other = ffhq_quad(face_points((80, 30), scale, turn))
        assert np.hypot(*(other[3] - other[0])) == pytest.approx(side * scale / 10)
        across = other[3] - other[0]
        assert np.arctan2(across[1], across[0]) == pytest.approx(turn)
    # eyes 0.9 apart, mouth 0.9 below them: the longer of 2 x 0.9 and 1.8 x 0.9, twice
    assert side == pytest.approx(2 * 2 * 0.9 * 10, rel=0.02)
    with pytest.raises(HeadlabError, match="no face"):
        ffhq_quad(np.zeros((68, 2)))


@pytest.mark.parametrize("turn", [0.0, 0.25])
def test_alignment_cuts_where_its_matrix_says(turn):
    size, points = 64, face_points((100, 110), 25, turn)
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (220, 220, 3), dtype=np.uint8), (0, 0), 6)
    cut = np.asarray(align_ffhq(Image.fromarray(pixels), points, size), np.float32)
    shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    matrix = shift @ np.vstack([ffhq_matrix(points, size), [0, 0, 1]]) @ np.linalg.inv(shift)
    warped = cv2.warpAffine(cv2.GaussianBlur(pixels, (0, 0), 1), matrix[:2], (size, size), flags=cv2.INTER_LINEAR)
    assert np.abs(cut - warped)[4:-4, 4:-4].mean() < 1.5


def test_faces_at_the_edge_are_mended():
    pixels = drawn_face(0, 200).pixels
    points = face_points((30, 40), 30)
    filled = np.asarray(align_ffhq(Image.fromarray(pixels), points, 64))
    bare = np.asarray(align_ffhq(Image.fromarray(pixels), points, 64, fill=False))
    assert (bare[:8, :8] == 0).all() and (filled[:8, :8] > 0).any()
    with pytest.raises(HeadlabError, match="outside the photo"):
        align_ffhq(Image.fromarray(pixels), face_points((900, 900), 30), 64)


def some_fit():
    torch.manual_seed(0)
    code = HeadCode.neutral(4, 3).with_(shape=torch.randn(4), light=torch.randn(9, 3))
    K = torch.tensor([[300.0, 0, 100], [0, 300, 110], [0, 0, 1]])
    return code, Camera(K, torch.diag(torch.tensor([1.0, -1, -1])), torch.tensor([0.0, 0.01, 0.6]), (220, 220))


def test_an_attached_fit_survives_json_and_moves_with_its_picture():
    import json

    code, camera = some_fit()
    told = {"fit": fit_told("default", code, camera), "points": [[100.0, 110.0]]}
    back = read_fit(json.loads(json.dumps(told)))
    assert back is not None and back.model == "default" and torch.allclose(back.code.shape, code.shape, atol=1e-5)
    world = torch.tensor([[0.02, 0.03, 0.05], [-0.04, 0.0, 0.02]])
    seen = camera.project(world).numpy()
    for matrix in (ffhq_matrix(face_points((100, 110), 25, 0.4), 64), square_matrix((220, 220), 64)):
        cut = read_fit(moved(told, matrix, 64))
        assert cut is not None and cut.camera.size == (64, 64)
        expected = seen @ matrix[:, :2].T + matrix[:, 2]
        assert cut.camera.project(world).numpy() == pytest.approx(expected, abs=2e-3)
        assert torch.allclose(cut.camera.R @ cut.camera.R.T, torch.eye(3), atol=1e-5)
    assert read_fit({}) is None
    with pytest.raises(HeadlabError, match="damaged"):
        read_fit({"fit": {"model": "x", "code": {}}, "key": "k"})


def test_inspection_counts_names_and_draws(tmp_path):
    write_layout(tmp_path, "affectnet", drawn_faces(15))
    images = tmp_path / "train_set/images"
    (images / "3.jpg").write_bytes((images / "1.jpg").read_bytes())
    (images / "4.jpg").write_bytes((images / "4.jpg").read_bytes()[:400])
    Image.open(images / "6.jpg").resize((300, 200)).save(images / "7.jpg", quality=95)
    found = inspect(DataSpec.parse(f"affectnet:{tmp_path}").items())
    assert found.items == 14 and found.faults.counts == {"unreadable": 1} and found.counts.sum() == 14
    assert found.duplicates == [["train/1", "train/3"]] and found.sizes == {(96, 96): 13, (300, 200): 1}
    assert found.splits == {"train": 11, "val": 3}
    text = "\n".join(summary(found))
    assert "train/4" in text and "duplicates: 1" in text and "300 x 200" in text
    assert found.told()["sizes"] == {"96x96": 13, "300x200": 1}
    drawn = draw_valence_arousal([(1.0, 0.0, 1), (-1.0, 0.5, EXPRESSIONS.index("Sad"))])
    assert tuple(drawn[60 + 320, 60 + 640 - 2]) != (255, 255, 255) and drawn.shape == (760, 990, 3)
    with pytest.raises(HeadlabError, match="train/4"):
        inspect(DataSpec.parse(f"affectnet:{tmp_path}").items(), policy="stop")


def test_a_store_keeps_labels_for_balancing(store):
    lines = list(LmdbPictures(store / "l").lines())
    assert len(lines) == 16 and {line["split"] for line in lines} == {"train"}
    report = convert(DataSpec.parse(f"lmdb:{store}/l").items(), LmdbTarget(store / "again", (32,)), ConvertConfig())
    assert report.written == 16
    again = list(LmdbPictures(store / "again").lines())
    assert [line["expression"] for line in again] == [line["expression"] for line in lines]
    ratio = np.array(lines[0]["points"]) / np.array(again[0]["points"])
    assert ratio == pytest.approx(np.full((68, 2), 2.0), rel=0.01)
