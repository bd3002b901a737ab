"""Expressions by name and by feeling."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.emotions import ANGLES, CATEGORIES, category, expression_of, is_category, valence_arousal


def test_categories_hold_the_published_action_units(default_head: HeadModel) -> None:
    assert len(CATEGORIES) == 8 and category("neutral") == {}
    for name in CATEGORIES:
        actions = category(name)
        assert set(actions) <= set(default_head.expression_names) and all(0 < w <= 1 for w in actions.values())
    assert {"mouthSmileLeft", "cheekSquintRight"} <= set(category("happy"))
    assert {"browInnerUp", "browDownLeft", "mouthFrownLeft"} <= set(category("sad"))
    assert {"browInnerUp", "browOuterUpLeft", "eyeWideLeft", "jawOpen"} <= set(category("surprise"))
    assert set(category("contempt")) == {"mouthSmileRight", "mouthDimpleRight"}  # one-sided
    assert category("Happiness") == category("happy") and is_category("ANGRY") and not is_category("p01.jpg")


def test_strength_scales_within_bounds() -> None:
    half, full = category("fear", 0.5), category("fear")
    assert all(half[name] == pytest.approx(full[name] / 2) for name in full)
    assert max(category("happy", 3.0).values()) == 1


def test_feelings_are_continuous_and_meet_the_categories() -> None:
    assert all(weight == 0 for weight in valence_arousal(0.0, 0.0).values())
    for name, angle in ANGLES.items():
        if is_category(name):
            turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
            found = valence_arousal(float(turn.cos()), float(turn.sin()))
            for action, weight in category(name).items():
                assert found[action] == pytest.approx(weight, abs=1e-6)
    previous: dict[str, float] | None = None
    for step in range(721):
        turn = torch.deg2rad(torch.tensor(step / 2, dtype=torch.float64))
        found = valence_arousal(0.7 * float(turn.cos()), 0.7 * float(turn.sin()))
        if previous is not None:
            assert max(abs(found.get(k, 0) - previous.get(k, 0)) for k in {*found, *previous}) < 0.05
        previous = found
    assert valence_arousal(0.8, 0.3)["mouthSmileLeft"] > 0.5 > valence_arousal(-0.8, 0.3).get("mouthSmileLeft", 0)


def test_wrong_names_and_points_are_refused() -> None:
    with pytest.raises(HeadlabError, match="the categories are neutral, happy"):
        category("bored")
    for point in ((1.2, 0.0), (0.0, float("nan"))):
        with pytest.raises(HeadlabError, match="from -1 to 1"):
            valence_arousal(*point)
    with pytest.raises(HeadlabError, match="has no action jawOpen"):
        expression_of({"jawOpen": 0.5}, ("expr0", "expr1"), "flame2023")
    assert expression_of({"b": 0.5}, ("a", "b")).tolist() == [0, 0.5]
