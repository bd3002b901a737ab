"""HeadCode: a value with free leading axes."""

import pytest
import torch

from headlab.geometry.code import HeadCode

REQUIRED = {"shape", "expression", "rotation", "neck", "jaw", "eyes", "translation"}


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2, 1)])
def test_the_neutral_code_is_all_zeros(batch: tuple[int, ...]) -> None:
    code = HeadCode.neutral(5, 4, batch, dtype=torch.float64)
    arrays = code.arrays()
    assert set(arrays) == REQUIRED
    assert all(value.dtype == torch.float64 and not value.any() for value in arrays.values())
    assert code.shape.shape == (*batch, 5)
    assert code.expression.shape == (*batch, 4)
    assert code.eyes.shape == (*batch, 2, 3)


def test_with_changes_a_copy_only() -> None:
    code = HeadCode.neutral(2, 2)
    other = code.with_(jaw=torch.ones(3), albedo=torch.ones(7))
    assert not code.jaw.any() and code.albedo is None
    assert other.jaw.all() and set(other.arrays()) == REQUIRED | {"albedo"}
    assert set(other.with_(albedo=None).arrays()) == REQUIRED
    with pytest.raises(TypeError):
        code.with_(nose=torch.ones(3))


def test_map_touches_what_is_set_and_leaves_the_rest_out() -> None:
    code = HeadCode.neutral(2, 2).with_(light=torch.ones(9, 3))
    doubled = code.map(lambda value: value + 1)
    assert doubled.albedo is None and doubled.detail is None
    assert doubled.light is not None and (doubled.light == 2).all()
    assert (doubled.rotation == 1).all()


def test_indexing_takes_leading_axes_of_every_field() -> None:
    code = HeadCode.neutral(2, 2, (4,)).with_(
        translation=torch.arange(12.0).reshape(4, 3), light=torch.arange(4.0)[:, None, None].expand(4, 9, 3)
    )
    one = code[2]
    assert one.translation.tolist() == [6.0, 7.0, 8.0]
    assert one.light is not None and (one.light == 2).all() and one.light.shape == (9, 3)
    assert one.shape.shape == (2,)
    assert code[1:3].eyes.shape == (2, 2, 3)
    assert code[torch.tensor([3, 0])].translation[:, 0].tolist() == [9.0, 0.0]


def test_to_changes_the_type_of_everything() -> None:
    code = HeadCode.neutral(2, 2).with_(light=torch.ones(9, 3)).to(dtype=torch.float64)
    assert {value.dtype for value in code.arrays().values()} == {torch.float64}
