"""Where weights are looked for, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose_analyzer.errors import WeightsMissingError
from pose_analyzer.inference.weights import download_target, find_weights, weight_folders


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Make the three places where weights are looked for, all empty."""
    folders = {
        "current": tmp_path / "work",
        "configured": tmp_path / "weights",
        "cache": tmp_path / "cache" / "pose_analyzer" / "weights",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    monkeypatch.chdir(folders["current"])
    monkeypatch.setenv("POSE_WEIGHTS_DIR", str(folders["configured"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folders


@pytest.mark.parametrize("place", ["current", "configured", "cache"])
def test_a_bare_name_is_found_in_each_place(places: dict[str, Path], place: str) -> None:
    path = places[place] / "my-pose.onnx"
    path.touch()
    assert find_weights("my-pose.onnx") == path


def test_the_current_folder_comes_first(places: dict[str, Path]) -> None:
    for folder in places.values():
        (folder / "yolo11n-pose.pt").touch()
    assert find_weights() == places["current"] / "yolo11n-pose.pt"


def test_an_exported_file_serves_when_the_default_is_not_there(places: dict[str, Path]) -> None:
    (places["configured"] / "yolo11n-pose.onnx").touch()
    assert find_weights() == places["configured"] / "yolo11n-pose.onnx"


def test_a_path_is_taken_as_it_is(places: dict[str, Path], tmp_path: Path) -> None:
    (places["current"] / "x-pose.pt").touch()
    elsewhere = tmp_path / "elsewhere" / "x-pose.pt"
    with pytest.raises(WeightsMissingError, match="elsewhere"):
        find_weights(elsewhere)
    elsewhere.parent.mkdir()
    elsewhere.touch()
    assert find_weights(str(elsewhere)) == elsewhere


def test_the_message_says_which_file_where_to_get_it_and_where_to_put_it(
    places: dict[str, Path],
) -> None:
    with pytest.raises(WeightsMissingError) as missing:
        find_weights()
    message = str(missing.value)
    assert "yolo11n-pose.pt" in message
    assert "github.com/ultralytics/assets" in message
    assert all(str(folder) in message for folder in places.values())


def test_no_address_is_given_for_a_file_of_unknown_origin(places: dict[str, Path]) -> None:
    with pytest.raises(WeightsMissingError) as missing:
        find_weights("gym-pose.pt")
    assert "http" not in str(missing.value)
    assert str(places["cache"]) in str(missing.value)


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("POSE_WEIGHTS_DIR", raising=False)
    expected = Path.home() / ".cache" / "pose_analyzer" / "weights"
    assert weight_folders() == (Path.cwd(), expected)


def test_only_published_weights_can_be_downloaded(places: dict[str, Path]) -> None:
    assert download_target() == places["cache"] / "yolo11n-pose.pt"
    with pytest.raises(WeightsMissingError, match="gym-pose"):
        download_target("gym-pose.pt")
