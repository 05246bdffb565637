"""Calibrate how sure an angle is -> angle_noise.py, reports/view_uncertainty.{json,md}.

MediaPipe's angles in rendered clips are held against the exact 3-D angle; the few numbers of
`biomechanics.angle_sigma` are fitted to the difference and checked on people and exercises that
were left out of the fit. Then the camera's yaw, estimated in the picture and from metric
landmarks; then real clips, where two measurements of the same thing must agree within sigma.

    python scripts/view_uncertainty.py [--write] [--data DIR] [--cache DIR] [--real-cache DIR]
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from noise_clips import Found, NoiseClip, bank_clips, find_all, pitched_clips
from pose_errors import JOINTS, columns_of, default_data
from real_clips import DetectionCache, clips as real_clips
from report_lib import REPOSITORY, Report
from scipy.optimize import minimize

from pose_analyzer.biomechanics import (
    ANGLE_NOISE,
    JointAngleCalculator,
    angle_sigma,
    camera_yaw,
    camera_yaw_3d,
    stature,
)
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pose_detector import MediaPipePoseDetector, YOLOPosev11Detector
from pose_analyzer.rep_geometry import SIDE_ROWS
from pose_analyzer.skeleton import JOINT_NAMES, N_JOINTS
from pose_analyzer.synthetic import EXERCISES, Truth
from pose_analyzer.types import BoolArray, FloatArray, PoseDetections

MODULE: Final = REPOSITORY / "pose_analyzer/src/pose_analyzer/angle_noise.py"
YAWS_DEG: Final = (0, 15, 30, 45, 60, 75, 90)
UNITS: Final = np.array([0.01, 1.0, 1.0, 1.0])
START: Final = np.array([0.01, 2.0, 20.0, 3.0])
LARGEST_POWER: Final = 6.0
SMALLEST_SIGMA_DEG: Final = 0.5
EVERY: Final = 10
"""Frames between those that the fit looks at: neighbours say the same."""
SAME_PERSON_STATURES: Final = 0.15
FEWEST_FRAMES: Final = 10
OBLIQUE_DEG: Final = 40.0
"""Past this yaw one side hides the other, as in `rep_geometry.sides_to_read`."""
CALCULATOR: Final = JointAngleCalculator()


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in which the athlete was found.

    Attributes
    ----------
    exercise, person, yaw_deg, pitch_deg : array, shape (N,)
        Where each comes from; the pitch NaN where it is the clip's own, small one.
    keypoints, confidence : array, shape (N, K, 2) and (N, K)
        As found.
    size_px, found_yaw_deg, flat_yaw_deg : array, shape (N,)
        Stature and yaw as the pipeline knows them: of the whole clip. The last in the picture.
    error_deg : array, shape (N, J)
        Angle in the picture minus exact 3-D angle.
    """

    exercise: FloatArray
    person: FloatArray
    yaw_deg: FloatArray
    pitch_deg: FloatArray
    keypoints: FloatArray
    confidence: FloatArray
    size_px: FloatArray
    found_yaw_deg: FloatArray
    flat_yaw_deg: FloatArray
    error_deg: FloatArray

    def where(self, chosen: BoolArray) -> Frames:
        """Return some of the frames."""
        return Frames(*(getattr(self, name)[chosen] for name in Frames.__slots__))

    def sigma(self, table: FloatArray) -> FloatArray:
        """Return the standard deviation of every angle, shape (N, J)."""
        aside_deg = self.off_front_deg(self.found_yaw_deg)
        return angle_sigma(self.keypoints, self.confidence, aside_deg, self.size_px, table)

    def off_front_deg(self, yaw_deg: FloatArray) -> FloatArray:
        """Return how far the camera stands off the view that hides the exercise's plane."""
        frontal = np.array([load_exercise(name).is_frontal for name in EXERCISES])
        return np.where(frontal[self.exercise.astype(np.intp)], 90.0 - yaw_deg, yaw_deg)


