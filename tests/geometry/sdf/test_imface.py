"""The ImFace-style baseline: what it starts as, its losses' gradients, and that it learns."""

import torch

from headlab.geometry.sdf.imface import ImFaceConfig, ImFaceField, ImFaceWeights, imface_terms, imface_total
from headlab.geometry.sdf.losses import SurfaceBatch


def small_field() -> ImFaceField:
    config = ImFaceConfig(identity=4, expression=3, hidden=24, layers=4, warp_hidden=12, sphere=0.4)
    torch.manual_seed(0)
    return ImFaceField(config, torch.Generator().manual_seed(0))


def ball_batch(count: int, dtype: torch.dtype = torch.float32) -> SurfaceBatch:
    """Points of two balls of radius 0.35 and 0.45."""
    draws = torch.Generator().manual_seed(1)

    def directions(n: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(2, n, 3, generator=draws, dtype=dtype), dim=-1)

    radius = torch.tensor([0.35, 0.45], dtype=dtype).view(2, 1, 1)
    face, rest, near, far = (directions(n) for n in (count, count, count, count // 4))
    return SurfaceBatch(face * radius, face, rest * radius, rest, near * (radius + 0.01), far * 0.7)


def test_it_starts_as_a_ball_without_warp() -> None:
    field = small_field()
    points = ball_batch(20).face
    values = field.values(points, torch.randn(2, 4), torch.randn(2, 3))
    torch.testing.assert_close(values.template, points, atol=2e-2, rtol=0)
    torch.testing.assert_close(values.sdf, field.at_template(points), atol=5e-2, rtol=0)
    assert values.correction.shape == (2, 20) and values.neutral.shape == (2, 20, 3)


def test_gradients_are_the_finite_differences() -> None:
    field = small_field().double()
    with torch.no_grad():  # warps and correction away from nothing
        for network in (field.expression_warp, field.identity_warp, field.corrector):
            network.linear(network.depth - 1).weight.normal_(0, 0.05)
    batch = ball_batch(6, torch.float64)
    neutral = torch.cat([batch.face, batch.rest], 1) * 0.98
    identity = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    expression = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    parameters = [identity, expression, *field.parameters()]

    def loss() -> torch.Tensor:
        return imface_total(imface_terms(field, batch, identity, expression, neutral), ImFaceWeights())

    gradients = torch.autograd.grad(loss(), parameters)
    draws = torch.Generator().manual_seed(2)
    # The latents by themselves, then everything at once.
    for chosen in (parameters[:2], parameters):
        directions = [torch.randn(tensor.shape, generator=draws, dtype=torch.float64) for tensor in chosen]
        sides = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                for tensor, direction in zip(chosen, directions, strict=True):
                    tensor += step * direction
            sides.append(float(loss().detach()))
        with torch.no_grad():
            for tensor, direction in zip(chosen, directions, strict=True):
                tensor += 1e-6 * direction
        expected = (sides[0] - sides[1]) / 2e-6
        found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=False))
        assert abs(found - expected) < 1e-4 * max(1.0, abs(expected))


def test_it_learns_two_balls() -> None:
    field = small_field()
    codes = torch.nn.Parameter(0.1 * torch.randn(2, 7, generator=torch.Generator().manual_seed(3)))
    optimizer = torch.optim.Adam([*field.parameters(), codes], 3e-3)
    losses = []
    for _ in range(30):
        terms = imface_terms(field, ball_batch(40), codes[:, :4], codes[:, 4:])
        loss = imface_total(terms, ImFaceWeights())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(terms["surf_sdf"].detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert set(terms) == {
        *("surf_sdf", "normals", "space_sdf", "grad", "lat_reg", "smooth", "correction", "template_normals")
    }
