"""run_task: the table of tasks, their order, and the environment that they run in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run_task
from run_task import Task, ensure_venv, environment, in_order, main, read_tasks
from setup_env import STAMP, SetupError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with a space in its path, whose environment is this one."""
    root = tmp_path / "my repo"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(run_task, "REPOSITORY", root)
    return root


def test_the_real_table_is_read_whole() -> None:
    tasks = read_tasks(REPOSITORY / "pixi.toml")
    assert {"setup", "demo", "test", "check", "format", "lock", "bench"} <= set(tasks)
    assert all(task.description for task in tasks.values())


def test_every_task_but_setup_depends_on_setup() -> None:
    tasks = read_tasks(REPOSITORY / "pixi.toml")
    assert [name for name in tasks if in_order(tasks, name)[0] != "setup"] == []


def test_a_key_that_only_pixi_knows_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "pixi.toml"
    manifest.write_text('[tasks.a]\ncmd = "true"\ninputs = ["x"]\n')
    with pytest.raises(SetupError, match="task a: scripts/run knows no key inputs"):
        read_tasks(manifest)


def test_dependencies_come_first_and_once() -> None:
    tasks = {
        "all": Task("", depends_on=("b", "a")),
        "b": Task("", depends_on=("a",)),
        "a": Task(""),
    }
    assert in_order(tasks, "all") == ["a", "b", "all"]


def test_a_circle_of_tasks_is_named() -> None:
    tasks = {"a": Task("", depends_on=("b",)), "b": Task("", depends_on=("a",))}
    with pytest.raises(SetupError, match="a -> b -> a"):
        in_order(tasks, "a")


def test_an_unknown_task_is_answered_with_those_there_are(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "pixi.toml").write_text('[tasks.one]\ncmd = "true"\n')
    assert main(["two"]) == 2
    assert "no task 'two'; the tasks are: one" in capsys.readouterr().err


def test_no_arguments_list_the_tasks(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "pixi.toml").write_text('[tasks.one]\ncmd = "true"\ndescription = "First"\n')
    assert main([]) == 0
    assert "  one" in capsys.readouterr().out


def test_arguments_reach_the_task_alone_and_unsplit(workspace: Path) -> None:
    (workspace / "pixi.toml").write_text(
        "[tasks.first]\ncmd = \"printf '%s;' first >> log\"\n"
        '[tasks.second]\ncmd = "printf \'%s;\' >> log"\ndepends-on = ["first"]\n'
    )
    assert main(["second", "a b", "$HOME"]) == 0
    assert (workspace / "log").read_text() == "first;a b;$HOME;"


def test_the_first_failure_ends_the_run_with_its_code(workspace: Path) -> None:
    (workspace / "pixi.toml").write_text(
        '[tasks.first]\ncmd = "exit 3"\n[tasks.second]\ncmd = "touch ran"\ndepends-on = ["first"]\n'
    )
    assert main(["second"]) == 3
    assert not (workspace / "ran").exists()


def test_a_task_gets_its_variables_and_the_environment(workspace: Path) -> None:
    (workspace / "pixi.toml").write_text(
        '[tasks.a]\ncmd = "echo $COLOUR $VIRTUAL_ENV > log"\nenv = { COLOUR = "red" }\n'
    )
    assert main(["a"]) == 0
    assert (workspace / "log").read_text().strip() == f"red {workspace / '.venv'}"


def test_the_environment_comes_first_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    variables = environment(tmp_path)
    assert variables["PATH"].startswith(f"{tmp_path / 'bin'}:")
    assert "PYTHONHOME" not in variables


def test_a_working_environment_is_kept(workspace: Path) -> None:
    marker = workspace / ".venv" / "marker"
    marker.touch()
    ensure_venv(workspace / ".venv")
    assert marker.exists()


@pytest.mark.parametrize("damage", ["python gone", "moved"])
def test_a_broken_environment_is_made_anew(
    workspace: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace / ".venv"
    if damage == "moved":
        (folder / STAMP).write_text('{"prefix": "/somewhere/else"}')
    else:
        (folder / "bin" / "python").unlink()
    made: list[Path] = []
    monkeypatch.setattr("venv.create", lambda path, **_: made.append(path))
    ensure_venv(folder)
    assert made == [folder]


def test_a_python_without_ensurepip_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "venv" or None)
    with pytest.raises(SetupError, match=r"apt install python3\.\d+-venv"):
        ensure_venv(tmp_path / "none")


def run_script(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/run of a repository with only these variables."""
    return subprocess.run(
        [str(root / "scripts" / "run"), *arguments],
        env=variables,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a repository that holds scripts/run and a table, and no environment."""
    root = tmp_path / "a copy"
    (root / "scripts").mkdir(parents=True)
    for name in ("run", "run_task.py", "setup_env.py"):
        shutil.copy(REPOSITORY / "scripts" / name, root / "scripts" / name)
    (root / "pixi.toml").write_text('[tasks.where]\ncmd = "pwd"\ndescription = "Say where"\n')
    return root


def test_the_script_finds_its_repository_from_anywhere(copy: Path) -> None:
    done = run_script(copy, PATH="/usr/bin:/bin", PYTHON=sys.executable)
    assert (done.returncode, "where" in done.stdout) == (0, True)


def test_the_script_hands_over_to_pixi_where_it_is_installed(copy: Path, tmp_path: Path) -> None:
    pixi = tmp_path / "bin" / "pixi"
    pixi.parent.mkdir()
    pixi.write_text('#!/bin/sh\necho "$@"\n')
    pixi.chmod(0o755)
    done = run_script(copy, "test", "-k", "x", PATH=f"{pixi.parent}:/usr/bin:/bin")
    assert done.stdout.strip() == f"run --manifest-path {copy}/pixi.toml test -k x"


def test_the_script_says_which_python_it_needs(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text("#!/bin/sh\necho Python 3.9.1\nexit 1\n")
    (folder / "python3").chmod(0o755)
    for tool in ("dirname", "sh"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    done = run_script(copy, "where", PATH=str(folder))
    assert done.returncode == 2
    assert "no Python 3.11 or 3.12 found (python3 is: Python 3.9.1)" in done.stderr
