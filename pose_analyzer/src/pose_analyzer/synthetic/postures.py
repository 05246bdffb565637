"""What each exercise looks like at a share of its travel.

A posture function takes a `Figure` and a `Moment` and sets the figure's points. It returns the
angle that it commands, so that tests can check that the body does what it was told. The end
angles are chosen by us to look like textbook form; they are not norms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pose_analyzer.synthetic.body import (
    HEEL_SHARE,
    SIDES,
    SOLE_DROP,
    SOLE_HEIGHT,
    Figure,
    chord,
    remaining,
    vector,
)
from pose_analyzer.types import FloatArray


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in the movement each frame is.

    Attributes
    ----------
    time_s, travel : array, shape (T,)
        Time, and the share of the full travel.
    severity : mapping of str to array, shape (T,)
        Of each fault of `FAULT_NAMES`.
    """

    time_s: FloatArray
    travel: FloatArray
    severity: Mapping[str, FloatArray] = field(repr=False)

    def grown(self, name: str) -> FloatArray:
        """Return a fault's severity times the travel: nothing at rest, all at the far end."""
        return self.severity[name] * self.travel

    def between(self, rest: float, turn: float) -> FloatArray:
        """Return a value that runs from ``rest`` to ``turn`` with the travel."""
        return rest + (turn - rest) * self.travel


@dataclass(frozen=True, slots=True)
class Command:
    """The angle that a posture function set on purpose.

    Attributes
    ----------
    joints : tuple of str
        Of `skeleton.JOINT_NAMES`.
    deg : array, shape (T,)
        What each of them measures, exactly, without an ``asymmetry``.
    """

    joints: tuple[str, ...]
    deg: FloatArray


@dataclass(frozen=True, slots=True)
class _Stance:
    """Both feet flat on the floor."""

    knee_deg: FloatArray
    shin_lean_deg: FloatArray
    trunk_lean_deg: FloatArray
    half_width: FloatArray | float = 0.064
    toe_out_deg: float = 7.0
    tilts: bool = False
    shrug: FloatArray | float = 0.0


def _sagittal(angle_deg: FloatArray, sign: float, abduction_deg: FloatArray | float) -> FloatArray:
    """Return a direction: straight down, swung forward, then the plane swung out to a side."""
    angle, out = np.radians(angle_deg), np.radians(abduction_deg)
    return vector(np.sin(angle), sign * np.sin(out) * np.cos(angle), -np.cos(out) * np.cos(angle))


def _stand(figure: Figure, moment: Moment, stance: _Stance) -> None:
    """Set trunk, head and legs over two planted feet, with the faults that show there."""
    size = figure.stature
    shape = figure.proportions
    shank, thigh = shape.shank * size, shape.thigh * size
    flexion = np.radians(180.0 - stance.knee_deg)
    forward = moment.grown("forward_knee")
    shin = np.radians(stance.shin_lean_deg + 16.0 * forward)
    half_hip, ankle_z = 0.5 * shape.hip_width * size, _tiptoe_height(figure, 0.0)
    half_stance = np.asarray(stance.half_width) * size
    back = shank * np.sin(shin) - thigh * np.sin(flexion - shin)
    reach = chord(shank, thigh, stance.knee_deg)
    rise = remaining(reach, np.hypot(back, half_hip - half_stance))
    tilt = moment.severity["asymmetry"] * moment.travel**2 * stance.tilts
    mid_hip = vector(back, -0.045 * size * tilt, ankle_z + rise)
    rounded = moment.grown("rounded_back")
    lean = stance.trunk_lean_deg - 8.0 * forward
    figure.trunk(mid_hip, lean, 80.0 * rounded, 4.0 * tilt, 8.0 * tilt, stance.shrug)
    figure.head(0.35 * stance.trunk_lean_deg + 20.0 * rounded, 80.0 * rounded)
    turned = np.radians(stance.toe_out_deg - 25.0 * moment.grown("knee_valgus"))
    for side, sign in SIDES:
        ankle = vector(0.0, sign * half_stance, np.full(figure.n_frames, ankle_z))
        figure.leg(side, ankle, vector(np.cos(turned), sign * np.sin(turned), 0.0))
        figure.foot(side, 0.0, stance.toe_out_deg)


def _one_sided(moment: Moment, side: str, most: float = 0.4) -> FloatArray:
    """Return the travel of an arm: an asymmetric athlete does less with the left one."""
    lag = most * moment.severity["asymmetry"] if side == "left" else 0.0
    return moment.travel * (1.0 - lag)


