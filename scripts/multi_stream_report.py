"""All figures of many streams on one page: GPU, CPU, scheduler and export, each with its report.

python scripts/multi_stream_report.py [--from FOLDER]

A run on a GPU machine leaves gpu_pose_engine and gpu_streams in a folder; ``--from`` takes them
from there into reports/ as they are. What has no report is listed as not measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from report_lib import REPOSITORY, Report

REPORTS: Final = REPOSITORY / "reports"
GPU: Final = ("gpu_streams", "gpu_pose_engine")
PARTS: Final[Mapping[str, str]] = {
    "gpu_streams": "Live streams on one GPU, end to end",
    "gpu_pose_engine": "The batched engine on one GPU",
    "cpu_streams": "Live streams on two cores",
    "scheduler_simulation": "The scheduler, simulated",
    "export": "INT8 on a CPU",
}
TABLES: Final[Mapping[str, Sequence[str]]] = {
    "gpu_streams": ("JPEG files of 1080p, 30 a second of each stream",)
}
"""Tables that are shown here as well: what a figure alone does not tell."""
MISSING: Final[Mapping[str, Sequence[tuple[str, str, str]]]] = {
    "gpu_streams": (
        ("gpu_4_streams_ms_p50", "<= 12", "ms"),
        ("gpu_4_streams_ms_p99", "<= 25", "ms"),
        ("gpu_4_streams_dropped", "< 0.1", "%"),
        ("gpu_32_streams_ms_p99", "<= 50", "ms"),
    ),
    "gpu_pose_engine": (
        ("throughput_x_ultralytics_batch_4_one_after_the_other", ">= 5", "x"),
        ("throughput_x_ultralytics_batch_4_two_under_way", ">= 5", "x"),
    ),
    "cpu_streams": (("cpu_overload_variation_across_streams", "<= 0.05", ""),),
    "scheduler_simulation": (("worst_p95_excess_ms", "<= 1", "ms"),),
    "export": (("int8_speed", ">= 2", "x"),),
}
"""The figures that are shown as not measured where a part has no report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Collect the figures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, help="folder of a GPU run")
    options = parser.parse_args(argv)
    if options.source is not None:
        take(options.source, REPORTS)
    report = Report(
        "multi_stream", "scripts/run multi-stream-report", title="Many streams, one GPU"
    )
    report.text(
        "Every figure was measured by the script of its part, on the machine and commit that the "
        "part names. Ratios were taken within one run."
    )
    rows = [collect(report, name, title) for name, title in PARTS.items()]
    report.table("Parts", ["part", "report", "commit", "machine", "GPU"], rows)
    print(report.write())
    return 0


def take(source: Path, reports: Path) -> None:
    """Copy what a GPU run left."""
    for name in GPU:
        for file in sorted(source.glob(f"{name}*")):
            shutil.copyfile(file, reports / file.name)


def collect(report: Report, name: str, title: str) -> list[object]:
    """Add the bars of a part, and return its line of the table."""
    file = REPORTS / f"{name}.json"
    if not file.is_file():
        for bar, goal, unit in MISSING[name]:
            report.bar(bar, goal=goal, measured=None, unit=unit, note=f"no run of {name} here")
        return [title, "not measured", None, None, None]
    content = json.loads(file.read_text(encoding="utf-8"))
    for bar in content["bars"]:
        if bar["goal"] is None:
            continue
        report.bar(
            bar["name"],
            goal=bar["goal"],
            measured=bar["measured"],
            unit=bar["unit"],
            n=bar["n"],
            p95=bar["p95"],
            p99=bar["p99"],
            note=bar["note"],
        )
    for heading in TABLES.get(name, ()):
        if (table := content["details"].get(heading)) is not None:
            report.table(heading, table["columns"], table["rows"], table["text"])
    meta = content["meta"]
    return [title, f"[{name}]({name}.md)", meta["commit"][:12], meta["machine"], meta["gpu"]]


if __name__ == "__main__":
    raise SystemExit(main())
