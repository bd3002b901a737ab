"""LDM3D's packing of depth."""

import numpy as np
import torch

from headlab.diffusion.depth_packing import bytes_of, levels, packed, unpacked


def test_all_depths_survive():
    depth = torch.arange(65536, dtype=torch.float64).reshape(256, 256) / 65535
    assert torch.equal(levels(depth).flatten(), torch.arange(65536, dtype=torch.int32))
    torch.testing.assert_close(unpacked(packed(depth)), depth, atol=1e-12, rtol=0)
    single = depth.float()
    assert torch.equal(levels(unpacked(packed(single))), levels(single))
    # Through a picture of -1..1 and back, too.
    assert torch.equal(levels(unpacked((packed(single) * 2 - 1) / 2 + 0.5)), levels(single))


def test_the_published_bytes(shared):
    golden = np.load(shared / "parity/diffusion/ldm3d_depth_packing.npz")
    depth = torch.from_numpy(golden["depth_uint16"].astype(np.int32))
    made = bytes_of(depth)
    assert np.array_equal(made.permute(1, 2, 0).numpy(), golden["packed_uint8_hwc"])
    again = unpacked(made.double() / 255) * 65535
    assert np.array_equal(again.round().numpy().astype(np.int32), golden["diffusers_unpack_of_int32"])
    fourth = torch.from_numpy(golden["depth4c_float01"])
    assert torch.equal(levels((fourth * 2 - 1) / 2 + 0.5), depth)  # rounding loses none; truncation loses 5,461
