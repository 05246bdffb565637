"""The texts: what they tell a reader to run or to open is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from run_task import read_tasks

from pose_analyzer.skeleton import JOINT_NAMES

REPOSITORY = Path(__file__).resolve().parents[3]
TEXTS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "*/README.md")
    for path in REPOSITORY.glob(pattern)
)


def text(name: str) -> str:
    return (REPOSITORY / name).read_text()


@pytest.mark.parametrize("name", TEXTS)
def test_every_task_that_a_text_names_exists(name: str) -> None:
    named = set(re.findall(r"(?:scripts/run|pixi run) ([a-z][a-z-]*)", text(name)))
    assert named - {*read_tasks(REPOSITORY / "pixi.toml")} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_that_a_text_links_to_exists(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(name))
    folder = (REPOSITORY / name).parent
    assert [link for link in links if not (folder / link).exists()] == []


def test_every_script_that_a_task_runs_exists() -> None:
    commands = [task.command for task in read_tasks(REPOSITORY / "pixi.toml").values()]
    scripts = re.findall(r"python (scripts/\S+)", " ".join(commands))
    assert len(scripts) >= 10
    assert [name for name in scripts if not (REPOSITORY / name).is_file()] == []


def test_every_published_angle_is_described() -> None:
    described = text("docs/biomechanics.md")
    assert [name for name in JOINT_NAMES if f"`{name}`" not in described] == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "scripts/run test " in text("README.md")
    assert "scripts/run test " in text(".ci/run")


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_knows_the_machine_it_was_written_on(name: str) -> None:
    assert not re.search(r"/root/|/home/|/work/|\.\./shared", text(name))
