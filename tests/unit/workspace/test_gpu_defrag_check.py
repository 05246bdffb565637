from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from defrag_report import Results
from defrag_worker import SMALL, Window, Worker, serve, waste_at_peak
from fragmenting_workload import Shape, TrainingLoop, fake_workload
from gpu_defrag_check import environment, variants

from gpu_optimizer.allocator_config import AllocatorConfig
from gpu_optimizer.allocator_replay import replay
from gpu_optimizer.defragmentation_advice import EXPANDABLE, Remedies
from gpu_optimizer.fake_trace import trace_step
from gpu_optimizer.training_step import StepConfig

CPU = torch.device("cpu")


def test_the_loop_fragments_a_default_allocator_and_not_an_expandable_one() -> None:
    shape = Shape(n_words=8000, width=512, n_heads=8, n_layers=2)
    trace = trace_step(fake_workload(shape), StepConfig(), n_steps=17).trace
    default = replay(trace).fragmentation.waste
    expandable = replay(trace, AllocatorConfig(expandable_segments=True)).fragmentation.waste
    assert default > 0.25
    assert expandable < default / 4


def test_the_same_seed_gives_the_same_bits_with_and_without_remedies() -> None:
    answers: list[dict[str, str]] = []
    for remedies in (None, Remedies(has_own_pool=True)):
        worker = Worker(CPU, SMALL, remedies)
        serve(worker, lambda value: answers.append(dict(value)), iter(["watch 3", "time 2", "end"]))  # type: ignore[call-overload]
    plain, ours = answers[:3], answers[3:]
    assert plain[2]["checksum"] == ours[2]["checksum"] != ours[0]["checksum"]
    assert plain[2]["loss"] == ours[2]["loss"]


def test_one_other_bit_gives_another_checksum() -> None:
    one, other = TrainingLoop(CPU, SMALL), TrainingLoop(CPU, SMALL)
    assert one.checksum() == other.checksum()
    with torch.no_grad():
        other.model.head.weight.view(torch.int32)[0, 0] ^= 1
    assert one.checksum() != other.checksum()


def test_waste_is_read_where_the_most_was_reserved_all_the_time() -> None:
    setup = Window(0, 50, 50, 0)
    growing, steady, lower = Window(80, 100, 99, 0), Window(100, 100, 90, 0), Window(60, 60, 60, 0)
    assert waste_at_peak(setup, [growing, lower]) == pytest.approx(0.01)
    assert waste_at_peak(setup, [growing, steady, lower]) == pytest.approx(0.1)


def test_a_reservation_that_nothing_filled_is_waste() -> None:
    assert waste_at_peak(Window(0, 200, 200, 0), [Window(200, 200, 50, 0)]) == 0.75
    assert waste_at_peak(Window(0, 200, 200, 0), [Window(90, 100, 100, 0)]) == 1
    assert math.isnan(waste_at_peak(Window(0, 0, 0, 0), []))


def test_ours_takes_settings_from_the_environment_and_the_rest_from_the_process() -> None:
    chosen: dict[str, object] = {"settings": EXPANDABLE, "has_own_pool": True}
    ours = next(one for one in variants(chosen, 7) if one.name == "ours")
    assert ours.settings == EXPANDABLE
    assert ours.remedies == {"settings": "", "has_own_pool": True}
    assert environment(EXPANDABLE)["PYTORCH_ALLOC_CONF"] == EXPANDABLE
    assert "PYTORCH_ALLOC_CONF" not in environment("")


def test_the_report_tells_what_holds_and_what_was_not_measured(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write()
    bars = json.loads((tmp_path / "gpu_defrag_check.json").read_text())["bars"]
    assert all(bar["measured"] is None for bar in bars)
    for name, waste in (("default", 0.4), ("expandable", 0.03), ("ours", 0.02)):
        results.ended[name] = results.watched[name] = {
            "reserved_peak": 2**30,
            "waste_at_peak": waste,
            "loss": "0x1",
            "checksum": "a" if name != "ours" else "b",
        }
        results.seconds[name] = [2.0, 1.0, 4.0]
    results.write()
    bars = json.loads((tmp_path / "gpu_defrag_check.json").read_text())["bars"]
    holds = {bar["name"]: bar["holds"] for bar in bars}
    assert holds["waste_default"]
    assert holds["waste_ours"]
    assert holds["steps_per_second_change_ours"]
    assert not holds["results_that_differ"]
