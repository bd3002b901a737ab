"""The remade NPHM table: what its rows are tried on, and how its pieces come together."""

from pathlib import Path

import pytest
import torch

from headlab.geometry.files import write_json
from headlab.geometry.sdf.registered import RegisteredHeads
from headlab.scripts.bench.nphm_edited import EditConfig, edited_heads
from headlab.scripts.bench.nphm_rows import Settings, linear_config
from headlab.scripts.bench.nphm_table import Args, gathered


def plane(side: int = 41) -> RegisteredHeads:
    """A square of 250 mm that looks forwards."""
    line = torch.linspace(-0.5, 0.5, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).flatten(0, 1)
    at = torch.arange(side * side).view(side, side)
    a, b, c, d = (part.flatten() for part in (at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]))
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)])
    none = vertices.new_zeros(1, 0, len(vertices), 3)
    return RegisteredHeads(
        vertices[None], none, (), faces, torch.ones(len(faces), dtype=torch.bool), vertices[None, :4]
    )


def test_one_bump_is_a_gaussian_along_the_normal() -> None:
    config = EditConfig(bumps=1, width=(20.0, 20.0), height=(3.0, 3.0))
    heads = plane()
    moved = (edited_heads(heads, config, 5).canonical - heads.canonical)[0] * 250
    assert bool((moved[:, :2] == 0).all())
    centre = int(moved[:, 2].abs().argmax())
    assert float(moved[centre, 2].abs()) == pytest.approx(3.0, rel=1e-5)
    distance = 250 * (heads.canonical[0] - heads.canonical[0, centre]).norm(dim=-1)
    torch.testing.assert_close(moved[:, 2].abs(), 3.0 * torch.exp(-0.5 * (distance / 20) ** 2), atol=1e-4, rtol=0)
    assert float(heads.canonical[0, centre, 1]) > config.lowest / 250


def test_edits_follow_from_their_seed() -> None:
    heads = plane()
    one, same, other = (edited_heads(heads, EditConfig(), seed).canonical for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("last", [0.002, 0.0007])
def test_the_linear_fit_narrows_down_to_the_last_sigma(last: float) -> None:
    noise = linear_config(last).noise
    assert list(noise) == sorted(noise, reverse=True)
    assert noise[-3:] == (last,) * 3


def test_pieces_of_other_settings_do_not_count(tmp_path: Path) -> None:
    score = {"chamfer_l1": 1.0, "normal_consistency": 0.9, "f_score_1": 0.5, "f_score_1.5": 0.6}
    for number, (points, distance) in enumerate([(5000, 1.0), (5000, 3.0), (300, 50.0)]):
        found = {"head": score | {"chamfer_l1": distance}}
        setting = {"points": points, "seed": 0}
        piece = {"score": found, "failures": [], "cpu_s": 2.0, "setting": setting}
        (tmp_path / "table").mkdir(exist_ok=True)
        write_json(tmp_path / "table" / f"parametric-identity-{number:02d}.json", piece)
    table = gathered(Args(tmp_path, tmp_path, settings=Settings()))
    row = table["identity"]["parametric (default head)"]
    assert row["people"] == 2
    assert row["head"]["chamfer_l1"] == {"mean": 2.0, "sd": 1.0}
    assert row["head"]["each"] == {0: 1.0, 1: 3.0}
    assert table["setting"]["budget"] == {} and table["edited"] == {}
