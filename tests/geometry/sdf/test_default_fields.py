"""The fields that come with headlab know the heads they were trained on."""

import subprocess
import sys

import torch

from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.default_fields import WEIGHTS, load_default_fields
from headlab.geometry.sdf.model_heads import HeadsConfig, draw_people, named_expression
from headlab.geometry.sdf.registered import registered_heads


def test_they_are_small_and_have_a_card() -> None:
    assert WEIGHTS.stat().st_size < 10e6
    card = WEIGHTS.with_name("README.md").read_text()
    fields = load_default_fields()
    assert fields.kind == "NPHM" and fields.facts["source"] == "default"
    assert f"{fields.facts['heads']} people" in card and f"{fields.facts['identity_steps']} steps" in card


def test_they_give_training_heads_back(default_head: HeadModel) -> None:
    fields = load_default_fields()
    heads = registered_heads(default_head, draw_people(default_head, HeadsConfig(2, 20)), [2, 8])
    for person in range(2):
        used = heads.faces[heads.on_face].unique()
        points = heads.canonical[person][used]
        latent = fields.identity_latents[person]
        assert 250 * float(fields.sdf(latent, points).abs().mean()) < 0.8, "millimetres"
        for place, pose in enumerate((2, 8)):
            goal = heads.posed[person, place][used]
            code = fields.expression_latents[person * 20 + pose]
            with torch.no_grad():
                error = (points + fields.offsets(latent, code, points) - goal).norm(dim=-1)
            still = (points - goal).norm(dim=-1)
            assert 250 * float(error.mean()) < 1.5 and float(error.mean()) < 0.4 * float(still.mean())


def test_their_frame_is_the_models(default_head: HeadModel) -> None:
    fields = load_default_fields()
    opened = default_head.neutral().with_(expression=named_expression(default_head, dict(fields.canonical)))
    middle = fields.frame.to_field(default_head.vertices(opened)).mean(0)
    anchors = fields.anchors(fields.identity_latents.mean(0)).mean(0)
    assert float((middle - anchors).norm()) < 0.15


def test_reading_them_loads_no_compiler() -> None:
    # torch._dynamo comes along with roma: 110 MB of the half gigabyte that a mesh at 256³ may take.
    code = (
        "import sys; from headlab.geometry.sdf.default_fields import load_default_fields as load; load(); "
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'sympy', 'roma')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
