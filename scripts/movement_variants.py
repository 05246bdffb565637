"""Movements of the synthetic athlete that the recogniser of exercises learns from.

More varied than the sets of `pose_analyzer.synthetic`: depth, stance, where the arms and a weight
are, knees or toes on the floor, one lift or many, either end first, cropped pictures, any camera;
and what people do that is no exercise. All ranges are chosen by us from how the exercises are
done; none was fitted to a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.skeleton import KEYPOINT_INDEX, MIRROR, N_COCO, N_KEYPOINTS
from pose_analyzer.synthetic import Athlete, Camera, Proportions, minimum_jerk
from pose_analyzer.synthetic.body import SIDES, Figure, chord, vector
from pose_analyzer.synthetic.postures import POSTURES, Moment
from pose_analyzer.types import FloatArray

FPS: Final = 15.0
NONE: Final = "none"
Draw = np.random.Generator


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of movement as a tracker would give it."""

    label: str
    time_s: FloatArray
    keypoints: FloatArray


def stretch(label: str, rng: Draw) -> Stretch:
    """Return a random stretch of an exercise, or of none, seen by a random camera and detector.

    Raises
    ------
    KeyError
        If no such movement is known.
    """
    for _ in range(20):
        athlete = Athlete(float(rng.uniform(1.5, 2.0)), _proportions(rng))
        try:
            points = _movement(label, athlete, rng)
        except ValueError:
            continue  # These proportions cannot do it: draw anew.
        keypoints = _seen(points, athlete, rng)
        time_s = np.arange(len(keypoints)) / FPS
        return Stretch(label, time_s, keypoints)
    raise RuntimeError(f"no athlete could do {label}")


def _proportions(rng: Draw) -> Proportions:
    base = Proportions()
    values = {name: getattr(base, name) * rng.uniform(0.93, 1.07) for name in base.__slots__}
    return Proportions(**values)


def _movement(label: str, athlete: Athlete, rng: Draw) -> FloatArray:
    """Return points (T, N, 3): a set, cropped at random, maybe with idling before and after."""
    travel, cycles = _travel(rng, quick=label == "jumping_jack")
    figure = Figure(athlete, len(travel))
    if label == NONE:
        chosen = _IDLE[rng.integers(len(_IDLE))]
        chosen(figure, travel, rng)
        return figure.points
    _MOVES[label](figure, travel if label != "plank" else 0.1 * travel, rng)
    points = figure.points
    if cycles == 1 and rng.random() < 0.5:
        # A clip of one lift: from one end to the other, and a little of what comes next.
        turn = int(np.argmax(travel))
        end = min(len(points), turn + int(rng.integers(1, 12)))
        points = points[:end] if rng.random() < 0.5 else points[max(0, turn - 8) :]
    if len(points) < 15:
        points = np.concatenate([points, np.repeat(points[-1:], 15, axis=0)])
    if rng.random() < 0.15:
        points = _with_idling(points, athlete, rng)
    return points


def _travel(rng: Draw, *, quick: bool) -> tuple[FloatArray, int]:
    """Return the share of the way over time and the number of repetitions."""
    cycles = int(rng.choice([1, 1, 2, 3, 5]))
    low, high = (0.25, 0.8) if quick else (0.5, 2.2)
    pieces = [np.zeros(int(rng.uniform(0.0, 1.2) * FPS))]
    for _ in range(cycles * (2 if quick else 1)):
        away, back = (np.linspace(0, 1, int(rng.uniform(low, high) * FPS) + 2) for _ in range(2))
        far = rng.uniform(0.92, 1.0)
        pieces += [far * minimum_jerk(away)]
        pieces += [np.full(int(rng.uniform(0.0, 0.6) * FPS), far)]
        pieces += [far * (1.0 - minimum_jerk(back))]
        pieces += [np.zeros(int(rng.uniform(0.0, 0.2 if quick else 0.8) * FPS))]
    travel = np.concatenate([*pieces, np.zeros(int(rng.uniform(0.1, 1.2) * FPS))])
    return travel, cycles