_SHRUG: Final = 0.022
"""How far raised arms pull up the shoulders, in statures: the shoulder blades turn with the arms
(chosen by us)."""


def _upright(figure: Figure, moment: Moment, shrug: FloatArray | float = 0.0) -> None:
    """Stand still on both feet."""
    still = np.full(figure.n_frames, 1.0)
    stance = _Stance(174.0 * still, 2.0 * still, 1.0 * still, shrug=shrug)
    _stand(figure, moment, stance)


def squat(figure: Figure, moment: Moment) -> Command:
    """Set a squat with the arms rising to the front; commands the knees."""
    knee = moment.between(175.0, 80.0)
    stance = _Stance(knee, moment.between(2.0, 30.0), moment.between(3.0, 40.0), 0.08, tilts=True)
    _stand(figure, moment, stance)
    for side, sign in SIDES:
        upper = moment.between(14.0, 82.0)
        figure.swing_arm(side, _sagittal(upper, sign, 6.0), _sagittal(upper + 12.0, sign, 6.0))
    return Command(("left_knee", "right_knee"), knee)


def deadlift(figure: Figure, moment: Moment) -> Command:
    """Set a deadlift from lockout to the shins and back; commands the trunk's lean."""
    lean = moment.between(2.0, 66.0)
    shin = moment.between(1.0, 7.0)
    _stand(figure, moment, _Stance(moment.between(175.0, 124.0), shin, lean, tilts=True))
    for side, sign in SIDES:
        upper = moment.between(9.0, -2.0)
        figure.swing_arm(side, _sagittal(upper, sign, 3.0), _sagittal(upper + 5.0, sign, 3.0))
    return Command(("trunk_lean",), lean - 8.0 * moment.grown("forward_knee"))


def overhead_press(figure: Figure, moment: Moment) -> Command:
    """Set an overhead press from the shoulders to lockout; commands the elbows."""
    _upright(figure, moment, _SHRUG * (0.4 + 0.6 * moment.travel))
    upper, fore = (
        figure.length(figure.proportions.upper_arm),
        figure.length(figure.proportions.forearm),
    )
    for side, sign in SIDES:
        travel = _one_sided(moment, side, 0.6)
        reach = chord(upper, fore, _press_elbow(travel))
        rise = np.radians(13.0 + 73.0 * travel)
        out = np.radians(9.0)
        front = vector(np.cos(out), sign * np.sin(out), 0.0)
        up = np.array([0.0, 0.0, 1.0])
        cosine, sine = np.cos(rise)[:, None], np.sin(rise)[:, None]
        wrist = figure.get(f"{side}_shoulder") + reach[:, None] * (cosine * front + sine * up)
        figure.arm(side, wrist, sine * front - cosine * up)
        figure.hand(side, vector(0.1, 0.0, np.ones(figure.n_frames)))
    return Command(("left_elbow", "right_elbow"), _press_elbow(moment.travel))


def _press_elbow(travel: FloatArray) -> FloatArray:
    # A depth of 1.05 still stays short of a straight arm, where an elbow has no direction.
    return np.minimum(48.0 + 129.0 * travel, 179.0)


def biceps_curl(figure: Figure, moment: Moment) -> Command:
    """Set a standing curl of both arms; commands the elbows."""
    _upright(figure, moment)
    for side, sign in SIDES:
        travel = _one_sided(moment, side)
        upper = 2.0 + 10.0 * travel
        flexion = 180.0 - _curl_elbow(travel)
        figure.swing_arm(side, _sagittal(upper, sign, 3.0), _sagittal(upper + flexion, sign, 3.0))
    return Command(("left_elbow", "right_elbow"), _curl_elbow(moment.travel))


def _curl_elbow(travel: FloatArray) -> FloatArray:
    return 166.0 - 118.0 * travel


def jumping_jack(figure: Figure, moment: Moment) -> Command:
    """Set a jumping jack, without the flight; arms and legs open together."""
    still = np.full(figure.n_frames, 1.0)
    width = moment.between(0.06, 0.20)
    stance = _Stance(
        176.0 * still, 2.0 * still, 0.0 * still, width, 12.0, shrug=_SHRUG * moment.travel
    )
    _stand(figure, moment, stance)
    for side, sign in SIDES:
        out = np.radians(10.0 + 155.0 * _one_sided(moment, side))
        bent = out + np.radians(8.0)
        upper = vector(0.05, sign * np.sin(out), -np.cos(out))
        figure.swing_arm(side, upper, vector(0.05, sign * np.sin(bent), -np.cos(bent)))
    return Command(("left_knee", "right_knee"), 176.0 * still)


