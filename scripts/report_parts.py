"""Collecting the reports of several scripts on one page: their bars, commits and machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from report_lib import Report

COLUMNS: Final = ("part", "report", "commit", "machine", "GPU")


@dataclass(frozen=True, slots=True)
class Part:
    """A report that is collected.

    Attributes
    ----------
    name : str
        Of its files.
    title : str
        What it is about, in words.
    missing : tuple of (str, str, str)
        Name, goal and unit of the bars that are shown as not measured where there is no report.
    tables : tuple of str
        Headings of tables that are shown too: what a figure alone does not tell.
    """

    name: str
    title: str
    missing: tuple[tuple[str, str, str], ...]
    tables: tuple[str, ...] = ()


def take_reports(sources: Iterable[Path], reports: Path, names: Iterable[str]) -> None:
    """Copy the reports of these names as they are; of several the one of the last folder stays."""
    known = tuple(names)
    for source in sources:
        for name in known:
            for file in sorted(source.glob(f"{name}*")):
                if file.is_file():
                    shutil.copyfile(file, reports / file.name)


def add_part(
    report: Report, reports: Path, part: Part, *, with_comparisons: bool = False
) -> list[object]:
    """Add the bars of a part, and return its line of the table with `COLUMNS`.

    Parameters
    ----------
    report : Report
        The page.
    reports : Path
        Folder of the parts.
    part : Part
        Which one.
    with_comparisons : bool
        Whether figures without a goal are taken too.
    """
    file = reports / f"{part.name}.json"
    if not file.is_file():
        for bar, goal, unit in part.missing:
            note = f"no run of {part.name} here"
            report.bar(
                _free_name(report, part, bar), goal=goal, measured=None, unit=unit, note=note
            )
        return [part.title, "not measured", None, None, None]
    content = json.loads(file.read_text(encoding="utf-8"))
    for bar in content["bars"]:
        if bar["goal"] is None and not with_comparisons:
            continue
        report.bar(
            _free_name(report, part, bar["name"]),
            goal=bar["goal"],
            measured=bar["measured"],
            unit=bar["unit"],
            n=bar["n"],
            p95=bar["p95"],
            p99=bar["p99"],
            note=bar["note"],
        )
    for heading in part.tables:
        if (table := content["details"].get(heading)) is not None:
            report.table(heading, table["columns"], table["rows"], table["text"])
    meta = content["meta"]
    link = f"[{part.name}]({part.name}.md)"
    return [part.title, link, meta["commit"][:12], meta["machine"], meta["gpu"]]


def add_parts(
    report: Report, reports: Path, parts: Sequence[Part], *, with_comparisons: bool = False
) -> None:
    """Add the bars of all parts and the table of where they were made."""
    rows = [add_part(report, reports, part, with_comparisons=with_comparisons) for part in parts]
    report.table("Parts", COLUMNS, rows)


def _free_name(report: Report, part: Part, name: str) -> str:
    """Return the name of a bar, with that of its part where another has it already."""
    is_taken = any(bar.name == name for bar in report.bars)
    return f"{part.name}: {name}" if is_taken else name
