"""All figures of measuring and forecasting memory on one page, each with its report.

python scripts/memory_measurement_report.py [--from FOLDER ...]

A run on a GPU machine leaves its reports in a folder; ``--from`` takes them from there to reports/
as they are. What has no report is listed as not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from report_lib import REPOSITORY, Report
from report_parts import Part, add_parts, take_reports

REPORTS: Final = REPOSITORY / "reports"
PARTS: Final = (
    Part(
        "memory_tracer_check",
        "Tracing a model while it runs",
        (
            ("tracer_overhead_resnet50_bs256_fp32", "< 1", "%"),
            ("tracer_overhead_llama_7b_4_blocks", "< 1", "%"),
            ("peak_error_max", "<= 0.1", "%"),
            ("layers_off_total_max", "<= 0", "B"),
        ),
    ),
    Part(
        "allocator_replay_check",
        "Replaying recorded traces",
        (("peak_reserved_error_max", "<= 2", "MiB"), ("fragmentation_error_max", "<= 1", "pp")),
    ),
    Part(
        "predictor_accuracy",
        "Forecasting memory without a GPU",
        (
            ("allocated_error_median", "<= 1", "%"),
            ("allocated_error_max", "<= 5", "%"),
            ("reserved_error_max", "<= 5", "%"),
            ("llama_7b_forecast", "<= 10", "s"),
            ("llama_7b_forecast_host_memory", "< 4", "GB"),
        ),
    ),
    Part(
        "batch_finder",
        "Finding the largest batch",
        (("exact_maximum", "== 9", "searches"), ("search_seconds_max", "< 60", "s")),
    ),
    Part(
        "gpu_defrag_check",
        "Fragmentation before and after",
        (
            ("waste_default", ">= 25", "%"),
            ("waste_ours", "<= 5", "%"),
            ("waste_ours_above_expandable", "<= 0", "pp"),
            ("steps_per_second_change_ours", ">= -2", "%"),
            ("results_that_differ", "== 0", "runs"),
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Collect the figures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--from", dest="sources", type=Path, nargs="*", default=(), help="folders of GPU runs"
    )
    sources = parser.parse_args(argv).sources
    for source in sources:
        if not source.is_dir():
            parser.error(f"{source} is no folder")
    take_reports(sources, REPORTS, [*(part.name for part in PARTS), "baseline_memory_profiles"])
    report = Report(
        "memory_measurement",
        "scripts/run memory-measurement-report",
        title="Where the memory goes, and what it will need",
    )
    report.text(
        "Every figure was measured by the script of its part, on the machine and commit that the "
        "part names. Figures without a goal are those of others on the same work, or explain one."
    )
    add_parts(report, REPORTS, PARTS, with_comparisons=True)
    print(report.write())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
