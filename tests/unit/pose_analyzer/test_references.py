"""references: what was written is read back, and what is wrong is named."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pose_analyzer.errors import ReferencesError
from pose_analyzer.reference_keypoints import FORMAT_VERSION
from pose_analyzer.references import (
    COLUMNS,
    ReferenceClip,
    exercises_in,
    load_clips,
    load_references,
    save_clips,
    shipped_folder,
)
from pose_analyzer.synthetic import Camera, MotionSpec
from pose_analyzer.types import RepMotion


@pytest.fixture(scope="module")
def motions(rep_motions: Callable[..., list[RepMotion]]) -> tuple[RepMotion, ...]:
    """Return three squats seen from the side, one ankle hidden for a while."""
    found = rep_motions(MotionSpec("squat", reps=3), Camera(), noise_px=2.0)
    found[0].keypoints[5:9, 15] = np.nan
    return tuple(found)


def clip(video_id: str, motions: Sequence[RepMotion], quality: str = "good") -> ReferenceClip:
    return ReferenceClip(video_id, quality, "a friend, 2026", "CC0", "mediapipe", tuple(motions))


@pytest.fixture
def folder(tmp_path: Path, motions: tuple[RepMotion, ...]) -> Path:
    """Return a folder with two clips of squats."""
    save_clips(tmp_path, "squat", [clip("a", motions[:2]), clip("b", motions[2:], "faulty")])
    return tmp_path


def test_what_was_written_is_read_back(folder: Path, motions: tuple[RepMotion, ...]) -> None:
    read = load_references(folder, "squat")
    assert [one.video_id for one in read] == ["a", "a", "b"]
    assert [one.form_quality for one in read] == ["good", "good", "faulty"]
    assert {(one.source, one.licence, one.detector) for one in read} == {
        ("a friend, 2026", "CC0", "mediapipe")
    }
    for one, motion in zip(read, motions, strict=True):
        np.testing.assert_allclose(one.motion.keypoints, motion.keypoints, atol=0.0501)
        np.testing.assert_allclose(one.motion.time_s, motion.time_s, atol=1e-5)
        np.testing.assert_allclose(one.motion.signal, motion.signal, atol=1e-5)
        np.testing.assert_allclose(one.motion.confidence, motion.confidence, atol=0.0051)
        assert one.motion.turn_idx == motion.turn_idx
        assert one.motion.stature_px == motion.stature_px
        assert one.motion.yaw_deg == motion.yaw_deg


def test_angles_and_their_uncertainty_are_computed_anew(
    folder: Path, motions: tuple[RepMotion, ...]
) -> None:
    # The first one's ankle was hidden after its angles had been computed.
    for one, motion in zip(load_references(folder, "squat")[1:], motions[1:], strict=True):
        np.testing.assert_allclose(one.motion.deg, motion.deg, atol=0.5)
        np.testing.assert_allclose(one.motion.sigma_deg, motion.sigma_deg, rtol=0.05)


def test_writing_what_was_read_changes_nothing(folder: Path, tmp_path: Path) -> None:
    save_clips(tmp_path / "again", "squat", load_clips(folder, "squat"))
    for one, other in zip(
        load_references(folder, "squat"), load_references(tmp_path / "again", "squat"), strict=True
    ):
        np.testing.assert_array_equal(one.motion.keypoints, other.motion.keypoints)
        np.testing.assert_array_equal(one.motion.deg, other.motion.deg)


def test_new_clips_are_added_and_one_of_the_same_name_is_replaced(
    folder: Path, motions: tuple[RepMotion, ...]
) -> None:
    assert save_clips(folder, "squat", [clip("b", motions), clip("c", motions[:1])]) == 6
    counts = {one.video_id: len(one.motions) for one in load_clips(folder, "squat")}
    assert counts == {"a": 2, "b": 3, "c": 1}


def test_the_metadata_tell_start_turn_and_end_of_each_repetition(
    folder: Path, motions: tuple[RepMotion, ...]
) -> None:
    with (folder / "squat" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    start, turn, end = (float(text) for text in rows[1]["keyframes"].split("/"))
    last = motions[2]
    assert (start, end) == pytest.approx((last.time_s[0], last.time_s[-1]), abs=1e-3)
    assert turn == pytest.approx(last.time_s[last.turn_idx], abs=1e-3)


def test_a_clip_whose_row_was_taken_out_is_not_used(folder: Path) -> None:
    path = folder / "squat" / "metadata.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert {one.video_id for one in load_references(folder, "squat")} == {"a"}


def test_text_with_commas_quotes_and_accents_survives(
    tmp_path: Path, motions: tuple[RepMotion, ...]
) -> None:
    odd = dataclasses.replace(clip('é, "x"', motions), source="a\nb, c")
    save_clips(tmp_path, "squat", [odd])
    (read,) = load_clips(tmp_path, "squat")
    assert (read.video_id, read.source) == ('é, "x"', "a\nb, c")


def test_too_few_repetitions_say_how_many_are_needed(folder: Path) -> None:
    with pytest.raises(ReferencesError, match="holds 3 of the 99 repetitions"):
        load_references(folder, "squat", min_reps=99)


def test_a_missing_exercise_names_those_that_are_there(folder: Path) -> None:
    with pytest.raises(ReferencesError, match=r"no references of lunge \(there are: squat\)"):
        load_references(folder, "lunge")


def test_references_of_another_exercise_are_refused(folder: Path) -> None:
    (folder / "squat").rename(folder / "lunge")
    with pytest.raises(ReferencesError, match="is of squat, not of lunge"):
        load_references(folder, "lunge")
    path = folder / "lunge" / "metadata.csv"
    path.write_text(path.read_text().replace(",squat,", ",lunge,"))
    with pytest.raises(ReferencesError, match="holds squat, not lunge"):
        load_references(folder, "lunge")


@pytest.mark.parametrize("missing", ["metadata.csv", "keypoints.npz"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / "squat" / missing).unlink()
    with pytest.raises(ReferencesError, match=f"{missing} is missing"):
        load_references(folder, "squat")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_file_is_named(folder: Path, share: float) -> None:
    path = folder / "squat" / "keypoints.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ReferencesError, match=r"keypoints\.npz is damaged"):
        load_references(folder, "squat")


def altered(folder: Path, **arrays: object) -> None:
    """Write the keypoints again with other arrays."""
    path = folder / "squat" / "keypoints.npz"
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    np.savez(path, **kept | {name: np.asarray(value) for name, value in arrays.items()})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format_version", FORMAT_VERSION + 1, "has format 2, and this version reads format 1"),
        ("n_frames", [1, 2, 3], "is damaged"),
        ("n_reps", [2, 2], "is damaged"),
        ("keypoints_steps", np.zeros((2, 17, 9), np.int8), "is damaged"),
        ("turn_idx", [0, 0, 9999], "a turn among them"),
        ("video_id", np.array(["a", None]), "is damaged"),
        ("video_id", ["a", "x"], "does not hold b"),
        ("n_reps", [1, 2], "tells 2 repetitions of a"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    folder: Path, name: str, value: object, message: str
) -> None:
    altered(folder, **{name: value})
    with pytest.raises(ReferencesError, match=message):
        load_references(folder, "squat")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence", "license", "must have the columns"),
        ("licence\n", "licence,age\n", "must have the columns"),
        (",good,", ",fine,", "form_quality must be one of good, faulty"),
        (",CC0", "", "6 cells wanted, got 5"),
        ("\nb,", "\na,", "names a twice"),
        ("\nb,", "\nz,", "does not hold z"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    path = folder / "squat" / "metadata.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ReferencesError, match=message):
        load_references(folder, "squat")


def test_an_empty_metadata_file_is_refused(folder: Path) -> None:
    (folder / "squat" / "metadata.csv").write_text("")
    with pytest.raises(ReferencesError, match="must have the columns"):
        load_references(folder, "squat")


def without_keypoints(motion: RepMotion) -> RepMotion:
    return dataclasses.replace(motion, keypoints=np.full_like(motion.keypoints, np.nan))


def one_frame(motion: RepMotion) -> RepMotion:
    names = ("time_s", "keypoints", "confidence", "deg", "sigma_deg", "signal")
    first = {name: getattr(motion, name)[:1] for name in names}
    return dataclasses.replace(motion, turn_idx=0, **first)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(without_keypoints, "has no keypoint at all"), (one_frame, "has 1 frame; a reference needs")],
)
def test_a_repetition_that_shows_nothing_is_refused_and_nothing_is_changed(
    folder: Path,
    motions: tuple[RepMotion, ...],
    spoil: Callable[[RepMotion], RepMotion],
    message: str,
) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "squat").iterdir()}
    with pytest.raises(ReferencesError, match=f"repetition 2 of c {message}"):
        save_clips(folder, "squat", [clip("c", (motions[0], spoil(motions[1])))])
    assert {path.name: path.read_bytes() for path in (folder / "squat").iterdir()} == before
    assert [path.name for path in folder.iterdir()] == ["squat"]


def test_an_exercise_that_is_no_folder_name_is_refused(
    tmp_path: Path, motions: tuple[RepMotion, ...]
) -> None:
    with pytest.raises(ReferencesError, match="cannot name a folder"):
        save_clips(tmp_path, "../squat", [clip("a", motions)])


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, motions: tuple[RepMotion, ...]
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ReferencesError, match="cannot write to"):
        save_clips(tmp_path / "file", "squat", [clip("a", motions)])


def test_an_unknown_quality_is_refused(motions: tuple[RepMotion, ...]) -> None:
    with pytest.raises(ValueError, match="one of good, faulty"):
        clip("a", motions, "splendid")


def test_the_references_that_ship_can_be_read() -> None:
    assert shipped_folder().is_dir()
    for exercise in exercises_in(shipped_folder()):
        assert all(
            one.form_quality == "good" for one in load_references(shipped_folder(), exercise)
        )
