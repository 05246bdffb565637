"""The frozen values that travel the route of a frame.

``Frame -> PoseDetections -> TrackedPose -> JointAngles -> Motion -> Rep -> FormScore, Anomaly ->
Cue -> FrameAnalysis``. Positions are pixels of the source frame (x right, y down) or metres;
angles degrees; times seconds of the stream. NaN means *not measured* and is never replaced by 0.
Shape letters: P people, K = 21 keypoints (`skeleton.KEYPOINT_NAMES`), J = 13 angles
(`skeleton.JOINT_NAMES`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pose_analyzer.skeleton import N_JOINTS, N_KEYPOINTS

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.intp]
ImageArray: TypeAlias = npt.NDArray[np.uint8]


def _require_shape(name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream, with its time.

    Attributes
    ----------
    image : uint8 array, shape (H, W, 3)
        BGR, upright (a phone's rotation is already applied).
    time_s : float
        Seconds since the first frame of the stream, strictly increasing.
    index : int
        Number of the frame in its stream, from 0.
    """

    image: ImageArray
    time_s: float
    index: int


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """One picture of a stream as it came: a JPEG file, decoded when its turn has come.

    `inference.jpeg_head.jpeg_frame` makes it of a file and reads its size.

    Attributes
    ----------
    data : bytes
        The file. Pixels are taken as they are stored; a note on how to turn them is passed over.
    time_s, index
        As of `Frame`.
    height, width : int
        Of the picture in pixels, in which its results are.
    """

    data: bytes
    time_s: float
    index: int
    height: int
    width: int


AnyFrame: TypeAlias = Frame | JpegFrame
"""What a live stream takes."""


@dataclass(frozen=True, slots=True)
class PoseDetections:
    """Everybody a detector saw in one frame, best first.

    Attributes
    ----------
    keypoints : array, shape (P, K, 2)
        Pixels of the source frame. NaN where the detector has no such point.
    confidence : array, shape (P, K)
        In [0, 1]; 0 where the point is NaN.
    boxes : array, shape (P, 4)
        x1, y1, x2, y2 in pixels.
    box_confidence : array, shape (P,)
        In [0, 1].
    world_m : array, shape (P, K, 3), or None
        Metric 3-D landmarks, origin between the hips, x right, y down, z away from the camera.
    """

    keypoints: FloatArray
    confidence: FloatArray
    boxes: FloatArray
    box_confidence: FloatArray
    world_m: FloatArray | None = None

    def __post_init__(self) -> None:
        people = self.box_confidence.shape[0]
        _require_shape("keypoints", self.keypoints, (people, N_KEYPOINTS, 2))
        _require_shape("confidence", self.confidence, (people, N_KEYPOINTS))
        _require_shape("boxes", self.boxes, (people, 4))
        if self.world_m is not None:
            _require_shape("world_m", self.world_m, (people, N_KEYPOINTS, 3))

    @property
    def n_people(self) -> int:
        """How many people were seen."""
        return int(self.box_confidence.shape[0])

    @classmethod
    def empty(cls) -> PoseDetections:
        """Return the detections of a frame with nobody in it."""
        return cls(
            np.empty((0, N_KEYPOINTS, 2)),
            np.empty((0, N_KEYPOINTS)),
            np.empty((0, 4)),
            np.empty(0),
        )


