from __future__ import annotations

import json
from pathlib import Path

import gpu_batch_finder_check as check
import pytest
import torch
from batch_finder_cases import STEPS, BlockStack
from batch_finder_jobs import Job
from torch._subclasses.fake_tensor import FakeTensorMode

SEARCH = Job("search", "resnet50", 8)
RESULT = {"n_max": 80, "limit_bytes": 7 * 2**30, "context_bytes": 2**29, "seconds": 25.0}
RESULT["device_bytes"] = (8192 - 100) * 2**20


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    """Start nothing."""
    started: list[FakeProcess] = []

    def start() -> FakeProcess:
        started.append(FakeProcess())
        return started[-1]

    monkeypatch.setattr(check, "start", start)
    return started


class FakeProcess:
    """A process that never was."""

    is_ended = False

    def kill(self) -> None:
        self.is_ended = True


def verification(batch: int, *, ran: bool) -> dict[Job, check.Found]:
    return {Job("verify", "resnet50", 8, batch, 7 * 2**30): {"ran": ran}}


@pytest.mark.parametrize(
    ("ran", "ran_next", "exact"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_search_is_exact_if_its_batch_ran_and_the_next_did_not(
    ran: bool, ran_next: bool, exact: bool
) -> None:
    found = {SEARCH: RESULT, **verification(80, ran=ran), **verification(81, ran=ran_next)}
    assert check.is_exact(SEARCH, found) is exact


def test_a_search_that_was_verified_by_half_is_not_judged() -> None:
    assert check.is_exact(SEARCH, {SEARCH: RESULT, **verification(80, ran=True)}) is None


def test_the_report_tells_peers_failures_and_what_was_not_measured(tmp_path: Path) -> None:
    found: dict[Job, check.Found] = {
        SEARCH: RESULT,
        Job("search", "vit_b_16", 8): {"failed": "no luck"},
        Job("accelerate", "resnet50", 8): {"n": 60, "seconds": 9.0},
        Job("lightning", "resnet50", 8): {"failed": "ModuleNotFoundError: pytorch_lightning"},
    }
    check.report(found, tmp_path)
    bars = json.loads((tmp_path / "batch_finder.json").read_text())["bars"]
    assert [bar["measured"] for bar in bars] == [None, 25.0, -100.0, None, 75.0]
    page = (tmp_path / "batch_finder.md").read_text()
    for said in ("no luck", "Lightning: ModuleNotFoundError", "not measured"):
        assert said in page


def test_jobs_wait_until_the_card_has_room(
    monkeypatch: pytest.MonkeyPatch, processes: list[FakeProcess]
) -> None:
    running: list[Job] = []
    most: list[int] = []

    def child(job: Job, _: object) -> check.Found:
        running.append(job)
        most.append(sum(one.budget_gib for one in running))
        running.remove(job)
        return {"ran": True}

    monkeypatch.setattr(check, "child", child)
    jobs = [Job("verify", "resnet50", 8, batch) for batch in range(1, 7)]
    found = check.Card(total_gib=20.0, deadline_s=100.0).run(jobs, 3)
    assert list(found) == jobs
    assert max(most) <= 20
    assert [process.is_ended for process in processes] == [True] * len(jobs)


def test_everything_is_searched_verified_and_given_to_the_peers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def child(job: Job, _: object) -> check.Found:
        if job.kind == "search":
            assert (job.context_bytes is None) == (job.budget_gib == 8)
            return RESULT
        return {"ran": job.batch == 80, "n": 75, "n_default": 71, "seconds": 1.0}

    monkeypatch.setattr(check, "child", child)
    settings = check.Settings(tuple(STEPS), check.PARTS, n_lanes=3, deadline_s=100.0)
    found = check.measure(settings, check.Card(140.0, 100.0), tmp_path)
    assert len(found) == 9 + 18 + 18
    bars = json.loads((tmp_path / "batch_finder.json").read_text())["bars"]
    assert [bar["holds"] for bar in bars[:2]] == [True, True]


def test_after_the_deadline_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "child", lambda *_: pytest.fail("began"))
    assert check.Card(20.0, -1.0).run([SEARCH], 1) == {SEARCH: {"failed": "the time was over"}}


def test_the_block_stack_keeps_the_shape() -> None:
    with FakeTensorMode():
        assert BlockStack(1)(torch.zeros(2, 3, 4096)).shape == (2, 3, 4096)


def test_without_a_gpu_the_script_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert check.main(["--out", "nowhere"]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert len(STEPS) == 3