def _with_idling(points: FloatArray, athlete: Athlete, rng: Draw) -> FloatArray:
    figure = Figure(athlete, int(rng.uniform(1.0, 5.0) * FPS))
    still = np.zeros(figure.n_frames)
    (_stand_about if rng.random() < 0.6 else _walk)(figure, still, rng)
    blend = np.linspace(0.0, 1.0, 8)[:, None, None]
    if rng.random() < 0.5:
        between = figure.points[-1] * (1 - blend) + points[0] * blend
        return np.concatenate([figure.points, between, points])
    between = points[-1] * (1 - blend) + figure.points[0] * blend
    return np.concatenate([points, between, figure.points])


def _upright(  # noqa: PLR0913 - one keyword for each thing that legs do
    figure: Figure,
    knee: FloatArray,
    lean: FloatArray,
    rng: Draw,
    *,
    half_width: FloatArray | float = 0.07,
    lift: FloatArray | float = 0.0,
    heel_deg: FloatArray | float = 0.0,
    shin_share: float | None = None,
) -> None:
    """Set trunk, head and legs over two feet; the shin takes a share of the knee's bend."""
    size, shape = figure.stature, figure.proportions
    share = float(rng.uniform(0.2, 0.36)) if shin_share is None else shin_share
    flexion = np.radians(180.0 - knee)
    shin = share * flexion
    raised = size * (0.04 + np.asarray(lift) + 0.1 * np.sin(np.radians(heel_deg)))
    x = size * (shape.shank * np.sin(shin) - shape.thigh * np.sin(flexion - shin))
    width = np.broadcast_to(np.asarray(half_width) * size, knee.shape)
    out = width - 0.5 * shape.hip_width * size
    reach = chord(shape.shank * size, shape.thigh * size, knee)
    height = np.sqrt(np.maximum(reach**2 - x**2 - out**2, 0.0))
    figure.trunk(vector(x, 0.0, raised + height), lean, rng.uniform(0.0, 25.0))
    figure.head(rng.uniform(0.1, 0.9) * lean + rng.uniform(-10.0, 20.0))
    toe = np.radians(rng.uniform(0.0, 45.0))
    for side, sign in SIDES:
        figure.leg(
            side, vector(0.0, sign * width, raised), vector(np.cos(toe), sign * np.sin(toe), 0.0)
        )
        figure.foot(side, heel_deg, np.degrees(toe))


def _direction(
    angle_deg: FloatArray | float, sign: float, out_deg: FloatArray | float
) -> FloatArray:
    """Return an arm's direction: 0 hangs, 90 points forward, 180 up; then out to the side."""
    angle, out = np.radians(angle_deg), np.radians(out_deg)
    return vector(np.sin(angle), sign * np.sin(out) * np.cos(angle), -np.cos(out) * np.cos(angle))


def _hold(
    figure: Figure,
    lean: FloatArray,
    offset: tuple[float, float, float],
    pole: tuple[float, float, float],
) -> None:
    """Hold the hands at an offset from the shoulders that turns with the trunk, in statures."""
    turn = np.radians(lean)
    forward, outward, upward = offset
    for side, sign in SIDES:
        x = forward * np.cos(turn) + upward * np.sin(turn)
        z = -forward * np.sin(turn) + upward * np.cos(turn)
        wrist = figure.get(f"{side}_shoulder") + figure.stature * vector(x, sign * outward, z)
        figure.arm(side, wrist, vector(pole[0], sign * pole[1], pole[2] + 0.0 * turn))


def _carry(figure: Figure, travel: FloatArray, lean: FloatArray, rng: Draw) -> None:
    """Put the arms where people have them while their legs work."""
    kind = rng.integers(7)
    if kind == 4 and lean.max() - lean.min() > 35.0:
        kind = 0  # Nobody lets the arms hang from a deep lean, but for a deadlift.
    if kind == 0:  # a bar on the back
        _hold(
            figure,
            lean,
            (-0.03, rng.uniform(0.04, 0.18), rng.uniform(-0.04, 0.04)),
            (-0.5, 0.3, -1.0),
        )
    elif kind == 1:  # goblet, front rack, hands clasped
        forward, down = rng.uniform(0.08, 0.18), rng.uniform(-0.14, 0.02)
        _hold(figure, lean, (forward, -rng.uniform(0.0, 0.07), down), (0.2, 0.5, -1.0))
    elif kind == 2:  # behind the head
        _hold(figure, lean, (0.0, -0.02, 0.1), (0.3, 1.0, 0.2))
    elif kind == 3:  # on the hips
        _hold(figure, lean, (0.03, 0.02, -0.24), (-0.5, 1.0, 0.0))
    else:
        start, end = (0.0, 0.0) if kind == 4 else (rng.uniform(0, 90), rng.uniform(60, 100))
        angle = start + (end - start) * travel + rng.uniform(-5.0, 15.0)
        out, bent = rng.uniform(2.0, 15.0), rng.uniform(0.0, 20.0)
        for side, sign in SIDES:
            figure.swing_arm(
                side, _direction(angle, sign, out), _direction(angle + bent, sign, out)
            )


