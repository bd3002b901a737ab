"""Networks users bring weights for: their authors' key names and shapes, and what they compute."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.emonet import EmoNet, emonet_from
from headlab.heads.metrics.inception import Inception, inception_from


@pytest.fixture(scope="module")
def inception():
    torch.manual_seed(0)
    return Inception().eval()


def test_inception_has_the_published_keys_and_sizes(inception):
    state = inception.state_dict()
    # torchvision's trunk has 21 785 568 parameters; the last layer, of 1008 classes here, is counted apart.
    trunk = sum(v.numel() for n, v in inception.named_parameters() if not n.startswith("fc."))
    assert trunk == 21_785_568
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6a.branch3x3dbl_3.bn.running_var": (96,),
        "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    }.items():
        assert tuple(state[name].shape) == shape


def test_inception_loads_and_says_what_is_missing(inception):
    state = inception.state_dict()
    with torch.inference_mode():
        picture = torch.rand(1, 3, 40, 50)
        features, logits = inception(picture)
        again = inception_from(state | {"AuxLogits.fc.bias": torch.zeros(1000)})(picture)[0]
    assert features.shape == (1, 2048) and logits.shape == (1, 1008)
    assert torch.equal(features, again)
    state = {n: v for n, v in state.items() if n != "Mixed_6e.branch1x1.bn.weight"}
    with pytest.raises(HeadlabError, match=r"Mixed_6e\.branch1x1\.bn\.weight"):
        inception_from(state)


def test_pools_leave_out_the_padding(inception):
    block = inception.Mixed_5b
    ones = torch.ones(1, 192, 5, 5)
    with torch.inference_mode():
        pooled = block(ones)[:, -32:]
    # A constant picture stays constant: with padding counted, its border would differ.
    assert torch.allclose(pooled, pooled[..., 2:3, 2:3].expand_as(pooled), atol=1e-6)


@pytest.mark.parametrize("classes", [5, 8])
def test_emonet_loads_its_authors_keys(classes):
    torch.manual_seed(classes)
    net = EmoNet(classes).eval()
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    assert {"module.m1.b2_plus_1.conv3.weight", "module.al0.weight", "module.emo_net_2.6.bn1.weight"} <= set(state)
    assert not any("bl1" in name for name in state)
    crops = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        one, two = net(crops), emonet_from(state)(crops)
    assert one.scores.shape == (1, classes) and torch.equal(one.scores, two.scores)
    assert float(one.valence.abs()) <= 1
    with pytest.raises(HeadlabError, match=r"conv4\.conv2\.weight"):
        emonet_from({n: v for n, v in state.items() if "conv4.conv2" not in n})
    with pytest.raises(HeadlabError, match="not EmoNet"):
        emonet_from({"conv1.weight": torch.zeros(1)})
