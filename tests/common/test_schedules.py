import pytest

from common.schedules import SCHEDULES, scheduled


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("linear", 0, 0.5),
        ("linear", 25, 0.375),
        ("linear", 100, 0.0),
        ("linear", 200, 0.0),
        ("constant", 99, 0.5),
        ("double_linear_con", 25, 0.25),
        ("double_linear_con", 90, 0.0625),
        ("middle_drop", 20, 0.4),
        ("middle_drop", 30, 0.0375),
        ("double_middle_drop", 30, 0.0375),
        ("double_middle_drop", 60, 0.0375),
        ("double_middle_drop", 80, 0.0625),
    ],
)
def test_schedules_by_hand(name, step, expected):
    assert scheduled(name, 0.5, step, 100) == pytest.approx(expected)


def test_every_schedule_starts_at_the_initial_rate():
    assert all(scheduled(name, 0.7, 0, 10) == 0.7 for name in SCHEDULES)
