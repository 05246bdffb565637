"""Run the test suite with its coverage limits; with arguments, run pytest with these alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

REPOSITORY: Final = Path(__file__).resolve().parents[1]
BRANCH_LIMIT: Final = 85.0
COMPLETE: Final = ("biomechanics", "rep_counter", "kalman_smoother")
"""Modules of `pose_analyzer` that every figure rests on: each line and branch is tested."""


class Summary(TypedDict):
    """What coverage.py writes of a file and of all files, as far as it is read here."""

    percent_covered: float
    num_branches: int
    covered_branches: int


def shortfalls(files: Mapping[str, Summary], totals: Summary) -> list[str]:
    """Return what is not covered as it must be, one sentence each.

    Parameters
    ----------
    files : mapping
        Summary by path of the source file.
    totals : Summary
        Of all files.
    """
    found = []
    branches = totals["num_branches"]
    percent = 100.0 * totals["covered_branches"] / branches if branches else 100.0
    if percent < BRANCH_LIMIT:
        found.append(f"{percent:.1f} % of all branches are tested, {BRANCH_LIMIT:.0f} % must be")
    for name in COMPLETE:
        paths = [path for path in files if path.endswith(f"pose_analyzer/{name}.py")]
        if not paths:
            found.append(f"pose_analyzer/{name}.py was never run")
        found += [
            f"{path} is covered to {files[path]['percent_covered']:.1f} %, it must be 100 %"
            for path in paths
            if files[path]["percent_covered"] < 100.0
        ]
    return found


def main(arguments: Sequence[str]) -> int:
    """Run pytest; return its exit code, or 1 if the coverage falls short."""
    command = [sys.executable, "-m", "pytest"]
    if arguments:
        return subprocess.run([*command, *arguments], cwd=REPOSITORY, check=False).returncode  # noqa: S603 - the user's own arguments
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        options = ["--cov", "--cov-report=term:skip-covered", f"--cov-report=json:{report}"]
        # A selection left in PYTEST_ADDOPTS would pass for the whole suite.
        variables = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        done = subprocess.run([*command, *options], cwd=REPOSITORY, env=variables, check=False)  # noqa: S603 - our own arguments
        if done.returncode != 0 or not report.exists():
            return done.returncode or 1
        data = json.loads(report.read_text(encoding="utf-8"))
    files = {path: entry["summary"] for path, entry in data["files"].items()}
    found = shortfalls(files, data["totals"])
    for sentence in found:
        print(f"coverage: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
