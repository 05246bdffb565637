from __future__ import annotations

import fake_card
import pytest

from gpu_optimizer.packed_step import loaded_step, packed_step


def test_a_step_by_name_is_imported() -> None:
    assert loaded_step(packed_step("fake_card:plain_step")) is fake_card.plain_step


@pytest.mark.parametrize(
    ("name", "error"),
    [("fake_card:nothing", AttributeError), ("fake_card:not_a_step", TypeError)],
)
def test_a_name_without_a_step_is_told(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        loaded_step(packed_step(name))
