"""From video to coached repetitions: pose, joint angles, reps, form score, anomalies and cues."""

__version__ = "0.1.0"
