import itertools

from hypothesis import given
from hypothesis import strategies as st

from nst._engine.configuration import NumScales, plan_scales


@given(
    size=st.integers(1, 6000),
    num_steps=st.integers(1, 1000),
    num_scales=st.one_of(st.just("auto"), st.integers(1, 12)),
)
def test_a_plan_uses_every_step_and_ends_at_the_size(
    size: int, num_steps: int, num_scales: NumScales
) -> None:
    scales = plan_scales(size, num_steps, num_scales)
    assert scales[-1].size == size
    assert sum(scale.num_steps for scale in scales) == num_steps
    assert all(scale.num_steps >= 1 for scale in scales)
    for coarse, fine in itertools.pairwise(scales):
        assert coarse.size < fine.size
        assert abs(fine.size - 2 * coarse.size) <= 1


def test_coarse_scales_stop_before_the_composition_is_lost_or_at_the_number_asked_for() -> None:
    for arguments, sizes in (
        ((511, 100), [511]),
        ((512, 100), [256, 512]),
        ((1000, 100), [500, 1000]),
        ((2048, 100), [256, 512, 1024, 2048]),
        ((64, 10, 3), [16, 32, 64]),
        ((1024, 10, 1), [1024]),
    ):
        assert [scale.size for scale in plan_scales(*arguments)] == sizes