def lunge(figure: Figure, moment: Moment) -> Command:
    """Set a split lunge, left foot in front; commands the left knee."""
    size, shape = figure.stature, figure.proportions
    shank, thigh = shape.shank * size, shape.thigh * size
    knee = moment.between(160.0, 86.0)
    forward = moment.grown("forward_knee")
    flexion = np.radians(180.0 - knee)
    shin = np.radians(moment.between(-22.0, 4.0) + 16.0 * forward)
    hip_x = shank * np.sin(shin) - thigh * np.sin(flexion - shin)
    half_hip, half_stance = 0.5 * shape.hip_width * size, 0.06 * size
    ankle_z = _tiptoe_height(figure, 0.0)
    reach = chord(shank, thigh, knee)
    rise = remaining(reach, np.hypot(hip_x, half_hip - half_stance))
    tilt = moment.severity["asymmetry"] * moment.travel**2
    # The middle of the split lies over the origin.
    shift = 0.27 * size
    mid_hip = vector(hip_x + shift, -0.03 * size * tilt, ankle_z + rise)
    rounded = moment.grown("rounded_back")
    lean = moment.between(2.0, 12.0)
    figure.trunk(mid_hip, lean, 80.0 * rounded, 4.0 * tilt, 8.0 * tilt)
    figure.head(0.3 * lean + 20.0 * rounded, 80.0 * rounded)
    rear_height = _tiptoe_height(figure, 50.0)
    for side, x, height, pitch in (
        ("left", shift, ankle_z, 0.0),
        ("right", shift - 0.52 * size, rear_height, 50.0),
    ):
        sign = 1.0 if side == "left" else -1.0
        turned = np.radians(3.0 - 25.0 * moment.grown("knee_valgus"))
        ankle = vector(x, sign * half_stance, np.full(figure.n_frames, height))
        figure.leg(side, ankle, vector(np.cos(turned), sign * np.sin(turned), 0.0))
        figure.foot(side, pitch, 3.0)
        upper = moment.between(8.0, 10.0)
        figure.swing_arm(side, _sagittal(upper, sign, 5.0), _sagittal(upper + 14.0, sign, 5.0))
    return Command(("left_knee",), knee)


def _tiptoe_height(figure: Figure, pitch_deg: float) -> float:
    """Return the height of an ankle whose toe rests on the floor."""
    shape, pitch = figure.proportions, np.radians(pitch_deg)
    toe = SOLE_HEIGHT + shape.ankle_height - SOLE_DROP
    front = (1.0 - HEEL_SHARE) * shape.foot
    return float(figure.stature * (toe + front * np.sin(pitch) + SOLE_DROP * np.cos(pitch)))


def push_up(figure: Figure, moment: Moment) -> Command:
    """Set a push-up on planted hands and toes; commands the elbows."""
    size, shape = figure.stature, figure.proportions
    upper, fore = shape.upper_arm * size, shape.forearm * size
    elbow = moment.between(172.0, 78.0)
    sag = np.radians(30.0 * moment.grown("hip_sag"))
    leg, trunk = (shape.thigh + shape.shank) * size, shape.trunk * size
    body = np.sqrt(leg**2 + trunk**2 + 2.0 * leg * trunk * np.cos(sag))
    ankle_z = _tiptoe_height(figure, 72.0)
    wrist_z, side_gap = 0.028 * size, 0.035 * size
    # At rest the shoulders stand right above the hands, with an unsagged body.
    top = wrist_z + np.sqrt(chord(upper, fore, np.array([172.0])) ** 2 - side_gap**2) - ankle_z
    wrist_x = remaining(np.array([leg + trunk]), top)
    reach = np.sqrt(chord(upper, fore, elbow) ** 2 - side_gap**2)
    # Shoulders: on the circle of the body about the ankles and that of the arms about the hands.
    gap = np.hypot(wrist_x, wrist_z - ankle_z)
    cosine = (body**2 + gap**2 - reach**2) / (2.0 * body * gap)
    if np.any(np.abs(cosine) > 1.0):
        raise ValueError("these proportions cannot do a push-up; choose other arms or legs")
    rise = np.arctan2(wrist_z - ankle_z, wrist_x) + np.arccos(cosine)
    leg_rise = rise - np.arcsin(trunk * np.sin(sag) / body)
    start_x = -0.5 * float(wrist_x[0])
    mid_hip = vector(start_x + leg * np.cos(leg_rise), 0.0, ankle_z + leg * np.sin(leg_rise))
    lean = 90.0 - np.degrees(leg_rise + sag)
    figure.trunk(mid_hip, lean)
    _lean_on_one_arm(figure, lean, moment.severity["asymmetry"] * moment.travel**2)
    figure.head(lean - 22.0)
    for side, sign in SIDES:
        ankle = vector(start_x, sign * 0.5 * shape.hip_width * size, ankle_z + 0.0 * rise)
        figure.leg(side, ankle, vector(0.3, 0.0, -np.ones(figure.n_frames)))
        figure.foot(side, np.full(figure.n_frames, 72.0))
        wide = sign * (0.5 * shape.shoulder_width * size + side_gap)
        wrist = vector(start_x + wrist_x, wide, wrist_z + 0.0 * rise)
        figure.arm(side, wrist, vector(-1.0, sign * 0.12, np.zeros(figure.n_frames)))
        figure.hand(side, vector(1.0, 0.0, np.full(figure.n_frames, -0.14)))
    return Command(("left_elbow", "right_elbow"), elbow)


