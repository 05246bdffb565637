"""Who is who from frame to frame, and who is the athlete.

People are matched by the similarity of their keypoints to where their tracks are expected, best
assignment first over the sure detections, then over the unsure ones. Left and right sides that a
detector exchanged are put back.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from pose_analyzer.person_track import Found, PersonTrack, TrackerConfig, gate
from pose_analyzer.pose_similarity import iou, oks
from pose_analyzer.skeleton import MIRROR, N_KEYPOINTS
from pose_analyzer.swap_repair import SwapConfig
from pose_analyzer.types import BoolArray, FloatArray, IntArray, PoseDetections, TrackedPose

__all__ = ["PoseTracker", "SwapConfig", "TrackerConfig"]

_LOST_GROWTH_PER_S: Final = 2.0
"""By how many of its own areas a lost body's tolerance grows in a second: it may have moved."""
_MIN_SEEN: Final = 3
"""Sightings after which a track that is missed is bridged: a ghost of one frame is not."""


class PoseTracker:
    """Give the people of a stream identities, choose the athlete, put exchanged sides back.

    Parameters
    ----------
    config : TrackerConfig, optional
        When a detection is a person, and which.

    Notes
    -----
    **Association.** Object keypoint similarity between the detection and the track's keypoints
    carried on at constant velocity, over the keypoints that both have; a pose with exchanged
    sides is as good. Where too few are common, the overlap of the boxes; a large overlap also
    saves a person whose keypoints jump, if nobody fits better. The Hungarian method
    picks the best pairs, first among sure detections, then among unsure ones [1]_. A track that is
    not seen lives on for `TrackerConfig.max_lost_s`; ids are never used again.

    **The athlete** is the person with the largest body size (diagonal of the box) times
    confidence, averaged over time with a constant of `TrackerConfig.athlete_constant_s`. Somebody
    else takes over only after exceeding the athlete's figure by `TrackerConfig.takeover_ratio` for
    `TrackerConfig.takeover_s`, or when the athlete's track has died. After a camera cut, or a pose
    that changed too much at once, the athlete comes back under a new id: somebody of about the
    athlete's size who appeared after the athlete was lost takes over after
    `TrackerConfig.bridge_s`.

    References
    ----------
    .. [1] Y. Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
       arXiv:2110.06864, section 3.

    Examples
    --------
    >>> PoseTracker().update(PoseDetections.empty(), 0.0).athlete_idx is None
    True
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = TrackerConfig() if config is None else config
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new object; ids begin at 0 again."""
        self._tracks: list[PersonTrack] = []
        self._time_s: float | None = None
        self._next_id = 0
        self._athlete: PersonTrack | None = None
        self._rival: PersonTrack | None = None
        self._rival_since_s = math.nan
        self._n_swaps_of_dead = 0

    @property
    def n_swaps(self) -> int:
        """Left/right exchanges that were repaired so far; one of several frames counts once."""
        return self._n_swaps_of_dead + sum(track.swap.n_swaps for track in self._tracks)

    def update(self, detections: PoseDetections, time_s: float) -> TrackedPose:
        """Return the people of one frame with their identities.

        Parameters
        ----------
        detections : PoseDetections
            Everybody the detector saw. Not modified.
        time_s : float
            Of the frame, larger than that of the frame before.

        Returns
        -------
        TrackedPose
            One row for each person, in the order of the ids. Keypoints that are not finite or
            below `TrackerConfig.min_confidence` are NaN with confidence 0. Somebody missed for up
            to `TrackerConfig.bridge_s` keeps a row, all NaN but for the last box. Velocities are
            NaN and nothing is predicted: the smoother's work.

        Raises
        ------
        ValueError
            If the time does not increase.
        """
        before_s = self._time_s
        elapsed_s = 1.0 if before_s is None else time_s - before_s
        if not (0.0 < elapsed_s < math.inf and math.isfinite(time_s)):
            raise ValueError(f"time_s must increase: got {time_s} after {before_s}")
        self._time_s = time_s
        found = gate(detections, self.config)
        self._bury(time_s)
        matched = self._match(found, time_s)
        for row, track in enumerate(matched):
            if track is not None:
                track.see(found, row, time_s, self.config.bridge_s)
            elif found.box_confidence[row] >= self.config.sure_confidence:
                self._tracks.append(
                    PersonTrack(self._next_id, found, row, time_s, self.config.swap)
                )
                self._next_id += 1
                matched[row] = self._tracks[-1]
        self._weigh(found, matched, elapsed_s)
        self._athlete = self._chosen_athlete(time_s)
        return self._pose(time_s, detections.world_m is not None)

    def _bury(self, time_s: float) -> None:
        """Drop the tracks that have been lost for too long."""
        oldest_s = time_s - self.config.max_lost_s
        if all(track.seen_s >= oldest_s for track in self._tracks):
            return
        for track in self._tracks:
            if track.seen_s < oldest_s:
                self._n_swaps_of_dead += track.swap.n_swaps
        self._tracks = [track for track in self._tracks if track.seen_s >= oldest_s]
        if self._athlete not in self._tracks:
            self._athlete = None
        if self._rival not in self._tracks:
            self._rival = None

    def _match(self, found: Found, time_s: float) -> list[PersonTrack | None]:
        """Return the track of each detection; None for a stranger."""
        n_found = len(found.box_confidence)
        matched: list[PersonTrack | None] = [None] * n_found
        if not self._tracks or not n_found:
            return matched
        score, trust = self._similarity(found, time_s)
        config = self.config
        is_sure = [value >= config.sure_confidence for value in found.box_confidence]
        free = list(range(len(self._tracks)))
        for stage, least in (
            (True, config.min_similarity),
            (False, config.min_unsure_similarity),
        ):
            rows = [row for row in range(n_found) if is_sure[row] is stage]
            for index, row in _best_pairs(score, trust >= least, free, rows):
                matched[row] = self._tracks[index]
                free.remove(index)
        return matched

    def _similarity(self, found: Found, time_s: float) -> tuple[FloatArray, FloatArray]:
        """Return how alike tracks and detections are, and what decides if they may be one."""
        tracks, config = self._tracks, self.config
        lost_s = np.array([time_s - track.seen_s for track in tracks])
        area = np.array([track.area for track in tracks]) * (1.0 + _LOST_GROWTH_PER_S * lost_s)
        expected = np.stack([track.expected(time_s, config.bridge_s) for track in tracks])
        points, area = found.keypoints[None], area[:, None]
        score, n_common = oks(expected[:, None], points, area)
        decided = n_common >= config.min_common
        if decided.all() and float(score.min()) >= config.min_unsure_similarity:
            return score, score
        # A detector that exchanges the sides still sees the same person.
        score = np.maximum(score, oks(expected[:, None, MIRROR], points, area)[0])
        overlap = iou(np.stack([track.box for track in tracks])[:, None], found.boxes[None])
        # Boxes overlap by chance too, so they count for less where keypoints can be compared.
        same_place = overlap >= np.where(decided, config.sure_overlap, config.min_overlap)
        score = np.where(decided, np.maximum(score, 0.5 * overlap), overlap)
        return score, np.where(same_place, 1.0, np.where(decided, score, 0.0))

    def _weigh(self, found: Found, matched: list[PersonTrack | None], elapsed_s: float) -> None:
        """Average body size times confidence over time; nothing for who is not seen."""
        share = -math.expm1(-elapsed_s / self.config.athlete_constant_s)
        for track in self._tracks:
            track.weight *= 1.0 - share
        for track_or_none, size_px, sure in zip(
            matched, found.sizes_px, found.box_confidence, strict=True
        ):
            if track_or_none is not None:
                track_or_none.weight += share * size_px * sure

    def _chosen_athlete(self, time_s: float) -> PersonTrack | None:
        athlete, config = self._athlete, self.config
        if athlete is None:
            return max(self._tracks, key=lambda track: track.weight, default=None)
        if len(self._tracks) == 1:
            self._rival = None
            return athlete
        if athlete.seen_s < time_s - config.bridge_s:
            heir = max(self._heirs(athlete, time_s), key=lambda track: track.weight, default=None)
            if heir is not None:
                return heir
        rival = max(self._tracks, key=lambda track: track.weight)
        if rival.weight <= config.takeover_ratio * athlete.weight:
            self._rival = None
        elif rival is not self._rival:
            self._rival, self._rival_since_s = rival, time_s
        elif time_s - self._rival_since_s > config.takeover_s:
            self._rival = None
            return rival
        return athlete

    def _heirs(self, athlete: PersonTrack, time_s: float) -> list[PersonTrack]:
        """Return who appeared when the athlete vanished and is about as large.

        A cross-fade shows both for a moment.
        """
        least_px = athlete.size_px / self.config.takeover_ratio
        earliest_s = athlete.seen_s - self.config.bridge_s
        return [
            track
            for track in self._tracks
            if track.seen_s == time_s and track.born_s > earliest_s and track.size_px >= least_px
        ]

    def _pose(self, time_s: float, has_world: bool) -> TrackedPose:
        """Return a row for everybody who is seen or was a moment ago."""
        oldest_s = time_s - self.config.bridge_s
        rows = [
            track
            for track in self._tracks
            if track.seen_s == time_s or (track.n_seen >= _MIN_SEEN and track.seen_s >= oldest_s)
        ]
        n_people = len(rows)
        keypoints = np.full((n_people, N_KEYPOINTS, 2), np.nan)
        velocity = keypoints.copy()
        confidence = np.zeros((n_people, N_KEYPOINTS))
        boxes = np.empty((n_people, 4))
        world_m = np.full((n_people, N_KEYPOINTS, 3), np.nan) if has_world else None
        athlete_idx = None
        for row, track in enumerate(rows):
            boxes[row] = track.box
            if track is self._athlete:
                athlete_idx = row
            if track.seen_s == time_s:
                keypoints[row] = track.measured
                confidence[row] = track.confidence
                if world_m is not None:
                    world_m[row] = track.world_m
        return TrackedPose(
            np.array([track.id for track in rows], dtype=np.intp),
            keypoints,
            confidence,
            boxes,
            np.zeros((n_people, N_KEYPOINTS), dtype=np.bool_),
            velocity,
            athlete_idx,
            world_m,
        )


def _best_pairs(
    score: FloatArray, allowed: BoolArray, tracks: list[int], rows: list[int]
) -> list[tuple[int, int]]:
    """Return the allowed pairs of track and row with the largest total score."""
    if not tracks or not rows:
        return []
    if len(tracks) == len(rows) == 1:
        return [(tracks[0], rows[0])] if allowed[tracks[0], rows[0]] else []
    chosen = np.ix_(tracks, rows)
    value = np.where(allowed[chosen], score[chosen], 0.0)
    first: IntArray
    second: IntArray
    first, second = linear_sum_assignment(value, maximize=True)
    pairs = [(tracks[i], rows[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    return [(track, row) for track, row in pairs if allowed[track, row]]