def frames_of(clip: NoiseClip, truth: Truth, found: Found) -> Frames:
    """Return the frames of a clip."""
    seen = found.seen
    keypoints = found.keypoints[seen]
    n = int(seen.sum())
    size = np.full(n, np.nanmedian(stature(keypoints)))
    flat = np.nanmedian(camera_yaw(keypoints, size))
    solid = np.nanmedian(camera_yaw_3d(found.world_m[seen]))
    pitch = np.nan if clip.pitch_deg is None else float(clip.pitch_deg)
    return Frames(
        exercise=np.full(n, float(EXERCISES.index(clip.exercise))),
        person=np.full(n, float(clip.person)),
        yaw_deg=np.full(n, float(clip.yaw_deg)),
        pitch_deg=np.full(n, pitch),
        keypoints=keypoints,
        confidence=found.confidence[seen],
        size_px=size,
        found_yaw_deg=np.full(n, solid),
        flat_yaw_deg=np.full(n, flat),
        error_deg=CALCULATOR.angles(keypoints) - truth.deg[seen],
    )


def joined(parts: Sequence[Frames]) -> Frames:
    """Return all frames together."""
    return Frames(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Frames.__slots__)
    )


def fit(frames: Frames) -> FloatArray:
    """Return the table of `angle_sigma` under which the errors are most likely, shape (J, 4)."""
    thinned = frames.where(np.arange(frames.yaw_deg.size) % EVERY == 0)
    table = np.empty((N_JOINTS, 4))
    for joint in JOINTS:
        columns = columns_of(joint)
        error_2 = np.square(thinned.error_deg[:, columns])
        known = np.isfinite(error_2)

        def cost(
            log_share: FloatArray,
            columns: list[int] = columns,
            error_2: FloatArray = error_2,
            known: BoolArray = known,
        ) -> float:
            row = row_of(log_share)
            sigma = thinned.sigma(np.tile(row, (N_JOINTS, 1)))[:, columns][known]
            variance = np.square(sigma) + SMALLEST_SIGMA_DEG**2
            likely = np.mean(np.log(variance) + error_2[known] / variance)
            # A weak pull to the start keeps what the errors do not tell from running away.
            return float(likely + 1e-3 * np.square(log_share).sum())

        best = minimize(
            cost, np.full(4, 0.3), method="Nelder-Mead", options={"maxiter": 250, "fatol": 1e-4}
        )
        table[columns] = row_of(best.x)
    return table


def row_of(log_share: FloatArray) -> FloatArray:
    """Return the four numbers of an angle from the logarithms of their shares of `START`."""
    row = START * np.exp(log_share)
    row[3] = min(row[3], LARGEST_POWER)
    return np.asarray(row)


def coverage(ratio: FloatArray) -> float:
    """Return the share of errors within two sigma."""
    known = ratio[np.isfinite(ratio)]
    return float((np.abs(known) < 2.0).mean()) if known.size else float("nan")


def spread(ratio: FloatArray) -> float:
    """Return the root mean square of errors in sigmas."""
    return float(np.sqrt(np.nanmean(np.square(ratio))))


