"""report_lib: the head, the verdicts, strict JSON, and a page that shows the same values."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest
from report_lib import Report, Timing, commit, goal_holds, machine, measure, to_json

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("goal", "measured", "holds"),
    [
        ("<= 5", 5.0, True),
        ("<= 5", 5.1, False),
        (">= .75", 0.75, True),
        ("< 0.01", 0.01, False),
        ("> -1e-3", 0.0, True),
        ("== 10", 10, True),
        ("== 10", 9, False),
        ("<= 5", None, None),
        ("<= 5", float("nan"), None),
        (None, 5.0, None),
    ],
)
def test_the_verdict_follows_from_the_goal(
    goal: str | None, measured: float | None, holds: bool | None
) -> None:
    assert goal_holds(goal, measured) is holds


@pytest.mark.parametrize("goal", ["5", "about 5", "<= five", "=> 5", "<= 5 deg"])
def test_a_goal_that_cannot_be_read_is_refused(goal: str) -> None:
    with pytest.raises(ValueError, match="a goal is"):
        goal_holds(goal, 1.0)


def test_the_json_file_has_the_head_of_the_contract(tmp_path: Path) -> None:
    report = Report("angles", command="scripts/run angles", folder=tmp_path)
    report.bar("mae", goal="<= 5", measured=np.float64(4.2), unit="deg", n=100, p95=6, note="side")
    report.write()
    data = json.loads((tmp_path / "angles.json").read_text())
    assert list(data) == ["meta", "bars", "details"]
    assert list(data["meta"]) == ["commit", "date", "machine", "gpu", "command", "seconds"]
    assert data["meta"]["command"] == "scripts/run angles"
    assert data["bars"] == [
        {
            "name": "mae",
            "goal": "<= 5",
            "measured": 4.2,
            "unit": "deg",
            "n": 100,
            "p95": 6.0,
            "p99": None,
            "holds": True,
            "note": "side",
        }
    ]


def test_the_machine_is_described_without_its_name() -> None:
    described = machine()
    assert "cores" in described
    assert platform.python_version() in described
    assert platform.node() not in described


def test_nan_becomes_null_and_not_measured(tmp_path: Path) -> None:
    report = Report("r", command="c", folder=tmp_path)
    bar = report.bar("b", goal="<= 1", measured=float("nan"), unit="s", note="no GPU")
    report.table("T", ["a", "b"], [[float("nan"), np.float32(1.5)]])
    page = report.write().read_text()
    assert (bar.measured, bar.holds) == (None, None)
    assert json.loads((tmp_path / "r.json").read_text())["details"]["T"]["rows"] == [[None, 1.5]]
    assert page.count("not measured") == 2


def test_what_was_not_measured_must_say_why() -> None:
    with pytest.raises(ValueError, match="its note must say why"):
        Report("r", command="c").bar("b", goal=None, measured=None, unit="s")


def test_a_bar_stands_once() -> None:
    report = Report("r", command="c")
    report.bar("b", goal=None, measured=1, unit="s")
    with pytest.raises(ValueError, match="already in the report"):
        report.bar("b", goal=None, measured=2, unit="s")


def test_the_page_shows_the_blocks_in_order(tmp_path: Path) -> None:
    report = Report("r", command="c", folder=tmp_path)
    report.text("First.")
    report.table("Second", ["by | view"], [["side\nfront"]], text="Why.")
    report.figure("Third one", PNG)
    page = report.write().read_text()
    places = [page.index(part) for part in ("First.", "## Second", "Why.", "## Third one")]
    assert places == sorted(places)
    assert "by \\| view" in page
    assert (tmp_path / "r_third_one.png").read_bytes() == PNG
    assert not list(tmp_path.glob("*.part"))


def test_an_html_page_carries_its_pictures_and_escapes_text(tmp_path: Path) -> None:
    report = Report("r", command="c", folder=tmp_path)
    report.text("<script>`x`")
    report.figure("F", PNG)
    page = report.write(page="html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;<code>x</code>" in page
    assert "data:image/png;base64," in page


def test_rows_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="has 2 columns"):
        Report("r", command="c").table("T", ["a", "b"], [[1]])


def test_a_value_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="a report holds"):
        to_json(object())


def test_measure_times_every_call_after_the_warm_up() -> None:
    calls: list[int] = []
    timing = measure(lambda: calls.append(1), n=20, warmup=3)
    assert len(calls) == 23
    assert timing.n == 20
    assert 0 < timing.median_us <= timing.p95_us <= timing.p99_us


def test_timing_statistics_are_exact() -> None:
    timing = Timing.of(np.arange(101) * 1e-6)
    np.testing.assert_allclose(
        [timing.median_us, timing.p95_us, timing.p99_us], [50, 95, 99], rtol=1e-12
    )


def test_the_commit_is_a_full_hash_that_admits_changes() -> None:
    revision = commit()
    assert len(revision.removesuffix("-dirty")) in (40, len("unknown"))
