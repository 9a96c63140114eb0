import pytest
import torch

from synth.images.styles import drawn_style, interpolated_styles, layout_number


def test_draws_depend_on_their_numbers_alone() -> None:
    state = torch.get_rng_state()
    first = drawn_style(64, 0, 1, 2)
    torch.manual_seed(9)
    assert torch.equal(first, drawn_style(64, 0, 1, 2))
    others = [drawn_style(64, *numbers) for numbers in ((0,), (0, 1), (0, 2, 1), (1, 1, 2))]
    assert all(not torch.allclose(first, other) for other in others)
    torch.set_rng_state(state)
    drawn_style(64, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_draws_follow_the_prior() -> None:
    draws = torch.cat([drawn_style(100, 0, layout) for layout in range(100)])
    assert draws.mean().abs() < 0.05
    assert draws.std() == pytest.approx(1, abs=0.03)


def test_a_layout_is_known_by_its_contents() -> None:
    layout = torch.arange(12).view(3, 4)
    assert layout_number(layout) == layout_number(layout.clone())
    assert layout_number(layout) != layout_number(layout.flip(1))
    assert layout_number(layout) == layout_number(layout.t().contiguous().t())  # whatever its memory looks like


def test_the_way_from_style_to_style() -> None:
    first, last = drawn_style(256, 1), 0.5 * drawn_style(256, 2)
    way = interpolated_styles(first, last, 5)
    torch.testing.assert_close(way[:1], first)
    torch.testing.assert_close(way[-1:], last)
    lengths = way.norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(lengths[0].item(), lengths[-1].item(), 5))
    turns = torch.cosine_similarity(way[1:], way[:-1])
    torch.testing.assert_close(turns, turns[:1].expand(4))  # equal angles
    assert interpolated_styles(first, last, 2).shape == (2, 256)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 0.0])
def test_the_way_where_no_angle_is_defined(factor: float) -> None:
    first = drawn_style(16, 1)
    way = interpolated_styles(first, factor * first, 3)
    torch.testing.assert_close(way, torch.cat([first, (1 + factor) / 2 * first, factor * first]))