def held_out(frames: Frames, groups: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return errors in sigmas, and sigmas, each group judged by a fit to the others, (N, J)."""
    sigma = np.empty_like(frames.error_deg)
    for group in np.unique(groups):
        sigma[groups == group] = frames.where(groups == group).sigma(
            fit(frames.where(groups != group))
        )
    return frames.error_deg / sigma, sigma


def add_coverage(report: Report, frames: Frames) -> tuple[FloatArray, FloatArray]:
    """Say how often the truth lies within two sigma, on people and exercises left out."""
    aside_deg = frames.off_front_deg(frames.yaw_deg)
    by_person, sigma = held_out(frames, frames.person)
    by_exercise, _ = held_out(frames, frames.exercise)
    rows: list[list[object]] = []
    for joint in JOINTS:
        columns = columns_of(joint)
        for name, ratio in (("person", by_person), ("exercise", by_exercise)):
            at_yaw = [ratio[aside_deg == yaw][:, columns] for yaw in YAWS_DEG]
            cells = [f"{coverage(part):.2f} ({spread(part):.2f})" for part in at_yaw]
            rows.append([joint, name, round(coverage(ratio[:, columns]), 3), *cells])
        for low, goal in ((True, ">= 0.90"), (False, "<= 0.99")):
            report.bar(
                f"{joint}_within_two_sigma_{'least' if low else 'most'}",
                goal=goal,
                measured=coverage(by_person[:, columns]),
                unit="share",
                n=int(np.isfinite(by_person[:, columns]).sum()),
                note="other people than fitted to",
            )
    report.table(
        "Within two sigma",
        ["joint", "left out of the fit", "all", *map(str, YAWS_DEG)],
        rows,
        "Share of |picture angle - exact 3-D angle| below two sigma, by true yaw; in brackets the "
        "RMS of the error in sigmas, which should be one. Both sides, the hidden one too. A motion "
        "in the frontal plane (the jumping jack) stands under 90 minus its yaw.",
    )
    sizes = [
        [
            joint,
            *(
                round(float(np.nanmedian(sigma[aside_deg == yaw][:, columns_of(joint)])), 1)
                for yaw in YAWS_DEG
            ),
        ]
        for joint in JOINTS
    ]
    report.table("Sigma by yaw", ["joint", *map(str, YAWS_DEG)], sizes, "Median, degrees.")
    return by_person, sigma


def add_yaw(report: Report, frames: Frames) -> None:
    """Say how far the yaw estimates are off, by true yaw and pitch."""
    estimates = {"metric landmarks": frames.found_yaw_deg, "picture": frames.flat_yaw_deg}
    rows: list[list[object]] = []
    for name, estimate in estimates.items():
        for pitch in (np.nan, *np.unique(frames.pitch_deg[~np.isnan(frames.pitch_deg)])):
            at_pitch = np.isnan(frames.pitch_deg) if np.isnan(pitch) else frames.pitch_deg == pitch
            cells: list[object] = []
            for yaw in YAWS_DEG:
                error = (estimate - yaw)[at_pitch & (frames.yaw_deg == yaw)]
                cells.append(
                    f"{np.median(error):+.0f} ({np.abs(error).max():.0f})" if error.size else None
                )
            label = "-5 to 12" if np.isnan(pitch) else f"{pitch:.0f}"
            rows.append([name, label, *cells])
        level = np.isnan(frames.pitch_deg)
        error = np.abs(estimate - frames.yaw_deg)[level]
        report.bar(
            f"yaw_error_{name.replace(' ', '_')}_median",
            goal="<= 10",
            measured=float(np.median(error)),
            unit="deg",
            n=int(error.size),
            p95=float(np.percentile(error, 95)),
            note="camera level within -5 to 12 degrees, all exercises; the median of each clip",
        )
    report.table(
        "Yaw of the camera",
        ["from", "pitch", *map(str, YAWS_DEG)],
        rows,
        "Estimated minus true yaw in degrees, by true yaw: median over frames (largest of a clip). "
        "A positive pitch looks down.",
    )


@dataclass(frozen=True, slots=True)
class RealClip:
    """What two detectors say of the same frames of a real clip.

    Attributes
    ----------
    view : str
        As noted beside the clip.
    between, within : array, shape (N, J)
        In sigmas: MediaPipe's minus YOLO's picture angle, and MediaPipe's metric minus its
        picture angle.
    yaw_deg : tuple of float
        Median of the clip: MediaPipe metric, MediaPipe picture, YOLO picture.
    """

    view: str
    between: FloatArray
    within: FloatArray
    yaw_deg: tuple[float, float, float]


def compared(view: str, pairs: Sequence[tuple[PoseDetections, PoseDetections]]) -> RealClip:
    """Return how two detectors' frames of one clip differ."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    points = [np.stack([one.keypoints[0] for one in side]) for side in (ours, theirs)]
    sure = [np.stack([one.confidence[0] for one in side]) for side in (ours, theirs)]
    size = [np.full(len(pairs), np.nanmedian(stature(side))) for side in points]
    world = np.stack([one.world_m[0] for one in ours if one.world_m is not None])
    solid_yaw = float(np.nanmedian(camera_yaw_3d(world)))
    flat_yaw = [float(np.nanmedian(camera_yaw(points[k], size[k]))) for k in (0, 1)]
    flat = [CALCULATOR.angles(side) for side in points]
    # Both look at the same picture: the view's share of sigma is common to them.
    aside = np.full(len(pairs), 90.0)
    sigma = [angle_sigma(points[k], sure[k], aside, size[k]) for k in (0, 1)]
    whole = angle_sigma(points[0], sure[0], np.full(len(pairs), solid_yaw), size[0])
    # Two people in view: the detectors may have chosen different ones.
    apart = np.linalg.norm(np.nanmean(points[0] - points[1], axis=1), axis=-1)
    same = (apart < SAME_PERSON_STATURES * size[0])[:, None]
    hidden = hidden_columns(sure[0], solid_yaw)
    flat[0][:, hidden] = np.nan
    return RealClip(
        view=view,
        between=np.where(same, (flat[0] - flat[1]) / np.hypot(*sigma), np.nan),
        within=(CALCULATOR.angles(world) - flat[0]) / whole,
        yaw_deg=(solid_yaw, flat_yaw[0], flat_yaw[1]),
    )


def hidden_columns(confidence: FloatArray, yaw_deg: float) -> list[int]:
    """Return the angles of the side that the body hides, which nobody scores."""
    if yaw_deg <= OBLIQUE_DEG:
        return []
    left, right = (confidence[:, SIDE_ROWS[side]].mean() for side in ("left", "right"))
    worse = "right" if left > right else "left"
    return [column for column, name in enumerate(JOINT_NAMES) if name.startswith(worse)]


def add_real(report: Report, data: Path, cache: Path | None) -> None:
    """Compare measurements of the same thing on real clips with sigma."""
    if not (data / "rep_counts.csv").is_file():
        report.text("The evaluation data is not here: real clips were not measured.")
        return
    store = DetectionCache(cache)
    found: list[RealClip] = []
    with (
        MediaPipePoseDetector() as mediapipe,
        YOLOPosev11Detector(data / "weights" / "yolo11n-pose.onnx", "cpu") as yolo,
    ):
        for clip in real_clips(data):
            mediapipe.reset()
            ours = [one for _, one in store.detections(clip, "mediapipe", mediapipe)]
            theirs = [one for _, one in store.detections(clip, "yolo", yolo)]
            pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a.n_people * b.n_people]
            if len(pairs) >= FEWEST_FRAMES:
                found.append(compared(clip.view, pairs))
    rows: list[list[object]] = []
    for joint in JOINTS:
        columns = columns_of(joint)
        cells: list[object] = []
        for name in ("between", "within"):
            ratio = np.concatenate([getattr(one, name)[:, columns] for one in found])
            known = ratio[np.isfinite(ratio)]
            cells += [known.size, round(coverage(known), 2) if known.size else None]
            cells.append(round(float(np.median(np.abs(known))), 2) if known.size else None)
        rows.append([joint, *cells])
    columns_ = ["joint", "n", "within 2", "median", "n", "within 2", "median"]
    report.table(
        "Real clips: do two measurements agree?",
        columns_,
        rows,
        f"In sigmas, {len(found)} clips. First three columns: MediaPipe against YOLO11n, both in "
        "the picture, the view's share left out, which is common to them; last three: MediaPipe's "
        "metric landmarks against its picture. Of a Gaussian the median of absolute values is "
        "0.67. Of clips from the side, the side with the surer keypoints. "
        "There is no truth on these clips; what both have wrong is not seen here.",
    )
    rows = [
        [view, len(mine), *(round(float(value)) for value in np.median(mine, axis=0))]
        for view in sorted({one.view for one in found})
        for mine in ([one.yaw_deg for one in found if one.view == view],)
    ]
    report.table(
        "Real clips: the camera's yaw",
        ["view", "clips", "MediaPipe metric", "MediaPipe picture", "YOLO11n picture"],
        rows,
        "Median over clips of each clip's median, degrees; the view as noted beside the clips, "
        '"side" where none was noted.',
    )


