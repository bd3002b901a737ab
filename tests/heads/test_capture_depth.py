"""Measured depth made whole by a drawn head, and moved with it."""

import torch

from headlab.heads.capture_depth import filled_depth, filled_nearness, moved_depth

SIZE = 48


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A drawn dome, and a measurement of it: 8 cm farther away, tilted a little, with a wall behind."""
    y, x = torch.meshgrid(torch.arange(SIZE) - 23.5, torch.arange(SIZE) - 23.5, indexing="ij")
    r = (x**2 + y**2).sqrt() / 18
    drawn = torch.where(r < 1, 1.0 - 0.08 * (1 - r**2).clamp(min=0).sqrt(), 0.0)
    seen = torch.where(drawn > 0, drawn + 0.08 + 0.0002 * x, 2.0)
    return drawn, seen


def test_holes_take_the_heads_shape_where_it_was_measured() -> None:
    drawn, seen = scene()
    holed = seen.clone()
    holed[15:24, 20:33] = 0
    holed[40:45, 2:6] = 0  # on the wall: not ours to fill
    filled = filled_depth(holed, drawn)
    known = holed > 0
    assert torch.equal(filled[known], holed[known])
    assert float((filled - seen).abs()[15:24, 20:33].max()) < 0.002
    assert (filled[40:45, 2:6] == 0).all()
    assert torch.equal(filled_depth(torch.zeros_like(seen), drawn), drawn)
    spike = holed.clone()
    spike[14, 25] = 0.3  # a hand before the face says nothing about the hole
    assert float((filled_depth(spike, drawn) - seen).abs()[16:24, 20:33].max()) < 0.002


def test_nearness_likewise() -> None:
    drawn = torch.zeros(SIZE, SIZE)
    drawn[8:40, 8:40] = 0.6
    seen = torch.where(drawn > 0, 0.65, 0.0)
    seen[20:26, 20:26] = 0
    filled = filled_nearness(seen, drawn)
    torch.testing.assert_close(filled[20:26, 20:26], torch.full((6, 6), 0.65))
    assert torch.equal(filled[seen > 0], seen[seen > 0]) and (filled[:8] == 0).all()


def test_depth_moves_as_the_head_does() -> None:
    drawn, seen = scene()
    bump = torch.zeros_like(drawn)
    bump[20:28, 20:28] = -0.006
    after = moved_depth(seen, drawn, torch.where(drawn > 0, drawn + bump, 0.0))
    torch.testing.assert_close(after, seen + bump, atol=1e-6, rtol=0)
    # A jump: another surface has come into view; the measurement may show either.
    jump = torch.zeros_like(drawn)
    jump[22:25, 20:28] = 0.04
    mouth = moved_depth(seen, drawn, drawn + jump)
    torch.testing.assert_close(mouth[22:25, 20:28], (seen + jump)[22:25, 20:28], atol=0.002, rtol=0)
    torch.testing.assert_close(mouth[30:40, 15:30], seen[30:40, 15:30])


def test_outlines() -> None:
    drawn, seen = scene()
    larger = torch.where(torch.roll(drawn, 4, 1) > 0, torch.roll(drawn, 4, 1), 0.0)
    out = moved_depth(seen, drawn, larger)
    uncovered = (drawn > 0) & (larger == 0)
    covered = (drawn == 0) & (larger > 0)
    assert uncovered.any() and (out[uncovered] == 0).all()
    assert float((out - larger - 0.08)[covered].abs().max()) < 0.006
    outside = (drawn == 0) & (larger == 0)
    assert torch.equal(out[outside], seen[outside])
