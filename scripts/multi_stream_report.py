"""All figures of many streams on one page: GPU, CPU, scheduler and export, each with its report.

python scripts/multi_stream_report.py [--from FOLDER ...]

A run on a GPU machine leaves gpu_pose_engine and gpu_streams in a folder; ``--from`` takes them
from there into reports/ as they are. What has no report is listed as not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from report_lib import REPOSITORY, Report
from report_parts import Part, add_parts, take_reports

REPORTS: Final = REPOSITORY / "reports"
GPU: Final = ("gpu_streams", "gpu_pose_engine", "gpu_streams_jpeg_live")
PARTS: Final = (
    Part(
        "gpu_streams",
        "Live streams on one GPU, end to end",
        (
            ("gpu_4_streams_ms_p50", "<= 12", "ms"),
            ("gpu_4_streams_ms_p99", "<= 25", "ms"),
            ("gpu_4_streams_dropped", "< 0.1", "%"),
            ("gpu_32_streams_ms_p99", "<= 50", "ms"),
        ),
    ),
    Part(
        "gpu_streams_jpeg_live",
        "Live streams of JPEG files on one GPU",
        (),
        ("JPEG files of 1080p, 30 a second of each stream",),
    ),
    Part(
        "gpu_pose_engine",
        "The batched engine on one GPU",
        (
            ("throughput_x_ultralytics_batch_4_one_after_the_other", ">= 5", "x"),
            ("throughput_x_ultralytics_batch_4_two_under_way", ">= 5", "x"),
        ),
    ),
    Part(
        "cpu_streams",
        "Live streams on two cores",
        (("cpu_overload_variation_across_streams", "<= 0.05", ""),),
    ),
    Part(
        "scheduler_simulation",
        "The scheduler, simulated",
        (("worst_p95_excess_ms", "<= 1", "ms"),),
    ),
    Part(
        "stream_trouble",
        "When GPU memory runs short, made up on a CPU",
        (("streams_alive_after_the_squeeze", "== 4", "streams"),),
    ),
    Part("export", "INT8 on a CPU", (("int8_speed", ">= 2", "x"),)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Collect the figures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--from", dest="sources", type=Path, nargs="*", default=(), metavar="FOLDER"
    )
    options = parser.parse_args(argv)
    take_reports(options.sources, REPORTS, GPU)
    report = Report(
        "multi_stream", "scripts/run multi-stream-report", title="Many streams, one GPU"
    )
    report.text(
        "Every figure was measured by the script of its part, on the machine and commit that the "
        "part names. Ratios were taken within one run."
    )
    add_parts(report, REPORTS, PARTS)
    print(report.write())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
