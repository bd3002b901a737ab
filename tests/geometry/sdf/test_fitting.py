"""Fitting to point clouds: the authors' steps from their states, their schedule, and a round trip."""

import json
from pathlib import Path

import nphm
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.fitting import FitConfig, fit_point_clouds, fit_step
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_authors_steps(folder: Path, number: int) -> None:
    golden = nphm.golden(folder, "fitting")
    expected = json.loads((folder / "fitting.json").read_text())
    identity, expression = nphm.identity(folder), nphm.expression(folder, "compress")
    state = {key.split("/")[1]: value for key, value in golden.items() if key.startswith(f"step{number}/")}
    latent = state["lat_shape"][0, 0].clone().requires_grad_()
    codes = state["lat_expr"][:, 0].clone().requires_grad_()
    which = state["obs_index"]
    clouds = [golden["obs0"], golden["obs1"]]
    points = torch.stack([clouds[int(o)][i] for o, i in zip(which, state["point_index"], strict=True)])
    config = FitConfig()
    step = fit_step(identity, expression, latent, codes[which], points, config.limit_at(number), share=0.0)
    wanted = expected["steps"][number]
    assert step.converged == wanted["n_converged"]
    for name, value in wanted["terms"].items():
        assert float(step.terms[name].detach()) == pytest.approx(value, rel=3e-6, abs=1e-9), name
    loss = step.total(config.weights_at(number))
    of_identity, of_expression = torch.autograd.grad(loss, (latent, codes))
    for ours, theirs in (
        (of_identity, state["grad_shape"][0, 0]),
        (of_expression, state["grad_expr"][:, 0]),
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-5
    assert config.rate_at(number) == float(state["lr_shape"])


def test_the_schedule_is_the_authors(folder: Path) -> None:
    expected = json.loads((folder / "fitting.json").read_text())
    config = FitConfig()
    start = config.weights_at(0)
    assert {name: getattr(start, name) for name in expected["lambdas"]} == pytest.approx(expected["lambdas"])
    names = {"symm_dist": "symm_dist", "reg_glob": "reg_global", "reg_loc": "reg_loc", "reg_expr": "reg_expr"}
    for step in range(0, 1000, 50):
        for theirs, ours in names.items():
            value = expected["lambdas"][ours]
            for at, by in expected["schedule_divide_at_step"][theirs].items():
                value /= by if step >= int(at) else 1
            assert getattr(config.weights_at(step), ours) == pytest.approx(value)
    assert [config.limit_at(step) for step in (0, 250, 251, 500, 501)] == [0.1, 0.1, 0.05, 0.05, 0.0075]
    assert [config.rate_at(step) for step in (0, 200, 999)] == pytest.approx([0.01, 0.005, 0.01 / 16])
    assert FitConfig(steps=100).weights_at(60) == config.weights_at(600)


def test_fitting_descends_and_repeats_itself() -> None:
    torch.manual_seed(3)
    layout = EnsembleLayout(anchors=5, pairs=2, latent_global=4, latent_local=2)
    anchors = torch.rand(5, 3) * 0.4 - 0.2
    field = IdentityField(IdentityConfig(layout, 24, 4, 8), anchors).requires_grad_(False)
    cloud = torch.nn.functional.normalize(torch.randn(400, 3), dim=-1) * 0.1
    cloud = cloud + anchors.mean(0)
    fit = fit_point_clouds(
        field, None, [cloud], FitConfig(steps=40, observations=1, points=200), torch.Generator().manual_seed(0)
    )
    assert fit.expressions is None and len(fit.history) == 40
    assert fit.history[-1]["surface"] <= fit.history[0]["surface"] + 1e-6
    again = fit_point_clouds(
        field, None, [cloud], FitConfig(steps=40, observations=1, points=200), torch.Generator().manual_seed(0)
    )
    assert torch.equal(fit.identity, again.identity)


def test_bad_clouds_are_said(folder: Path) -> None:
    field = nphm.identity(folder)
    draws = torch.Generator()
    for clouds, complaint in (
        ([], "no point cloud"),
        ([torch.zeros(10, 3)], "10 points"),
        ([torch.full((100, 3), torch.nan)], "NaN"),
        ([torch.rand(100, 3) * 200], "unit of 250 mm"),
    ):
        with pytest.raises(HeadlabError, match=complaint):
            fit_point_clouds(field, None, clouds, FitConfig(steps=1), draws)
