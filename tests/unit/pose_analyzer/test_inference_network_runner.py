"""Whether there is memory to record, on a GPU whose memory is played."""

from __future__ import annotations

import pytest
import torch

from pose_analyzer.inference.network_runner import has_room

CPU = torch.device("cpu")
MIB = 1 << 20
RECORDED = {"total_size": 900 * MIB, "active_size": 0, "segment_pool_id": (0, 1)}


class PlayedMemory:
    """Reserves what runs ask for, keeps it until it is emptied, and has a limit.

    Tensors fill 60 of 80 MiB, which do not count towards the limit.
    """

    def __init__(self, limit_mib: int) -> None:
        self._limit_mib = limit_mib
        self._kept_mib = 0
        self._n_retries = 0

    def take(self, mib: int) -> None:
        """Reserve more, after giving unused memory back if there is not enough."""
        if self._kept_mib + mib > self._limit_mib:
            self.empty_cache()
            self._n_retries += 1
        if mib > self._limit_mib:
            raise torch.OutOfMemoryError("no")
        self._kept_mib += mib

    def empty(self, n_bytes: int, **_: object) -> None:
        """Make a tensor, as PyTorch does."""
        self.take(n_bytes // MIB)

    def empty_cache(self) -> None:
        """Give unused memory back."""
        self._kept_mib = 0

    def memory_reserved(self, _: object) -> int:
        """Return the bytes that are reserved."""
        return (80 + self._kept_mib) * MIB

    def memory_stats(self, _: object) -> dict[str, int]:
        """Return how often memory was given back for a request."""
        return {"num_alloc_retries": self._n_retries}

    def memory_snapshot(self) -> list[dict[str, object]]:
        """Return what is reserved when nothing is unused, and a recording."""
        tensors = {"total_size": 80 * MIB, "active_size": 60 * MIB, "segment_pool_id": (0, 0)}
        return [tensors, RECORDED]


def play(monkeypatch: pytest.MonkeyPatch, limit_mib: int) -> PlayedMemory:
    memory = PlayedMemory(limit_mib)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch, "empty", memory.empty)
    for name in ("empty_cache", "memory_reserved", "memory_stats", "memory_snapshot"):
        monkeypatch.setattr(torch.cuda, name, getattr(memory, name))
    return memory


@pytest.mark.parametrize(("limit_mib", "is_enough"), [(132, True), (131, False)])
def test_there_is_room_for_what_a_run_may_take_and_32_mib(
    monkeypatch: pytest.MonkeyPatch, limit_mib: int, *, is_enough: bool
) -> None:
    memory = play(monkeypatch, limit_mib)
    memory.take(50)
    # 80 MiB from nothing, and perhaps the 20 between the tensors.
    assert has_room(lambda: memory.take(80), CPU) == is_enough


def test_there_is_no_room_if_a_run_only_just_found_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = play(monkeypatch, 100)

    def run() -> None:
        memory.take(60)
        memory.take(50)

    assert not has_room(run, CPU)


def test_a_run_without_memory_fails_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = play(monkeypatch, 100)
    with pytest.raises(torch.OutOfMemoryError, match="no"):
        has_room(lambda: memory.take(101), CPU)