@dataclass(frozen=True, slots=True)
class TrackedPose:
    """The people of one frame with their identities, as tracked and then smoothed.

    Attributes
    ----------
    track_ids : int array, shape (P,)
        Stable from frame to frame, never reused within a stream.
    keypoints : array, shape (P, K, 2)
        Pixels. NaN where not seen and no longer predictable.
    confidence : array, shape (P, K)
        Of the measurement, in [0, 1]; 0 where nothing was measured in this frame.
    boxes : array, shape (P, 4)
        x1, y1, x2, y2 in pixels.
    predicted : bool array, shape (P, K)
        True where a short gap was bridged by prediction rather than measured.
    velocity_px_s : array, shape (P, K, 2)
        From the smoother; NaN before smoothing and where the position is NaN.
    athlete_idx : int or None
        The row of the person who is analysed; None while nobody is.
    world_m : array, shape (P, K, 3), or None
        Metric landmarks of the same rows, unsmoothed, where the detector gives them.
    """

    track_ids: IntArray
    keypoints: FloatArray
    confidence: FloatArray
    boxes: FloatArray
    predicted: BoolArray
    velocity_px_s: FloatArray
    athlete_idx: int | None
    world_m: FloatArray | None = None

    def __post_init__(self) -> None:
        people = self.track_ids.shape[0]
        _require_shape("keypoints", self.keypoints, (people, N_KEYPOINTS, 2))
        _require_shape("confidence", self.confidence, (people, N_KEYPOINTS))
        _require_shape("boxes", self.boxes, (people, 4))
        _require_shape("predicted", self.predicted, (people, N_KEYPOINTS))
        _require_shape("velocity_px_s", self.velocity_px_s, (people, N_KEYPOINTS, 2))

    @property
    def n_people(self) -> int:
        """How many people are tracked in this frame."""
        return int(self.track_ids.shape[0])


@dataclass(frozen=True, slots=True)
class JointAngles:
    """The angles of one person in one frame, in the order of `skeleton.JOINT_NAMES`.

    Attributes
    ----------
    deg : array, shape (J,)
        Included angles (180 = straight) and leans from the vertical, as the camera sees them.
        NaN where a keypoint is missing.
    sigma_deg : array, shape (J,)
        One standard deviation of each angle for the estimated view and confidence; NaN with it.
    yaw_deg : float
        Estimated camera yaw: 0 from the front or the back, 90 from the side. NaN if unknown.
    """

    deg: FloatArray
    sigma_deg: FloatArray
    yaw_deg: float

    def __post_init__(self) -> None:
        _require_shape("deg", self.deg, (N_JOINTS,))
        _require_shape("sigma_deg", self.sigma_deg, (N_JOINTS,))


@dataclass(frozen=True, slots=True)
class Stance:
    """How the athlete stands at one moment.

    Attributes
    ----------
    height : float
        Of the signal's moving points over its resting points, in body sizes, upward positive; NaN
        unless all were seen.
    stepping : float
        By how much one ankle moved against the other within the last half second, in body sizes;
        NaN unless both were seen then and now. A moving camera hardly changes it.
    stature_px : float
        The body size; NaN before it was seen.
    """

    height: float = math.nan
    stepping: float = math.nan
    stature_px: float = math.nan


@dataclass(frozen=True, slots=True)
class Motion:
    """How the athlete moves at one moment.

    Attributes
    ----------
    signal : float
        The exercise's repetition signal: body displacement in body sizes, larger = further from
        the rest position. NaN if its points were not seen.
    signal_per_s : float
        Its rate of change, in body sizes a second.
    phase : str
        ``"rest"``, ``"away"`` (leaving rest: down in a squat), ``"turn"`` (near the far end) or
        ``"back"``; ``"unknown"`` while not measured.
    deg_s : array, shape (J,)
        Angular velocities in degrees a second.
    stance : Stance
        How the athlete stands.
    """

    signal: float
    signal_per_s: float
    phase: str
    deg_s: FloatArray
    stance: Stance = field(default_factory=Stance)


@dataclass(frozen=True, slots=True)
class Rep:
    """One repetition, or one attempt at one.

    Attributes
    ----------
    number : int
        From 1 among full repetitions; 0 if partial.
    start_s, turn_s, end_s : float
        When rest was left, the middle of the time at the far end, rest reached again.
    start_index, turn_index, end_index : int
        The frames of these moments.
    range : float
        Travel of the repetition signal, in body sizes.
    is_partial : bool
        True for an attempt that was cut short or much smaller than the others. Not counted.
    hold_s : float
        Seconds at the far end, around ``turn_s``.
    """

    number: int
    start_s: float
    turn_s: float
    end_s: float
    start_index: int
    turn_index: int
    end_index: int
    range: float
    is_partial: bool
    hold_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return self.end_s - self.start_s

    @property
    def away_s(self) -> float:
        """Seconds of the way from rest to the far end."""
        return self.turn_s - 0.5 * self.hold_s - self.start_s

    @property
    def back_s(self) -> float:
        """Seconds of the way back."""
        return self.end_s - self.turn_s - 0.5 * self.hold_s


