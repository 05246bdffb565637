"""The largest batch that there is memory for."""

from __future__ import annotations

from hypothesis import given, strategies as st

from pose_analyzer.inference.batch_cap import BatchCap


def test_it_halves_below_what_there_was_no_memory_for() -> None:
    cap = BatchCap(32, recovery_batches=3)
    cap.halve(8)
    assert (cap.size, cap.n_out_of_memory) == (4, 1)
    cap.halve(16)
    assert (cap.size, cap.n_out_of_memory) == (2, 2)


def test_it_doubles_after_so_many_batches_without_trouble() -> None:
    cap = BatchCap(8, recovery_batches=3)
    cap.halve(8)
    cap.note_success()
    cap.note_success()
    cap.halve(4)
    sizes = []
    for _ in range(9):
        cap.note_success()
        sizes.append(cap.size)
    assert sizes == [2, 2, 4, 4, 4, 8, 8, 8, 8]


@given(events=st.lists(st.sampled_from([0, 1, 2, 4, 8, 16])))
def test_it_stays_a_power_of_two_between_one_and_the_most(events: list[int]) -> None:
    cap = BatchCap(16, recovery_batches=2)
    for size in events:
        if size:
            cap.halve(size)
        else:
            cap.note_success()
        assert cap.size in {1, 2, 4, 8, 16}
    assert cap.n_out_of_memory == sum(size > 0 for size in events)