def plank(figure: Figure, moment: Moment) -> Command:
    """Set a plank on forearms and toes that breathes a little; commands the trunk's lean."""
    size, shape = figure.stature, figure.proportions
    leg, trunk = (shape.thigh + shape.shank) * size, shape.trunk * size
    breath = 0.8 * np.sin(2.0 * np.pi * 0.25 * moment.time_s)
    sag = np.radians(30.0 * moment.grown("hip_sag") - 40.0 * moment.grown("hip_pike") + breath)
    body = np.sqrt(leg**2 + trunk**2 + 2.0 * leg * trunk * np.cos(sag))
    ankle_z = _tiptoe_height(figure, 72.0)
    shoulder_z = (shape.upper_arm + 0.03) * size
    leg_rise = np.arcsin((shoulder_z - ankle_z) / body) - np.arcsin(trunk * np.sin(sag) / body)
    start_x = -0.5 * (leg + trunk)
    mid_hip = vector(start_x + leg * np.cos(leg_rise), 0.0, ankle_z + leg * np.sin(leg_rise))
    lean = 90.0 - np.degrees(leg_rise + sag)
    figure.trunk(mid_hip, lean)
    figure.head(lean - 15.0)
    down, ahead = (vector(0.0, 0.0, -np.ones_like(lean)), vector(np.ones_like(lean), 0.0, 0.0))
    for side, sign in SIDES:
        ankle = vector(start_x, sign * 0.5 * shape.hip_width * size, ankle_z + 0.0 * lean)
        figure.leg(side, ankle, vector(0.3, 0.0, -np.ones(figure.n_frames)))
        figure.foot(side, np.full(figure.n_frames, 72.0))
        figure.swing_arm(side, down, ahead)
    return Command(("trunk_lean",), lean)


def _lean_on_one_arm(figure: Figure, lean_deg: FloatArray, share: FloatArray) -> None:
    """Turn the shoulders of a push-up about its long axis and shift them over the right hand.

    The hips and the toes stay.
    """
    lean, turn = np.radians(lean_deg), np.radians(16.0 * share)
    back = vector(-np.cos(lean), 0.0, np.sin(lean))
    across = vector(0.0, np.cos(turn), 0.0) + np.sin(turn)[:, None] * back
    half = 0.5 * figure.length(figure.proportions.shoulder_width)
    middle = figure.get("mid_shoulder") + vector(0.0, -0.03 * figure.stature * share, 0.0)
    figure.put("mid_shoulder", middle)
    for side, sign in SIDES:
        figure.put(f"{side}_shoulder", middle + sign * half * across)


def stand(figure: Figure, moment: Moment) -> Command:
    """Set a bystander who breathes and shifts a little."""
    still = np.full(figure.n_frames, 1.0)
    knee = 174.0 + 1.5 * np.sin(0.9 * moment.time_s)
    lean = 1.5 + 1.2 * np.sin(0.6 * moment.time_s + 1.0)
    _stand(figure, moment, _Stance(knee, 2.0 * still, lean))
    for side, sign in SIDES:
        upper = 3.0 + 2.0 * np.sin(0.7 * moment.time_s + sign)
        figure.swing_arm(side, _sagittal(upper, sign, 7.0), _sagittal(upper + 15.0, sign, 7.0))
    return Command(("left_knee", "right_knee"), knee)


