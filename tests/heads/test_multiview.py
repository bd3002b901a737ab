"""β of one person fitted to some views serves another view."""

import numpy as np
import pytest
import torch

from headlab.scripts.bench.multiview import leave_one_out


@pytest.mark.slow
def test_shared_shape_serves_the_view_left_out(shared, fit_tools) -> None:
    with np.load(shared / "data/photos/mediapipe_reference.npz") as file:
        rows = [i for i, name in enumerate(file["files"]) if name.startswith("multiview_a/")]
        sizes = file["image_wh"][rows]
        points = torch.from_numpy(file["landmarks"][rows][..., :2] * sizes[:, None]).float()
    views = leave_one_out(fit_tools.basis, points, [(int(h), int(w)) for w, h in sizes])
    assert len(views) == 3
    for view in views:
        assert view["own"] < view["held_out"] < 0.9 * view["mean_face"]
        assert view["held_out"] < 0.045
