"""Repetitions of one exercise against references, one detector for each camera view.

What a camera shows of the same repetition differs with its yaw more than good repetitions differ
among people. So references, threshold and guarantee are kept apart for the front, between, and
the side, and a view without references is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from pose_analyzer.conformal import scores_needed
from pose_analyzer.errors import ReferencesError
from pose_analyzer.form_anomaly_detector import (
    MIN_REFERENCES,
    Calibration,
    FormAnomalyDetector,
    abstained,
)
from pose_analyzer.form_channels import CHANNELS, FLOORS, form_channels
from pose_analyzer.types import Anomaly, RepMotion

VIEWS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"front": (0.0, 30.0), "oblique": (30.0, 60.0), "side": (60.0, 90.0)}
)
"""Camera yaws in degrees of each view, the upper end excluded but for the last."""
FILE_NAME: Final = "anomaly_{view}.npz"

_MIN_CONFIDENCE: Final = 0.3
_MIN_FRAMES: Final = 8


def view_of(yaw_deg: float) -> str:
    """Return the name of the view from a camera yaw; empty if the yaw is NaN."""
    if math.isnan(yaw_deg):
        return ""
    return next((name for name, (_, high) in VIEWS.items() if yaw_deg < high), "side")


class ReferenceJudge:
    """Tells whether a repetition is unlike the good ones of its exercise and view.

    Parameters
    ----------
    exercise : str
        What the references show.
    detectors : mapping of str to FormAnomalyDetector
        By view, of the channels of `form_channels`; at least one.
    """

    def __init__(self, exercise: str, detectors: Mapping[str, FormAnomalyDetector]) -> None:
        unknown = [name for name in detectors if name not in VIEWS]
        if unknown:
            raise ValueError(f"unknown view {unknown[0]!r}; known views: {', '.join(VIEWS)}")
        if not detectors:
            raise ValueError("detectors must hold at least one view")
        self.exercise = exercise
        self._detectors = dict(detectors)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that have references."""
        return tuple(name for name in VIEWS if name in self._detectors)

    @classmethod
    def fit(
        cls,
        exercise: str,
        references: Sequence[RepMotion],
        calibration: Sequence[RepMotion],
        athletes: Sequence[Hashable] = (),
        false_positive_rate: float | None = 0.01,
    ) -> ReferenceJudge:
        """Return a judge that learned from good repetitions; see `FormAnomalyDetector.fit`.

        Parameters
        ----------
        exercise : str
            What they show.
        references, calibration : sequence of RepMotion
            Different good repetitions, from any views. A view that has too few is left out.
        athletes : sequence of hashable, optional
            Whose each calibration repetition is, which the personal mode needs.
        false_positive_rate : float, optional
            The share of good repetitions of each view that may be called anomalies. None sets no
            threshold: scores then only rank.

        Raises
        ------
        ReferencesError
            If no view has enough; the message is that of the view with the most. Or if a
            repetition of a view that has enough cannot be used; the message says which.
        """
        detectors: dict[str, FormAnomalyDetector] = {}
        refusals: list[tuple[int, ReferencesError]] = []
        needed = 0 if false_positive_rate is None else scores_needed(false_positive_rate)
        for view in VIEWS:
            mine = [form_channels(one) for one in references if view_of(one.yaw_deg) == view]
            rows = [i for i, one in enumerate(calibration) if view_of(one.yaw_deg) == view]
            others = Calibration(
                [form_channels(calibration[i]) for i in rows],
                [athletes[i] for i in rows] if athletes else (),
            )
            try:
                detectors[view] = FormAnomalyDetector(CHANNELS, FLOORS).fit(
                    mine, others, false_positive_rate
                )
            except ReferencesError as exc:
                if len(mine) >= MIN_REFERENCES and len(rows) >= needed:
                    raise ReferencesError(f"{exercise} from the {view}: {exc}") from exc
                refusals.append((len(mine) + len(rows), exc))
        if not detectors:
            most = max(refusals, key=lambda item: item[0])[1]
            raise ReferencesError(f"{exercise}: {most}") from most
        return cls(exercise, detectors)

    def personalised(
        self,
        own: Sequence[RepMotion],
        weight: float | None = None,
        false_positive_rate: float | None = None,
    ) -> ReferenceJudge:
        """Return a judge for one athlete: the views that ``own`` shows become personal.

        Parameters are those of `FormAnomalyDetector.personalised`. The shipped references hold
        some 60 to 100 synthetic athletes a view, of two repetitions each: enough for one own
        repetition and a rate of 2 %, not for more.

        Raises
        ------
        ReferencesError
            As `FormAnomalyDetector.personalised`; or if no own repetition shows a view that has
            references.
        """
        detectors = dict(self._detectors)
        found = False
        for view, detector in self._detectors.items():
            mine = [form_channels(one) for one in own if view_of(one.yaw_deg) == view]
            if mine:
                detectors[view] = detector.personalised(mine, weight, false_positive_rate)
                found = True
        if not found:
            raise ReferencesError(
                f"{self.exercise}: no own repetition was filmed from where the references were "
                f"({', '.join(self.views)})"
            )
        return ReferenceJudge(self.exercise, detectors)

    def judge(self, motion: RepMotion) -> Anomaly:
        """Return whether a repetition differs from the references of its view.

        Abstains where the view is unknown or has no references, where fewer than 8 frames or too
        few channels were seen, and where the mean confidence of what was seen is below 0.3.
        """
        view = view_of(motion.yaw_deg)
        if not view:
            return abstained("the camera view is unknown; show shoulders and hips")
        if view not in self._detectors:
            return abstained(f"no references from the {view}; film {' or '.join(self.views)}")
        if len(motion.time_s) < _MIN_FRAMES:
            return abstained(f"shorter than {_MIN_FRAMES} frames")
        seen = motion.confidence[motion.confidence > 0.0]
        if not seen.size or float(np.mean(seen)) < _MIN_CONFIDENCE:
            return abstained("the keypoints are too uncertain")
        return self._detectors[view].judge(form_channels(motion))

    def save(self, folder: Path) -> None:
        """Write one file a view into a folder, which must exist.

        Raises
        ------
        ReferencesError
            If a file cannot be written.
        """
        for view, detector in self._detectors.items():
            detector.save(folder / FILE_NAME.format(view=view))

    @classmethod
    def load(cls, folder: Path, exercise: str) -> ReferenceJudge:
        """Return the judge whose files lie in a folder.

        Raises
        ------
        ReferencesError
            If there is none, or one is damaged, of another version, or of other channels.
        """
        detectors: dict[str, FormAnomalyDetector] = {}
        for view in VIEWS:
            path = folder / FILE_NAME.format(view=view)
            if not path.is_file():
                continue
            detector = FormAnomalyDetector.load(path)
            if detector.channels != CHANNELS:
                raise ReferencesError(
                    f"{path} compares other channels than this release; fit it anew"
                )
            detectors[view] = detector
        if not detectors:
            raise ReferencesError(f"there is no anomaly model in {folder}")
        return cls(exercise, detectors)
