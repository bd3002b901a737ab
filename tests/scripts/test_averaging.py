"""The average of weights and the learning rate of the recipes, against their closed forms."""

import pytest
import torch

from headlab.scripts.recipes.averaging import cosine_rate, follow


def test_rate_rises_and_falls():
    assert cosine_rate(2e-3, 0, 0.0, 200) == pytest.approx(1e-5)
    assert cosine_rate(2e-3, 199, 0.0, 200) == pytest.approx(2e-3)
    assert cosine_rate(2e-3, 1000, 0.5, 200) == pytest.approx(2e-3 * 0.505)
    assert cosine_rate(2e-3, 1000, 1.0, 200) == cosine_rate(2e-3, 1000, 1.2, 200) == pytest.approx(2e-5)


def test_average_follows():
    net = torch.nn.BatchNorm1d(1)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        net.weight.fill_(3.0)
        net.num_batches_tracked.fill_(7)
    follow(average, net, 20)
    assert float(average["weight"]) == pytest.approx(2.0)  # half of the way from 1 to 3
    assert int(average["num_batches_tracked"]) == 7
    follow(average, net, 10**6)
    assert float(average["weight"]) == pytest.approx(2.0 + 0.002)