def _squat(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    deepest = rng.uniform(60.0, 130.0)
    knee = 174.0 - (174.0 - deepest) * travel
    # The trunk stays over the feet: the deeper, the further it leans.
    lean = rng.uniform(0.0, 5.0) + rng.uniform(0.12, 0.5) * (174.0 - knee)
    _upright(
        figure,
        knee,
        lean,
        rng,
        half_width=rng.uniform(0.05, 0.22),
        shin_share=float(rng.uniform(0.26, 0.42)),
    )
    _carry(figure, travel, lean, rng)


def _deadlift(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Conventional, sumo or Romanian; half of the sets begin at the floor."""
    if rng.random() < 0.5:
        travel = 1.0 - travel
    bent = rng.uniform(95.0, 160.0)
    knee = 174.0 - (174.0 - bent) * travel
    lean = rng.uniform(-4.0, 4.0) + travel * np.clip(
        rng.uniform(50.0, 75.0) + 0.25 * (bent - 115.0), 45.0, 85.0
    )
    _upright(
        figure,
        knee,
        lean,
        rng,
        half_width=rng.uniform(0.04, 0.15),
        shin_share=float(rng.uniform(0.05, 0.3)),
    )
    angle, out = rng.uniform(-4.0, 6.0), rng.uniform(0.0, 12.0)
    for side, sign in SIDES:
        figure.swing_arm(
            side,
            _direction(angle + 8.0 * (1 - travel), sign, out),
            _direction(angle + 8.0 * (1 - travel), sign, out),
        )


def _lunge(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Set a split lunge, or a step into one, with the hips above the middle of the feet."""
    size, shape = figure.stature, figure.proportions
    steps = rng.random() < 0.5
    split = rng.uniform(0.32, 0.6) * size
    apart = split * (np.clip(1.6 * travel, 0.0, 1.0) if steps else np.ones_like(travel))
    leg = (shape.thigh + shape.shank) * size
    top = np.sqrt((0.96 * leg) ** 2 - (0.5 * apart) ** 2) - 0.015 * size
    height = top - travel * rng.uniform(0.1, 0.27) * size
    rear_heel = 50.0 * apart / split
    lean = rng.uniform(0.0, 6.0) + rng.uniform(0.0, 22.0) * travel
    forward = rng.uniform(-0.03, 0.05) * size * travel
    figure.trunk(vector(forward, 0.0, 0.05 * size + height), lean)
    figure.head(0.3 * lean)
    lead = np.full_like(travel, 1.0 if rng.random() < 0.5 else -1.0)
    if steps and rng.random() < 0.5:
        # Left and right in turn: the other leg leads after each return.
        begun = np.diff((travel > 0.0).astype(int), prepend=0) == 1
        lead *= np.where(np.cumsum(begun) % 2 == 0, 1.0, -1.0)
    for side, sign in SIDES:
        is_front = sign == lead
        heel = np.where(is_front, 0.0, rear_heel)
        ankle_z = size * (0.04 + 0.09 * np.sin(np.radians(heel)))
        x = 0.5 * apart * np.where(is_front, 1.0, -1.0)
        ankle = vector(x, sign * rng.uniform(0.03, 0.07) * size, ankle_z)
        figure.leg(side, ankle, vector(1.0, 0.0, np.where(is_front, 0.0, -0.4)))
        figure.foot(side, heel, 3.0)
    _carry(figure, np.zeros_like(travel), lean, rng)


def _still(figure: Figure, rng: Draw, sway_deg: float = 2.0) -> FloatArray:
    """Stand with a little sway; return the trunk's lean."""
    time_s = np.arange(figure.n_frames) / FPS
    lean = rng.uniform(-3.0, 5.0) + sway_deg * np.sin(
        rng.uniform(0.4, 2.0) * time_s + rng.uniform(0, 6)
    )
    knee = rng.uniform(168.0, 178.0) + 1.0 * np.sin(time_s)
    _upright(figure, knee, lean, rng, half_width=rng.uniform(0.04, 0.13))
    return np.asarray(lean)


def _sides_travel(travel: FloatArray, rng: Draw) -> dict[str, FloatArray]:
    """Return the travel of each arm: both, one alone, or one after the other."""
    kind, zero = rng.random(), np.zeros_like(travel)
    if kind < 0.75:
        return {"left": travel, "right": travel * rng.uniform(0.9, 1.0)}
    if kind < 0.87:
        one = "left" if rng.random() < 0.5 else "right"
        return {"left": zero, "right": zero, one: travel}
    half = len(travel) // 2
    return {
        "left": np.concatenate([travel[:half], zero[half:]]),
        "right": np.concatenate([zero[:half], travel[half:]]),
    }


def _overhead_press(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    dip = rng.uniform(0.0, 20.0) if rng.random() < 0.25 else 0.0
    lean = rng.uniform(-8.0, 4.0) * np.ones_like(travel)
    early = np.sin(np.pi * np.clip(travel / 0.4, 0.0, 1.0))
    _upright(figure, 174.0 - dip * early, lean, rng, half_width=rng.uniform(0.05, 0.12))
    wide, front, top = rng.uniform(0.0, 0.13), rng.uniform(0.0, 0.1), rng.uniform(0.9, 0.985)
    low = rng.uniform(0.0, 0.08)
    reach = (figure.proportions.upper_arm + figure.proportions.forearm) * top
    high = np.sqrt(reach**2 - (0.5 * wide) ** 2 - 0.02**2)
    for side, sign in SIDES:
        own = _sides_travel(travel, np.random.default_rng(7))[side]
        offset = vector(
            front + (0.02 - front) * own, sign * (wide - 0.5 * wide * own), low + (high - low) * own
        )
        wrist = figure.get(f"{side}_shoulder") + figure.stature * offset
        figure.arm(side, wrist, vector(0.6, sign * 1.0, np.full_like(own, -0.5)))


def _biceps_curl(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    _still(figure, rng)
    straight, bent = rng.uniform(150.0, 175.0), rng.uniform(35.0, 75.0)
    swing, out, fore_out = rng.uniform(0.0, 25.0), rng.uniform(2.0, 15.0), rng.uniform(-10.0, 25.0)
    own = _sides_travel(travel, rng)
    for side, sign in SIDES:
        upper = rng.uniform(-5.0, 5.0) + swing * own[side]
        flexion = 180.0 - straight + (straight - bent) * own[side]
        figure.swing_arm(
            side, _direction(upper, sign, out), _direction(upper + flexion, sign, fore_out)
        )


def _jumping_jack(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    flight = rng.uniform(0.0, 0.06) * 4.0 * travel * (1.0 - travel)
    narrow, wide = rng.uniform(0.03, 0.08), rng.uniform(0.14, 0.28)
    knee = 174.0 - rng.uniform(0.0, 20.0) * travel
    _upright(
        figure,
        knee,
        np.zeros_like(travel),
        rng,
        half_width=narrow + (wide - narrow) * travel,
        lift=flight,
    )
    highest, bend = rng.uniform(110.0, 172.0), rng.uniform(0.0, 35.0)
    front, lowest = rng.uniform(0.0, 0.3), rng.uniform(5.0, 25.0)
    for side, sign in SIDES:
        out = np.radians(lowest + (highest - lowest) * travel)
        fore = out + np.radians(bend)
        figure.swing_arm(
            side,
            vector(front, sign * np.sin(out), -np.cos(out)),
            vector(front, sign * np.sin(fore), -np.cos(fore)),
        )


def _horizontal(
    figure: Figure,
    shoulder: FloatArray,
    hands: tuple[float, float],
    wide: float,
    rng: Draw,
    on_forearms: bool,
) -> None:
    """Set a body that slants from its feet, or its knees, to shoulders at a height in statures."""
    size, shape = figure.stature, figure.proportions
    on_knees = rng.random() < 0.2
    sag = np.radians(rng.uniform(-14.0, 14.0))
    leg = shape.thigh if on_knees else shape.thigh + shape.shank
    pivot = 0.03 if on_knees else 0.12
    body = np.sqrt(leg**2 + shape.trunk**2 + 2 * leg * shape.trunk * np.cos(sag))
    rise = np.arcsin(np.clip((shoulder - pivot) / body, -0.95, 0.95))
    leg_rise = rise - np.arcsin(shape.trunk * np.sin(sag) / body)
    hip = vector(leg * np.cos(leg_rise), 0.0, pivot + leg * np.sin(leg_rise))
    lean = 90.0 - np.degrees(leg_rise + sag)
    middle = 0.5 * body
    figure.trunk(size * (hip - np.array([middle, 0.0, 0.0])), lean)
    figure.head(lean - rng.uniform(-15.0, 40.0))
    fold = np.radians(rng.uniform(20.0, 80.0))
    for side, sign in SIDES:
        y = 0.5 * sign * shape.hip_width
        if on_knees:
            knee = np.array([-middle, y, pivot])
            ankle = knee + shape.shank * np.array([-np.cos(fold), 0.0, np.sin(fold)])
            figure.put(f"{side}_knee", size * (knee + np.zeros((figure.n_frames, 3))))
            figure.put(f"{side}_ankle", size * (ankle + np.zeros((figure.n_frames, 3))))
        else:
            figure.leg(
                side,
                size * vector(-middle, y, pivot + 0.0 * rise),
                vector(0.3, 0.0, -np.ones_like(rise)),
            )
        figure.foot(side, np.full_like(rise, 72.0))
        x, z = hands
        wrist = size * vector(
            x + body * np.cos(rise.min()) - middle,
            sign * (0.5 * shape.shoulder_width + wide),
            z + 0.0 * rise,
        )
        figure.arm(
            side,
            wrist,
            vector(
                -1.0, sign * rng.uniform(0.1, 1.2), np.full_like(rise, -1.0 if on_forearms else 0.0)
            ),
        )


def _push_up(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    bench = rng.uniform(0.05, 0.25) if rng.random() < 0.15 else 0.0
    ground = bench + 0.03
    wide = rng.uniform(0.0, 0.14)
    arm = figure.proportions.upper_arm + figure.proportions.forearm
    top = np.sqrt((0.97 * arm) ** 2 - wide**2)
    low = rng.uniform(0.09, 0.2)
    _horizontal(
        figure,
        ground + top - (top - low) * travel,
        (rng.uniform(-0.05, 0.04), ground),
        wide,
        rng,
        False,
    )


def _plank(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Still on the forearms, or on straight arms, but for breathing."""
    breath = 0.004 * np.sin(1.5 * np.arange(figure.n_frames) / FPS) + 0.0 * travel
    shape = figure.proportions
    if rng.random() < 0.65:
        ahead = 0.97 * shape.forearm
        _horizontal(
            figure,
            0.03 + shape.upper_arm + breath,
            (ahead, 0.03),
            rng.uniform(-0.06, 0.02),
            rng,
            True,
        )
    else:
        top = 0.95 * (shape.upper_arm + shape.forearm)
        _horizontal(figure, 0.03 + top + breath, (0.0, 0.03), 0.02, rng, False)


def _stand_about(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Stand and talk with the hands, a little."""
    lean = _still(figure, rng, sway_deg=3.0)
    if rng.random() < 0.3:
        _carry(figure, np.zeros_like(travel), lean, rng)
        return
    time_s = np.arange(figure.n_frames) / FPS
    for side, sign in SIDES:
        calm = rng.random() < 0.5
        wave = np.sin(rng.uniform(1.0, 4.0) * time_s + rng.uniform(0, 6))
        fore = (
            rng.uniform(5.0, 20.0)
            if calm
            else rng.uniform(30.0, 90.0) + rng.uniform(0.0, 18.0) * wave
        )
        upper, out = rng.uniform(-10.0, 10.0) + 3.0 * wave, rng.uniform(3.0, 15.0)
        figure.swing_arm(side, _direction(upper, sign, out), _direction(upper + fore, sign, out))


def _walk(figure: Figure, _: FloatArray, rng: Draw) -> None:
    time_s = np.arange(figure.n_frames) / FPS * rng.uniform(0.7, 2.6) + rng.uniform(0.0, 5.0)
    zeros = np.zeros(figure.n_frames)
    POSTURES["walk"](figure, Moment(time_s, zeros, {}))
    figure.points[..., 0] += (rng.uniform(-1.2, 1.2) * time_s - 0.0)[:, None]


def _calf_raise(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    lean = rng.uniform(-2.0, 5.0) * np.ones_like(travel)
    knee = rng.uniform(170.0, 178.0) - rng.uniform(0.0, 5.0) * travel
    heel = rng.uniform(15.0, 50.0) * travel
    _upright(figure, knee, lean, rng, half_width=rng.uniform(0.04, 0.1), heel_deg=heel)
    _carry(figure, np.zeros_like(travel), lean, rng)


def _hop(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Small hops with the feet together and the arms down."""
    height = rng.uniform(0.03, 0.15) * np.abs(
        np.sin(rng.uniform(4.0, 9.0) * np.arange(figure.n_frames) / FPS)
    )
    lean = rng.uniform(0.0, 8.0) * np.ones_like(travel)
    _upright(figure, rng.uniform(165.0, 175.0) - 60.0 * height, lean, rng, lift=height)
    _carry(figure, np.zeros_like(travel), lean, rng)


def _sit(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Sit still, upright."""
    knee = rng.uniform(80.0, 110.0) * np.ones_like(travel)
    lean = rng.uniform(-10.0, 20.0) * np.ones_like(travel)
    _upright(figure, knee, lean, rng, shin_share=0.0)
    _carry(figure, np.zeros_like(travel), lean, rng)


def _jump(figure: Figure, travel: FloatArray, rng: Draw) -> None:
    """Jump once or more with a small countermovement and swinging arms, feet together."""
    phase = np.clip(travel, 0.0, 1.0)
    height = rng.uniform(0.06, 0.25) * np.clip(2.0 * phase - 1.0, 0.0, 1.0)
    crouch = np.sin(np.pi * np.clip(2.0 * phase, 0.0, 1.0))
    knee = 172.0 - rng.uniform(20.0, 60.0) * crouch
    lean = rng.uniform(5.0, 25.0) * crouch
    _upright(figure, knee, lean, rng, half_width=rng.uniform(0.04, 0.1), lift=height)
    back, front, out = rng.uniform(0.0, 50.0), rng.uniform(0.0, 150.0), rng.uniform(3.0, 15.0)
    angle = front * phase - back * crouch
    bent = rng.uniform(0.0, 60.0)
    for side, sign in SIDES:
        figure.swing_arm(side, _direction(angle, sign, out), _direction(angle + bent, sign, out))


def _balance(figure: Figure, _: FloatArray, rng: Draw) -> None:
    """Stand on one leg, or step on the spot, with the arms out and wobbling."""
    size = figure.stature
    time_s = np.arange(figure.n_frames) / FPS
    lean = rng.uniform(-3.0, 10.0) + 4.0 * np.sin(rng.uniform(1.0, 3.0) * time_s)
    _upright(figure, 174.0 + 0.0 * time_s, lean, rng, half_width=0.05)
    beat = np.sin(rng.uniform(0.5, 6.0) * time_s + rng.uniform(0.0, 6.0))
    on_one = rng.random() < 0.5
    for side, sign in SIDES:
        raised = np.clip(1.0 + 0.3 * beat if on_one and sign > 0 else sign * beat, 0.0, 1.3)
        raised = raised * (0.0 if on_one and sign < 0 else rng.uniform(0.05, 0.2))
        hip = figure.get(f"{side}_hip")
        ankle = hip * np.array([1.0, 1.0, 0.0]) + size * vector(-0.05 * raised, 0.0, 0.06 + raised)
        figure.leg(side, ankle, vector(1.0, 0.0, 0.0 * raised))
        figure.foot(side, 20.0 * raised)
        out = np.radians(
            rng.uniform(10.0, 95.0) + rng.uniform(2.0, 25.0) * np.sin(2.3 * time_s + sign)
        )
        fore = out + np.radians(rng.uniform(0.0, 40.0))
        figure.swing_arm(
            side,
            vector(0.1, sign * np.sin(out), -np.cos(out)),
            vector(0.2, sign * np.sin(fore), -np.cos(fore)),
        )


Move = Callable[[Figure, FloatArray, Draw], None]
_MOVES: Final[dict[str, Move]] = {
    "biceps_curl": _biceps_curl,
    "deadlift": _deadlift,
    "jumping_jack": _jumping_jack,
    "lunge": _lunge,
    "overhead_press": _overhead_press,
    "plank": _plank,
    "push_up": _push_up,
    "squat": _squat,
}
_IDLE: Final[tuple[Move, ...]] = (
    _stand_about,
    _stand_about,
    _walk,
    _walk,
    _calf_raise,
    _calf_raise,
    _hop,
    _jump,
    _balance,
    _sit,
)
LABELS: Final = (*_MOVES, NONE)
"""What can be recognised, ``"none"`` last."""


def _seen(points: FloatArray, athlete: Athlete, rng: Draw) -> FloatArray:
    """Return what camera, detector and smoother leave of it, (T, K, 2) pixels."""
    middle = 0.5 * (points.min(axis=(0, 1)) + points.max(axis=(0, 1)))
    camera = Camera(
        yaw_deg=float(rng.uniform(-180.0, 180.0)),
        pitch_deg=float(np.clip(rng.normal(4.0, 12.0), -28.0, 40.0)),
        distance_m=float(rng.uniform(2.0, 6.0)),
        fov_deg=float(rng.uniform(35.0, 70.0)),
        aim_height_m=float(middle[2]),
    )
    place = points[:, :N_KEYPOINTS] - np.array([middle[0], middle[1], 0.0])
    keypoints = camera.project(place)
    size = camera.focal_px * athlete.stature_m / camera.distance_m
    keypoints = keypoints + size * _noise(keypoints.shape, rng)
    if rng.random() < 0.5:
        keypoints = keypoints[:, MIRROR] * np.array([-1.0, 1.0])
    return _hidden(_cropped(keypoints, rng), rng)


def _noise(shape: tuple[int, ...], rng: Draw) -> FloatArray:
    """Return errors in statures: a lasting one of each point, and a slowly changing one."""
    steps = rng.normal(0.0, 1.0, shape)
    drift = np.empty(shape)
    drift[0] = steps[0]
    for index in range(1, shape[0]):
        drift[index] = 0.8 * drift[index - 1] + 0.6 * steps[index]
    return np.asarray(
        rng.uniform(0.002, 0.010) * drift + rng.normal(0.0, rng.uniform(0.003, 0.015), shape[1:])
    )


def _cropped(keypoints: FloatArray, rng: Draw) -> FloatArray:
    """Return the keypoints inside a picture that may cut off feet, head or a side."""
    if rng.random() < 0.65:
        return keypoints
    low, high = np.nanmin(keypoints, axis=(0, 1)), np.nanmax(keypoints, axis=(0, 1))
    span = high - low
    cut = rng.uniform(0.0, 0.22, 4) * (rng.random(4) < np.array([0.1, 0.4, 0.1, 0.4]))
    outside = (keypoints < low + cut[:2] * span) | (keypoints > high - cut[2:] * span)
    return np.where(outside.any(axis=-1, keepdims=True), np.nan, keypoints)


def _hidden(keypoints: FloatArray, rng: Draw) -> FloatArray:
    """Return the keypoints that a detector reports."""
    lost = np.zeros(keypoints.shape[:2], dtype=bool)
    if rng.random() < 0.5:
        lost[:, N_COCO:] = True
    for parts, chance in ((_ARM, 0.12), (_LEG, 0.1), (_FACE, 0.2)):
        if rng.random() < chance:
            side = "left" if rng.random() < 0.5 else "right"
            rows = np.array([KEYPOINT_INDEX[f"{side}_{part}"] for part in parts])
            lost[np.ix_(rng.random(len(lost)) < rng.uniform(0.3, 1.0), rows)] = True
    return np.where(lost[..., None], np.nan, keypoints)


_ARM: Final = ("elbow", "wrist")
_LEG: Final = ("knee", "ankle")
_FACE: Final = ("eye", "ear")
