"""AssemblyLine: order, bounds, overlap, errors and stopping."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable

import pytest

from pose_analyzer.assembly_line import AssemblyLine


def counted(n: int, made: list[int] | None = None) -> Generator[int, None, None]:
    for number in range(n):
        if made is not None:
            made.append(number)
        yield number


def doubled(numbers: Iterable[int]) -> Generator[int, None, None]:
    for number in numbers:
        yield 2 * number


def failing_at(numbers: Iterable[int], bad: int) -> Generator[int, None, None]:
    for number in numbers:
        if number == bad:
            raise ZeroDivisionError(f"cannot do {number}")
        yield number


def test_order_is_kept_through_all_stages() -> None:
    with AssemblyLine() as line:
        items = list(line.stage(doubled(line.stage(doubled(line.stage(counted(200)))))))
    assert items == [4 * number for number in range(200)]


def test_an_empty_stage_ends_at_once_and_stays_ended() -> None:
    with AssemblyLine() as line:
        reader = line.stage(counted(0))
        assert list(reader) == []
        assert list(reader) == []


def test_a_stage_runs_ahead_but_not_far() -> None:
    made: list[int] = []
    with AssemblyLine() as line:
        reader = line.stage(counted(100, made), capacity=3)
        for _ in range(10):
            next(reader)
        # Ten were read, three wait, one more may be in hand.
        assert len(made) <= 14


def test_stages_overlap() -> None:
    both = threading.Barrier(2, timeout=5.0)

    def meets(numbers: Iterable[int]) -> Generator[int, None, None]:
        for number in numbers:
            if number >= 1:
                both.wait()
            yield number

    def ahead() -> Generator[int, None, None]:
        for number in range(3):
            if number >= 2:
                both.wait()
            yield number

    # The first stage waits in item 2 for the second, which is in item 1: only both can go on.
    with AssemblyLine() as line:
        reader = line.stage(meets(line.stage(ahead())))
        assert [next(reader), next(reader)] == [0, 1]


@pytest.mark.parametrize("n_stages_after", [0, 1, 3])
def test_an_error_comes_out_at_the_end_after_the_items_before_it(n_stages_after: int) -> None:
    seen: list[int] = []
    with AssemblyLine() as line:
        reader = line.stage(failing_at(line.stage(counted(10)), bad=4))
        for _ in range(n_stages_after):
            reader = line.stage(failing_at(reader, bad=-1))
        with pytest.raises(ZeroDivisionError, match="cannot do 4"):
            seen.extend(reader)
    assert seen == [] or seen == [0, 1, 2, 3]


def test_leaving_early_stops_and_closes_every_stage() -> None:
    before = threading.active_count()
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            yield from iter(int, 1)
        finally:
            closed.set()

    with AssemblyLine() as line:
        reader = line.stage(doubled(line.stage(endless())))
        assert next(reader) == 0
    assert closed.is_set()
    assert threading.active_count() == before


def test_an_error_of_the_reader_stops_the_stages() -> None:
    before = threading.active_count()
    with contextlib.suppress(KeyboardInterrupt), AssemblyLine() as line:
        next(line.stage(doubled(line.stage(iter_forever()))))
        raise KeyboardInterrupt
    assert threading.active_count() == before


def iter_forever() -> Generator[int, None, None]:
    while True:
        yield 1


def test_capacity_must_be_positive() -> None:
    with AssemblyLine() as line, pytest.raises(ValueError, match="at least 1"):
        line.stage(counted(1), capacity=0)
