"""Losses against upstream's values; properties the numbers alone do not show."""

import json
from typing import get_args

import pytest
import torch
from torch import Tensor

from headlab.geometry.regress.codes import DecaCode
from headlab.geometry.regress.losses import mediapipe, pair_distance
from headlab.geometry.regress.losses.albedo import albedo_constancy_loss
from headlab.geometry.regress.losses.code_priors import code_prior, grey_light_prior
from headlab.geometry.regress.losses.displacement import displacement_prior, hidden_texels, symmetry_loss
from headlab.geometry.regress.losses.exchange import doubled, exchange_detail, exchange_order, exchange_shape
from headlab.geometry.regress.losses.id_mrf import id_mrf_loss, id_mrf_of_features
from headlab.geometry.regress.losses.landmarks import landmark_loss, landmark_weights
from headlab.geometry.regress.losses.laplacian import laplacian_loss
from headlab.geometry.regress.losses.photometric import Normalization, photometric_loss
from headlab.geometry.regress.losses.shading import smooth_loss, white_loss
from headlab.geometry.regress.losses.vertices import vertex_distance
from headlab.geometry.regress.losses.weights import DecaLossWeights

WEIGHTS = DecaLossWeights()


def ours(d: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every loss of the golden file, by its name there."""
    predicted, target, seen = d["predicted_landmarks"], d["gt_landmarks"], d["gt_landmarks_visibility"]
    weights = landmark_weights()
    eyes, lips, corners = (
        pair_distance.pair_distance_loss(predicted, target, pairs)
        for pairs in (pair_distance.EYELIDS, pair_distance.LIPS, pair_distance.MOUTH_CORNERS)
    )
    image, rendered, mask = d["image"], d["rendered"], d["mask"]
    mp = d["mediapipe_predicted"], d["mediapipe_gt"]
    return {
        "landmark_loss": landmark_loss(predicted, target),
        "landmark_loss_tensor": landmark_loss(predicted, seen[..., :2], seen[..., 2]),
        "weighted_landmark_loss": landmark_loss(predicted, seen[..., :2], seen[..., 2], weights),
        "weighted_landmark_loss_second_call_same_tensor": landmark_loss(
            predicted, seen[..., :2], seen[..., 2], weights**2
        ),
        "eye_distance_loss": eyes,
        "lip_distance_loss": lips,
        "l2_distance": vertex_distance(predicted, target),
        "photometric_loss": photometric_loss(rendered, image, mask),
        "shape_reg": WEIGHTS.shape * code_prior(d["shape"]),
        "expression_reg": WEIGHTS.expression * code_prior(d["exp"]),
        "tex_reg": WEIGHTS.albedo * code_prior(d["tex"]),
        "light_reg": WEIGHTS.grey_light * grey_light_prior(d["light"]),
        "shading_smooth_loss": smooth_loss(image),
        "shading_white_loss": white_loss(image),
        "albedo_constancy_loss": albedo_constancy_loss(image),
        "laplacian_hq_loss": laplacian_loss(rendered, image),
        "z_reg": WEIGHTS.displacement * displacement_prior(d["uv_z"]),
        "z_sym": WEIGHTS.symmetry * symmetry_loss(d["uv_z"], hidden_texels(d["uv_vis_mask"])),
        "id_mrf_of_one_feature_pair": id_mrf_of_features(d["mrf_generated"], d["mrf_target"]),
        "emoca_landmark_loss": landmark_loss(predicted, target),
        "emoca_weighted_landmark_loss_2d": landmark_loss(predicted, target, None, weights),
        "emoca_mouth_corner_loss": corners,
        "emoca_eye_distance_loss": eyes,
        "emoca_lip_distance_loss": lips,
        "emoca_mediapipe_landmark_loss": mediapipe.mediapipe_landmark_loss(*mp),
        "emoca_mediapipe_eye_distance_loss": mediapipe.mediapipe_distance_loss(*mp, mediapipe.UPSTREAM_EYELIDS),
        "emoca_mediapipe_lip_distance_loss": mediapipe.mediapipe_distance_loss(*mp, mediapipe.LIPS),
        "emoca_mediapipe_mouth_corner_loss": mediapipe.mediapipe_distance_loss(*mp, mediapipe.MOUTH_CORNERS),
        **{
            f"emoca_photometric_{name}": photometric_loss(rendered, image, mask, name)
            for name in get_args(Normalization)
        },
    }


def test_all_losses(golden) -> None:
    data = golden("losses")
    expected = {key.removeprefix("loss_"): value for key, value in data.items() if key.startswith("loss_")}
    values = ours(data)
    assert values.keys() == expected.keys()
    for name, value in values.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=2e-6), name


def test_parts_of_losses(golden, parity) -> None:
    data = golden("losses")
    assert torch.equal(landmark_weights(), data["landmark_weights"])
    for pairs, key in ((pair_distance.EYELIDS, "eye_distances"), (pair_distance.LIPS, "lip_distances")):
        assert torch.allclose(pair_distance.pair_distances(data["predicted_landmarks"], pairs), data[key], atol=1e-6)
    assert torch.equal(hidden_texels(data["uv_vis_mask"]), data["uv_nonvisible_mask"])
    listed = json.loads((parity / "losses.json").read_text())["mediapipe_eyelid_pairs_that_upstream_really_compares"]
    assert [list(pair) for pair in mediapipe.UPSTREAM_EYELIDS] == listed


def test_embedding_order(parity) -> None:
    import numpy as np

    with np.load(parity / "mediapipe_landmark_embedding.npz") as file:
        assert tuple(file["landmark_indices"].tolist()) == mediapipe.MEDIAPIPE_105


def test_landmark_loss_changes_nothing_of_its_callers(golden) -> None:
    data = golden("losses")
    visible = data["gt_landmarks_visibility"][..., 2].clone()
    before = visible.clone()
    first, second = (
        landmark_loss(data["predicted_landmarks"], data["gt_landmarks"], visible, landmark_weights()) for _ in range(2)
    )
    assert torch.equal(visible, before)
    assert torch.equal(first, second)


def test_eyelid_pairs_lie_above_each_other(shared) -> None:
    """On MediaPipe's canonical face the right pairs are close in x, upstream's are not."""
    import numpy as np

    with np.load(shared / "data/mediapipe_canonical.npz") as file:
        points = torch.from_numpy(file["vertices"] if "vertices" in file else file[file.files[0]]).double()

    def aside(pairs: pair_distance.Pairs) -> float:
        return max(abs(float(points[a, 0] - points[b, 0])) for a, b in pairs)

    assert aside(mediapipe.EYELIDS) < 0.4 * aside(mediapipe.UPSTREAM_EYELIDS)


def test_unknown_normalization(golden) -> None:
    data = golden("losses")
    with pytest.raises(Exception, match="normalization"):
        photometric_loss(data["rendered"], data["image"], data["mask"], "nonsense")  # pyright: ignore


def test_id_mrf_of_the_same_pictures_is_least(golden) -> None:
    target = golden("losses")["mrf_target"][:, :3]

    def features(x: Tensor) -> dict[str, Tensor]:
        return {"relu3_2": x, "relu4_2": x * 2 + 1}

    same = id_mrf_loss(target, target, features)
    assert float(same) < float(id_mrf_loss(golden("losses")["mrf_generated"][:, :3], target, features))
    # relu4_2 counts as style and as content.
    parts = [float(id_mrf_of_features(x, x)) for x in features(target).values()]
    assert float(same) == pytest.approx(parts[0] + 2 * parts[1], rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: landmark_loss(x[:, :68, :2], x[:, :68, 2:]),
        lambda x: pair_distance.pair_distance_loss(x[..., :2], x[..., 2:], pair_distance.EYELIDS),
        lambda x: code_prior(x.flatten(1)),
        lambda x: vertex_distance(x[..., :3], x[..., 1:]),
    ],
)
def test_gradients(loss) -> None:
    torch.manual_seed(1)
    assert torch.autograd.gradcheck(loss, (torch.rand(2, 70, 4, dtype=torch.float64, requires_grad=True),))


def code(items: int) -> DecaCode:
    torch.manual_seed(0)
    sizes = {"shape": (100,), "texture": (50,), "expression": (50,), "pose": (6,), "camera": (3,), "light": (9, 3)}
    return DecaCode(**{k: torch.randn(items, *v) for k, v in sizes.items()}, detail=torch.randn(items, 128))


def test_exchange_is_upstreams(golden) -> None:
    data = golden("losses")
    swapped = doubled(data["consistency_shape_codes"], data["consistency_order"])
    assert torch.equal(swapped, data["consistency_exchanged"])


def test_exchange_stays_within_a_person() -> None:
    order = exchange_order(4, 3, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(12))
    assert torch.equal(order // 3, torch.arange(12) // 3)
    own = code(12)
    shape, detail = exchange_shape(own, order), exchange_detail(own, order)
    assert torch.equal(shape.shape[12:], own.shape[order])
    assert torch.equal(shape.expression[12:], own.expression)
    assert detail.detail is not None and own.detail is not None
    assert torch.equal(detail.detail[12:], own.detail[order])
    assert torch.equal(detail.shape[12:], own.shape)
    with pytest.raises(ValueError, match="no detail"):
        exchange_detail(own.with_(detail=None), order)
