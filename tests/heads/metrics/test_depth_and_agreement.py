"""Depth errors and agreement of emotions by hand-made numbers and torchmetrics."""

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.agreement import CLASSES, Confusion, agreement
from headlab.heads.metrics.depth import depth_errors


def test_depth_errors():
    true = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
    got = torch.tensor([[1.1, 2.0], [3.0, float("nan")]])
    errors = depth_errors(got, true)
    assert errors["abs_rel"] == pytest.approx(0.05, abs=1e-6)
    assert errors["rmse"] == pytest.approx(0.1 / 2**0.5, abs=1e-6)
    assert errors["coverage"] == pytest.approx(2 / 3)
    assert errors["delta1"] == 1
    assert depth_errors(torch.full((2, 2), 1.3), torch.ones(2, 2))["delta1"] == 0
    with pytest.raises(HeadlabError, match="no pixel in common"):
        depth_errors(torch.zeros(2, 2), true)
    with pytest.raises(HeadlabError, match="one size"):
        depth_errors(torch.zeros(3, 2), true)


def test_agreement_is_torchmetrics():
    from torchmetrics.functional import concordance_corrcoef, pearson_corrcoef

    rng = np.random.default_rng(0)
    a = np.tanh(rng.normal(size=200))
    b = np.tanh(0.5 * a + 0.2 + 0.4 * rng.normal(size=200))
    got = agreement(a, b)
    assert got["pcc"] == pytest.approx(float(pearson_corrcoef(torch.tensor(a), torch.tensor(b))), abs=1e-6)
    # torchmetrics divides by n - 1 where Lin's and the field's codes divide by n.
    assert got["ccc"] == pytest.approx(float(concordance_corrcoef(torch.tensor(a), torch.tensor(b))), abs=5e-3)
    assert got["sagr"] == pytest.approx((np.sign(a) == np.sign(b)).mean())
    assert agreement(a, a)["ccc"] == pytest.approx(1)
    # By hand: x = 0, 1; y = 0, 2: cov 0.5, variances 0.25 and 1, means 0.5 apart.
    assert agreement(np.array([0.0, 1]), np.array([0.0, 2]))["ccc"] == pytest.approx(2 * 0.5 / 1.5)
    with pytest.raises(HeadlabError, match="as many"):
        agreement(a, b[1:])


def test_confusion():
    true, got = np.array([0, 0, 1, 1, 1, 7]), np.array([0, 1, 1, 1, 0, 7])
    table = Confusion.of(got, true)
    assert table.counts[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert table.accuracy == pytest.approx(4 / 6)
    assert table.recall == {"neutral": 0.5, "happy": pytest.approx(2 / 3), "contempt": 1.0}
    assert table.balanced_accuracy == pytest.approx((0.5 + 2 / 3 + 1) / 3)
    assert len(CLASSES) == 8
    with pytest.raises(HeadlabError, match=r"0\.\.7"):
        Confusion.of(np.array([8]), np.array([0]))