def figure(frames: Frames, sigma: FloatArray) -> bytes:
    """Return error and sigma of each joint by yaw as a PNG."""
    drawing, axes = plt.subplots(1, len(JOINTS), figsize=(15, 3.2))
    for axis, joint in zip(axes, JOINTS, strict=True):
        columns = columns_of(joint)
        at_yaw = [frames.off_front_deg(frames.yaw_deg) == yaw for yaw in YAWS_DEG]
        real = [spread(frames.error_deg[rows][:, columns]) for rows in at_yaw]
        said = [spread(sigma[rows][:, columns]) for rows in at_yaw]
        axis.plot(YAWS_DEG, real, marker="o", label="RMS error")
        axis.plot(YAWS_DEG, said, marker="x", label="RMS sigma")
        axis.set(title=joint, xlabel="yaw, degrees", xticks=(0, 45, 90), ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("degrees")
    axes[0].legend(fontsize=8)
    drawing.tight_layout()
    png = io.BytesIO()
    drawing.savefig(png, format="png", dpi=110)
    plt.close(drawing)
    return png.getvalue()


def write_table(table: FloatArray) -> None:
    """Write the fitted numbers into the package."""
    rows = {joint: table[columns_of(joint)[0]] / UNITS for joint in JOINTS}
    lines = [
        f'    "{joint}": ({", ".join(f"{value:.2f}" for value in row)}),'
        for joint, row in rows.items()
    ]
    head, _, rest = MODULE.read_text(encoding="utf-8").partition("PARTS: Final = {\n")
    _, _, tail = rest.partition("\n}\n")
    text = head + "PARTS: Final = {\n" + "\n".join(lines) + "\n}\n" + tail
    MODULE.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, check, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="evaluation data")
    parser.add_argument("--cache", type=Path, help="keep what was found in rendered clips here")
    parser.add_argument("--real-cache", type=Path, help="keep what was found in real clips here")
    parser.add_argument("--write", action="store_true", help="put the fit into the package first")
    arguments = parser.parse_args(argv)
    report = Report("view_uncertainty", command="scripts/run view-uncertainty")
    clips = [*bank_clips(), *pitched_clips()]
    everything = joined([frames_of(*found) for found in find_all(clips, arguments.cache)])
    level = everything.where(np.isnan(everything.pitch_deg))
    table = fit(level)
    if arguments.write:
        write_table(table)
    report.text(
        "Made of what MediaPipe found in the rendered clips of `measure-detector-noise`, which may "
        "come from a cache; the seconds above are then those of the rest. The numbers in use are "
        "the fit to all of them; coverage is measured on people, and exercises, left out of it. "
        "MediaPipe alone was calibrated: YOLO11n finds the drawn athlete badly, so it takes the "
        "same numbers and is checked on real clips below."
    )
    _, sigma = add_coverage(report, level)
    report.figure("Error and sigma by yaw", figure(level, sigma))
    rows = [
        [joint, *(round(float(value), 2) for value in part[columns_of(joint)[0]] / UNITS)]
        for joint in JOINTS
        for part in (table,)
    ]
    moved = float(np.abs(table - ANGLE_NOISE).max()) if not arguments.write else 0.0
    report.table(
        "The fit",
        ["joint", "keypoint noise, % of stature", "in plane, deg", "across, deg", "power"],
        rows,
        f"The largest difference from the numbers in the package is {moved:.2g}.",
    )
    add_yaw(report, everything)
    add_real(report, arguments.data, arguments.real_cache)
    print(report.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
