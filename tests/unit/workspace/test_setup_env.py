"""setup_env: when it installs, with which settings, and where it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import setup_env
from setup_env import LOCK, SetupError, digest, main, pinned, read_stamp, uv_environment

INSTALLED = "installed"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an environment whose installations are only counted."""

    def install(prefix: Path) -> None:
        with (prefix / INSTALLED).open("a") as file:
            file.write("x")

    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr(setup_env, "_install", install)
    return tmp_path


def installs(prefix: Path) -> int:
    path = prefix / INSTALLED
    return len(path.read_text()) if path.exists() else 0


def test_a_second_run_installs_nothing_and_is_quick(prefix: Path) -> None:
    assert main() == 0
    start_s = time.perf_counter()
    assert main() == 0
    assert time.perf_counter() - start_s < 0.5
    assert installs(prefix) == 1


@pytest.mark.parametrize("key", ["digest", "repository", "prefix"])
def test_a_change_installs_again(prefix: Path, key: str) -> None:
    main()
    stamp = read_stamp(prefix)
    (prefix / setup_env.STAMP).write_text(json.dumps({**stamp, key: "other"}))
    main()
    assert installs(prefix) == 2
    assert read_stamp(prefix) == stamp


def test_a_failed_install_is_tried_again(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> None:
        raise SetupError("no way")

    monkeypatch.setattr(setup_env, "_install", fail)
    assert main() == 2
    assert capsys.readouterr().err == "setup: no way\n"
    assert read_stamp(prefix) == {}


def test_a_python_that_is_no_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    assert main() == 2
    assert "scripts/run setup" in capsys.readouterr().err


def test_too_small_a_disk_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env, "NEEDED_BYTES", 2**60)
    with pytest.raises(SetupError, match="GiB are free; make room"):
        setup_env._install(tmp_path)


def test_a_disk_that_fills_up_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(SetupError, match="the disk is full"):
        setup_env._run([sys.executable, "-c", "raise SystemExit(1)"], {})


def test_a_failed_download_names_the_settings(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match="HTTPS_PROXY, UV_DEFAULT_INDEX, PIP_INDEX_URL"):
        setup_env._run([sys.executable, "-c", "raise SystemExit(1)"], {})
    capfd.readouterr()


def test_a_damaged_stamp_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / setup_env.STAMP).write_text("{")
    assert read_stamp(tmp_path) == {}


def test_the_digest_depends_on_every_file_and_their_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("ab")
    two.write_text("c")
    first = digest([one, two])
    assert digest([one, two]) == first
    assert digest([two, one]) != first
    one.write_text("a")
    two.write_text("bc")
    assert digest([one, two]) != first


def test_uv_gets_the_index_and_certificate_that_pip_has() -> None:
    merged = uv_environment({}, {"index-url": "mirror", "cert": "/ca.pem"})
    assert (merged["UV_DEFAULT_INDEX"], merged["SSL_CERT_FILE"]) == ("mirror", "/ca.pem")


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX"])
def test_the_users_own_settings_of_uv_win(name: str) -> None:
    merged = uv_environment({name: "mine", "UV_HTTP_TIMEOUT": "9"}, {"index-url": "mirror"})
    assert merged == {name: "mine", "UV_HTTP_TIMEOUT": "9"}


def test_no_index_is_named_where_the_user_named_none() -> None:
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(uv_environment({}, {}))


def test_the_lock_entry_of_uv_holds_its_hashes() -> None:
    entry = pinned(LOCK.read_text(), "uv")
    assert entry.startswith("uv==")
    assert entry.count("--hash=sha256:") >= 2
    assert "via" not in entry


def test_a_lock_without_the_package_is_an_error() -> None:
    with pytest.raises(SetupError, match="names no uv"):
        pinned("numpy==1.26.4 \\\n    --hash=sha256:0\n", "uv")


def test_setup_of_this_very_environment_is_a_no_op_in_under_a_second() -> None:
    if not read_stamp(Path(sys.prefix)):
        pytest.skip("this environment was not made by the task 'setup'")
    script = Path(setup_env.__file__)
    start_s = time.perf_counter()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert time.perf_counter() - start_s < 1.0