WALK_SPEED_M_S: Final = 0.8
STEP_SHARE: Final = 0.28
"""Length of a step in statures."""


def walk(figure: Figure, moment: Moment) -> Command:
    """Set a walk on the spot: the body stays over the origin and the feet slide back under it.

    The caller moves the figure forward at `WALK_SPEED_M_S`, which plants the feet.
    """
    size = figure.stature
    step = STEP_SHARE * size
    cycle = moment.time_s * WALK_SPEED_M_S / (2.0 * step)
    ankle_z = _tiptoe_height(figure, 0.0)
    height = ankle_z + 0.448 * size
    figure.trunk(vector(0.0, 0.0, np.full(figure.n_frames, height)), np.full(figure.n_frames, 4.0))
    figure.head(2.0)
    for side, sign in SIDES:
        phase = (cycle + (0.0 if side == "left" else 0.5)) % 1.0
        swing = np.clip((phase - 0.6) / 0.4, 0.0, 1.0)
        x = np.where(phase < 0.6, 0.6 - 2.0 * phase, -0.6 + 1.2 * swing) * step
        z = ankle_z + 0.05 * size * np.sin(np.pi * swing) ** 2
        figure.leg(side, vector(x, sign * 0.05 * size, z), vector(1.0, 0.0, np.zeros_like(x)))
        figure.foot(side, 25.0 * np.sin(np.pi * swing) ** 2, 5.0)
        upper = -20.0 * sign * np.cos(2.0 * np.pi * (cycle - 0.05))
        figure.swing_arm(side, _sagittal(upper, sign, 7.0), _sagittal(upper + 20.0, sign, 7.0))
    return Command((), np.full(figure.n_frames, np.nan))


def calf_raise(figure: Figure, moment: Moment) -> Command:
    """Set a bystander who rises to the balls of the feet and comes down, every two seconds.

    The stiff body goes up with the heels, by what they rise over the toes; nothing else moves.
    """
    stand(figure, Moment(np.zeros_like(moment.time_s), moment.travel, moment.severity))
    pitch = 20.0 * (1.0 - np.cos(np.pi * moment.time_s))
    flat = _tiptoe_height(figure, 0.0)
    rise = np.array([_tiptoe_height(figure, one) for one in pitch.tolist()]) - flat
    figure.points[..., 2] += rise[:, None]
    for side, _ in SIDES:
        figure.foot(side, pitch, 7.0)
    return Command(("left_knee", "right_knee"), np.full(figure.n_frames, 174.0))


Posture = Callable[[Figure, Moment], Command]
_TIMING: Final = ("uneven_tempo", "half_rep", "pause")
_RUSHED: Final = "rushed_tempo"
_LEGS: Final = ("shallow_depth", "knee_valgus", "forward_knee", "rounded_back", "asymmetry")
_ARMS: Final = ("shallow_depth", "asymmetry")

POSTURES: Final[Mapping[str, Posture]] = {
    "squat": squat,
    "push_up": push_up,
    "deadlift": deadlift,
    "lunge": lunge,
    "overhead_press": overhead_press,
    "biceps_curl": biceps_curl,
    "jumping_jack": jumping_jack,
    "plank": plank,
    "stand": stand,
    "walk": walk,
    "calf_raise": calf_raise,
}
FAULTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "squat": (*_LEGS, _RUSHED, *_TIMING),
    "push_up": ("shallow_depth", "hip_sag", "asymmetry", _RUSHED, *_TIMING),
    "deadlift": (*_LEGS, _RUSHED, *_TIMING),
    "lunge": (*_LEGS, _RUSHED, *_TIMING),
    "overhead_press": (*_ARMS, _RUSHED, *_TIMING),
    "biceps_curl": (*_ARMS, _RUSHED, *_TIMING),
    "jumping_jack": (*_ARMS, *_TIMING),
    "plank": ("hip_sag", "hip_pike"),
    "stand": (),
    "walk": (),
    "calf_raise": (),
}
"""Which faults each exercise can show. A jumping jack is fast by nature and cannot be rushed."""
BYSTANDERS: Final = ("stand", "walk", "calf_raise")
HOLDS: Final = ("plank",)
"""Kept, with their faults, from the first frame to the last: nothing is repeated."""
EXERCISES: Final = tuple(name for name in POSTURES if name not in (*BYSTANDERS, *HOLDS))
"""Those that are repeated."""
