"""What `gpu_defrag_check` found out, as a report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from report_lib import Report

from gpu_optimizer.defragmentation_advice import EXPANDABLE

NAME: Final = "gpu_defrag_check"
N_RECORDED: Final = 26
N_TIMED: Final = 12
"""Steps that are recorded, and steps of a timed round."""
TIMED: Final = ("default", "expandable", "ours")
MIB: Final = 2**20

Values = Mapping[str, object]
Remedies = dict[str, object]


class Results:
    """What is known so far."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.recording: Values = {}
        self.watched: dict[str, Values] = {}
        self.ended: dict[str, Values] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failures: list[tuple[str, str]] = []

    def chosen(self) -> Remedies:
        """Return what was advised, or what is best as a rule where nothing was recorded."""
        found = self.recording.get("chosen")
        if isinstance(found, dict):
            return found
        return {
            "settings": EXPANDABLE,
            "reserve_bytes": 0,
            "has_own_pool": True,
            "empties_cache": False,
        }

    def reserve_bytes(self) -> int:
        """Return the largest reservation beside a pool of its own that was replayed."""
        rows = self.recording.get("candidates")
        found = [0]
        for row in rows if isinstance(rows, list) else ():
            if row["remedies"]["has_own_pool"]:
                found.append(int(row["remedies"]["reserve_bytes"]))
        return max(found)

    def write(self) -> None:
        """Write the report."""
        report = Report(
            NAME,
            "python scripts/gpu_defrag_check.py --out FOLDER",
            title="Fragmentation on a GPU, before and after",
            folder=self._out,
        )
        self._add_bars(report)
        self._add_tables(report)
        report.detail("recording", self.recording)
        report.detail("watched", self.watched)
        report.detail("ended", self.ended)
        report.detail("seconds", self.seconds)
        report.write()

    def _add_bars(self, report: Report) -> None:
        expandable, ours = self._final("expandable"), self._final("ours")
        waste = {name: 100 * _number(self._final(name), "waste_at_peak") for name in TIMED}
        whole = "at the peak of reserved memory over the whole run"
        turns = "median over rounds of the same work, in turn"
        more = _number(ours, "reserved_peak") - _number(expandable, "reserved_peak")
        for name, goal, measured, unit, note in (
            ("waste_default", ">= 25", waste["default"], "%", whole),
            ("waste_ours", "<= 5", waste["ours"], "%", f"{whole}; {self._ours_name()}"),
            (
                "waste_ours_above_expandable",
                "<= 0",
                waste["ours"] - waste["expandable"],
                "pp",
                whole,
            ),
            ("reserved_ours_above_expandable", "<= 0", more / MIB, "MiB", "peaks of the whole run"),
            ("steps_per_second_change_ours", ">= -2", self._speed_change("ours"), "%", turns),
            ("steps_per_second_change_expandable", None, self._speed_change(TIMED[1]), "%", turns),
            (
                "results_that_differ",
                "== 0",
                self._n_different(),
                "runs",
                "from those of the default",
            ),
        ):
            n = len(self.seconds.get("default", [])) if note == turns else None
            report.bar(name, goal=goal, measured=measured, unit=unit, n=n, note=note)

    def _add_tables(self, report: Report) -> None:
        report.table(
            "Variants",
            ("variant", "reserved, MiB", "active, MiB", "waste, %", "retries", "driver calls"),
            [self._row(name) for name in self.watched],
            "Peaks over the whole run from the first allocation on. Waste is 1 - active / reserved "
            "when the most is reserved; a reservation does not count as active.",
        )
        report.table(
            "Speed",
            ("variant", "steps/s, median", "rounds", "change to default, %"),
            [
                [
                    name,
                    N_TIMED / statistics.median(values),
                    len(values),
                    self._speed_change(name),
                ]
                for name, values in self.seconds.items()
            ],
            f"Rounds of {N_TIMED} steps, one process at a time, in turn; the change is the median "
            "over the rounds, which are the same work for each.",
        )
        rows = self.recording.get("candidates")
        report.table(
            "Advice",
            ("remedies", "reserved, MiB", "waste, %", "driver calls"),
            [
                [
                    row["name"],
                    row["peak_reserved_bytes"] / MIB,
                    100 * row["waste"],
                    row["n_driver_calls"],
                ]
                for row in (rows if isinstance(rows, list) else ())
            ],
            f"A replay of {N_RECORDED} recorded steps under each. Chosen: {self._ours_name()}.",
        )
        report.table("Compactions", _COMPACTION_COLUMNS, self._compactions())
        report.table("Failed", ("what", "why"), [list(failure) for failure in self._failed()])

    def _failed(self) -> list[tuple[str, str]]:
        error = self.recording.get("error")
        return [*([("recording", str(error))] if error else []), *self.failures]

    def _ours_name(self) -> str:
        chosen = self.chosen()
        names = [str(chosen["settings"]), *(key for key in list(chosen)[1:] if chosen[key])]
        return " + ".join(name for name in names if name) or "nothing"

    def _final(self, name: str) -> Values:
        """Return the figures of the whole run, or of its watched part where it did not end."""
        return self.ended.get(name) or self.watched.get(name) or {}

    def _row(self, name: str) -> list[object]:
        values = self._final(name)
        return [
            name,
            _number(values, "reserved_peak") / MIB,
            _number(values, "active_peak") / MIB,
            100 * _number(values, "waste_at_peak"),
            _number(values, "retries"),
            _number(values, "driver_calls"),
        ]

    def _speed_change(self, name: str) -> float:
        """Return by how many per cent it makes more steps in a second than the default."""
        rounds = zip(self.seconds.get("default", []), self.seconds.get(name, []), strict=False)
        changes = [100 * (default / seconds - 1) for default, seconds in rounds]
        return statistics.median(changes) if changes else math.nan

    def _n_different(self) -> float:
        """Return how many runs ended with other bits than the default, of those that ended."""
        n_different = 0
        for results in (self.watched, self.ended):
            done = {
                name: (values["loss"], values["checksum"])
                for name, values in results.items()
                if values and (results is self.watched or name in TIMED)
            }
            if "default" not in done:
                return math.nan
            n_different += sum(value != done["default"] for value in done.values())
        return n_different

    def _compactions(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for name, values in self.ended.items():
            report = values.get("report")
            for one in report["compactions"] if isinstance(report, dict) else ():
                before, after, move = one["before"], one["after"], one["move"]
                rows.append(
                    [
                        name,
                        one["step"],
                        move["n_storages"],
                        move["n_bytes"] / MIB,
                        sum(stayed["n_storages"] for stayed in move["stayed"]),
                        "; ".join(stayed["reason"] for stayed in move["stayed"]),
                        before["requested_bytes"] / MIB,
                        after["requested_bytes"] / MIB,
                        before["reserved_bytes"] / MIB,
                        after["reserved_bytes"] / MIB,
                    ]
                )
        return rows


_COMPACTION_COLUMNS: Final = (
    *("variant", "after step", "moved", "moved, MiB", "stayed", "why"),
    *("live before, MiB", "live after, MiB", "reserved before, MiB", "reserved after, MiB"),
)


def _number(values: Values, key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
