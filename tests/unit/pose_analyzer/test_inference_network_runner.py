"""How much memory a recording would need, told by a GPU that is played."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pose_analyzer.inference.network_runner import bytes_taken

CPU = torch.device("cpu")


class PlayedMemory:
    """Reserves what runs ask for, keeps it until it is emptied, and has a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = 0
        self.retries = 0

    def take(self, n_bytes: int) -> None:
        """Reserve more, after giving unused memory back if there is not enough."""
        if self.kept + n_bytes > self.limit:
            self.kept, self.retries = 0, self.retries + 1
        self.kept += n_bytes

    def empty(self) -> None:
        """Give unused memory back."""
        self.kept = 0


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[PlayedMemory], None]:
    def put(memory: PlayedMemory) -> None:
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
        monkeypatch.setattr(torch.cuda, "empty_cache", memory.empty)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7 + memory.kept)
        monkeypatch.setattr(
            torch.cuda, "memory_stats", lambda _: {"num_alloc_retries": memory.retries}
        )

    return put


def test_a_run_takes_what_it_reserves_from_nothing(play: Callable[[PlayedMemory], None]) -> None:
    memory = PlayedMemory(limit=100)
    memory.take(60)
    play(memory)
    assert bytes_taken(lambda: memory.take(80), CPU) == 80
    assert (memory.kept, memory.retries) == (0, 0)


def test_a_run_that_had_to_give_memory_back_has_no_need_that_is_known(
    play: Callable[[PlayedMemory], None],
) -> None:
    memory = PlayedMemory(limit=100)
    play(memory)

    def run() -> None:
        memory.take(60)
        memory.take(50)

    assert bytes_taken(run, CPU) is None
