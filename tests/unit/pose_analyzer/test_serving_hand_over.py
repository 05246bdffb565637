"""A thread that does one thing at a time."""

from __future__ import annotations

import threading

from pose_analyzer.serving.hand_over import HandOver

WAIT_S = 10.0


def test_things_are_done_in_order_and_none_is_done_twice() -> None:
    done: list[int] = []
    worker = HandOver("worker")
    for number in range(50):
        worker.start(lambda number=number: done.append(number))  # type: ignore[misc]
    worker.wait()
    assert done == list(range(50))
    worker.close()


def test_whoever_comes_too_soon_waits_until_it_is_free() -> None:
    may_end, is_second_taken = threading.Event(), threading.Event()
    worker = HandOver("worker")
    worker.start(lambda: may_end.wait(WAIT_S))

    def hand_over() -> None:
        worker.start(lambda: None)
        is_second_taken.set()

    threading.Thread(target=hand_over, daemon=True).start()
    assert not is_second_taken.wait(0.05)
    may_end.set()
    assert is_second_taken.wait(WAIT_S)
    worker.close()


def test_it_tells_whether_it_is_busy_and_when_it_is_free() -> None:
    may_end, is_free = threading.Event(), threading.Event()
    worker = HandOver("worker", on_free=is_free.set)
    seen = [worker.is_busy]
    worker.start(lambda: may_end.wait(WAIT_S))
    seen.append(worker.is_busy)
    may_end.set()
    assert is_free.wait(WAIT_S)
    seen.append(worker.is_busy)
    assert seen == [False, True, False]
    worker.close()


def test_a_failure_does_not_stop_it() -> None:
    done = threading.Event()
    worker = HandOver("worker")
    worker.start(lambda: 1 / 0)
    worker.start(done.set)
    assert done.wait(WAIT_S)
    worker.close()


def test_closing_ends_the_thread_and_without_work_there_is_none() -> None:
    n_before = threading.active_count()
    worker = HandOver("worker")
    worker.close()
    assert threading.active_count() == n_before
    worker.start(lambda: None)
    worker.close()
    assert threading.active_count() == n_before