@dataclass(frozen=True, slots=True)
class RepMotion:
    """The movement of one finished repetition, smoothed forward and backward in time.

    Attributes
    ----------
    time_s : array, shape (T,)
        Increasing, seconds of the stream.
    keypoints : array, shape (T, K, 2)
        Pixels. NaN where not seen.
    confidence : array, shape (T, K)
        Of the measurements; 0 where a gap was bridged.
    deg, sigma_deg : array, shape (T, J)
        Angles and their standard deviation; NaN where not measured.
    signal : array, shape (T,)
        The repetition signal, in body sizes.
    turn_idx : int
        The row of the far end.
    yaw_deg : float
        Median camera yaw: 0 front or back, 90 side. NaN if unknown.
    stature_px : float
        Estimated standing height of the body in pixels. NaN if unknown.
    earlier_s : tuple of float
        How long the full repetitions before it in the set were moving, the latest last. Empty if
        it is the first, or is judged by itself.
    """

    time_s: FloatArray
    keypoints: FloatArray
    confidence: FloatArray
    deg: FloatArray
    sigma_deg: FloatArray
    signal: FloatArray
    turn_idx: int
    yaw_deg: float
    stature_px: float
    earlier_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One criterion of a form score.

    Attributes
    ----------
    name : str
        ``"depth"``, ``"alignment"``, ``"symmetry"``, ``"smoothness"``, ``"tempo"``, ...
    score : float
        0 to 100; NaN if it could not be judged.
    weight : float
        Share of the total among the parts that could be judged, before confidence.
    confidence : float
        In [0, 1]: how sure the measurement is. 0 = not judged.
    evidence : str
        What was seen, with its unit: ``"deepest knee angle 92 deg, goal 90"``.
    """

    name: str
    score: float
    weight: float
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True)
class FormScore:
    """How well a repetition was done.

    Attributes
    ----------
    total : float
        0 to 100; NaN if nothing could be judged.
    confidence : float
        In [0, 1], the weighted mean of the parts' confidence.
    parts : tuple of ScorePart
        All criteria of the exercise, judged or not.
    """

    total: float
    confidence: float
    parts: tuple[ScorePart, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One named error of a repetition.

    Attributes
    ----------
    name : str
        As in the exercise file: ``"shallow_depth"``, ``"knee_valgus"``, ...
    severity : float
        In (0, 1]: how far past the limit, 1 = at or past the severe limit.
    confidence : float
        In [0, 1].
    evidence : str
        What was measured against which limit.
    """

    name: str
    severity: float
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Whether a repetition differs from the reference repetitions.

    Attributes
    ----------
    is_anomaly : bool
        Always False while ``abstained`` says why it was not judged.
    score : float
        Larger = stranger; NaN when abstained, unless it is only the threshold that is missing.
    threshold : float
        The score above which a repetition is an anomaly; NaN when abstained.
    joints : tuple of (str, float)
        Share of each joint in the difference, largest first, summing to 1.
    abstained : str
        Empty, or the reason why no judgement was made.
    """

    is_anomaly: bool
    score: float
    threshold: float
    joints: tuple[tuple[str, float], ...]
    abstained: str = ""


@dataclass(frozen=True, slots=True)
class Cue:
    """One short sentence for the athlete.

    Attributes
    ----------
    time_s : float
        When it was given.
    name : str
        The fault that it answers, or ``"praise"``.
    text : str
        What to say.
    priority : int
        1 is the most urgent.
    """

    time_s: float
    name: str
    text: str
    priority: int


@dataclass(frozen=True, slots=True)
class RepAnalysis:
    """A finished repetition with everything that is known of it.

    Attributes
    ----------
    rep : Rep
        When it happened.
    motion : RepMotion
        Its movement, from keypoints smoothed in both directions.
    min_deg, max_deg : array, shape (J,)
        Extremes of each angle; NaN if never seen.
    yaw_deg : float
        Median camera yaw over the repetition.
    seen : float
        Share of the exercise's keypoints that were measured, in [0, 1].
    score : FormScore
        How well it was done.
    faults : tuple of Fault
        What was wrong, in the order of the exercise file.
    anomaly : Anomaly
        Whether it is unlike its references, or unlike the others of its set without any.
    """

    rep: Rep
    motion: RepMotion
    min_deg: FloatArray
    max_deg: FloatArray
    yaw_deg: float
    seen: float
    score: FormScore
    faults: tuple[Fault, ...]
    anomaly: Anomaly

    @property
    def deg(self) -> FloatArray:
        """Its angles, shape (T, J), NaN where not measured."""
        return self.motion.deg

    @property
    def time_s(self) -> FloatArray:
        """The time of each row of `deg`, shape (T,)."""
        return self.motion.time_s


@dataclass(frozen=True, slots=True)
class FrameAnalysis:
    """Everything that is known after one frame.

    Attributes
    ----------
    index : int
        Of the frame.
    time_s : float
        Of the frame.
    pose : TrackedPose
        Everybody, smoothed.
    angles : JointAngles
        Of the athlete; all NaN if there is none.
    motion : Motion
        Of the athlete.
    rep_count : int
        Full repetitions finished so far.
    finished : tuple of RepAnalysis
        Repetitions that this frame finished (mostly none), partial ones too.
    score : float
        Total of the last full repetition; NaN before the first.
    cue : Cue or None
        Given in this frame.
    """

    index: int
    time_s: float
    pose: TrackedPose
    angles: JointAngles
    motion: Motion
    rep_count: int
    finished: tuple[RepAnalysis, ...]
    score: float
    cue: Cue | None


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """What an offline analysis found in a whole clip.

    Attributes
    ----------
    source : str
        The clip, as the user named it.
    exercise, detector : str
        Names.
    width, height : int
        Pixels of the upright picture.
    n_frames : int
        Frames analysed.
    duration_s : float
        Time of the last frame plus its duration.
    n_frames_seen : int
        Frames in which the athlete was measured.
    n_people_max : int
        Most people in one frame.
    keypoint_seen : array, shape (K,)
        Share of all frames in which each keypoint of the athlete was measured.
    mean_confidence : float
        Of the measured keypoints of the athlete; NaN if none.
    yaw_deg : float
        Median estimated camera yaw; NaN if unknown.
    n_left_right_swaps : int
        Left/right exchanges that were repaired.
    reps : tuple of RepAnalysis
        In time order, partial ones too.
    cues : tuple of Cue
        In time order.
    warnings : tuple of str
        What the user should know: where a truncated file ended, what the view hides.
    """

    source: str
    exercise: str
    detector: str
    width: int
    height: int
    n_frames: int
    duration_s: float
    n_frames_seen: int
    n_people_max: int
    keypoint_seen: FloatArray
    mean_confidence: float
    yaw_deg: float
    n_left_right_swaps: int
    reps: tuple[RepAnalysis, ...]
    cues: tuple[Cue, ...]
    warnings: tuple[str, ...]

    @property
    def rep_count(self) -> int:
        """Full repetitions."""
        return sum(not one.rep.is_partial for one in self.reps)

    @property
    def mean_score(self) -> float:
        """Mean total of the full repetitions that could be scored; NaN if none could."""
        totals = [one.score.total for one in self.reps if not one.rep.is_partial]
        judged = [total for total in totals if not np.isnan(total)]
        return float(np.mean(judged)) if judged else float("nan")
