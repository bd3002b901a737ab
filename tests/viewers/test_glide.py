"""Values between two positions of a slider."""

import pytest

from headlab.viewers.glide import Glide


def test_values_move_evenly_and_arrive():
    now = [0.0]
    glide = Glide(0.05, lambda: now[0])
    assert glide.step() == {} == glide.finish()
    glide.send("jaw", 1.0, 3.0)
    seen = []
    for now[0] in (0.0, 0.0125, 0.025, 0.05, 0.06):
        seen.append(glide.step().get("jaw"))
    assert seen == [1.0, pytest.approx(1.5), pytest.approx(2.0), 3.0, None]


def test_a_new_goal_replaces_the_old_one_and_others_stay():
    now = [0.0]
    glide = Glide(0.1, lambda: now[0])
    glide.send("jaw", 0.0, 1.0)
    glide.send("nod", 5.0, 6.0)
    now[0] = 0.05
    glide.send("jaw", 0.5, 0.0)
    assert glide.step() == {"jaw": 0.5, "nod": pytest.approx(5.5)}
    assert glide.finish() == {"jaw": 0.0, "nod": 6.0} and glide.step() == {}
