"""A profile in files: a page that needs nothing else, strict JSON, a database."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gpu_optimizer.block_owners import CATEGORIES
from gpu_optimizer.event_table import EventTable
from gpu_optimizer.memory_profile import MemoryProfile
from gpu_optimizer.memory_tracer import MemoryTracer
from gpu_optimizer.memory_walk import replay_walk
from gpu_optimizer.profile_builder import build_profile
from gpu_optimizer.recording import Recording, StorageNames
from gpu_optimizer.report import html_page, profile_text
from gpu_optimizer.types import AllocationTrace

_PAGE_CHECK = Path(__file__).parents[2] / "fixtures" / "page_check.js"


@pytest.fixture(scope="module")
def trace() -> MemoryTracer:
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with MemoryTracer(model, optimizer) as tracer:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(32, 64)).square().mean().backward()
            optimizer.step()
    return tracer


def _empty() -> MemoryProfile:
    with MemoryTracer(nn.Identity(), device="cpu") as tracer:
        pass
    return tracer.profile


class _Page(HTMLParser):
    """Keeps the tags of a page, the text of its scripts, and what does not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "input"}:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def _data(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_Page(page).scripts[0])
    return found


def test_the_page_needs_nothing_but_itself(trace: MemoryTracer) -> None:
    parsed = _Page(html_page(trace.profile, "A model"))
    assert parsed.open == []
    assert parsed.addresses == []
    assert {"link", "img", "iframe"}.isdisjoint(parsed.tags)
    assert not re.search(r"fetch\(|XMLHttp|import\(|@import|url\(", "".join(parsed.scripts[1:]))


def test_the_data_of_the_page_add_up_at_every_moment(trace: MemoryTracer) -> None:
    data = _data(html_page(trace.profile, "A model"))
    for moment in data["moments"]:
        in_blocks = sum(
            size
            for _, _, blocks in moment["segments"]
            for size, owner in zip(blocks[::2], blocks[1::2], strict=True)
            if owner >= 0
        )
        assert sum(size for _, size in moment["owners"]) == in_blocks
    peak = next(one for one in data["moments"] if one["event"] == data["peak_event"])
    assert sum(size for _, size in peak["owners"]) == trace.profile.peak_bytes
    assert max(map(sum, zip(*data["timeline"]["bytes"], strict=True))) == data["peak_bytes"]


def test_a_title_that_looks_like_a_place_of_the_template_stays_a_title(
    trace: MemoryTracer,
) -> None:
    page = html_page(trace.profile, "{{data}} {{script}}")
    assert "<title>{{data}} {{script}}</title>" in page


def test_names_cannot_end_the_script(trace: MemoryTracer) -> None:
    page = html_page(trace.profile, "</title><script>alert(1)</script>")
    assert len(_Page(page).scripts) == 2
    assert "<script>alert" not in page


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's script")
@pytest.mark.parametrize("is_empty", [False, True])
def test_the_script_runs_through_every_moment_without_an_error(
    trace: MemoryTracer, tmp_path: Path, *, is_empty: bool
) -> None:
    path = tmp_path / "page.html"
    profile = _empty() if is_empty else trace.profile
    path.write_text(html_page(profile, "A model"), encoding="utf-8")
    done = subprocess.run(  # noqa: S603 - our own file
        ["node", str(_PAGE_CHECK), str(path)],  # noqa: S607 - found above
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["n_moments"] == max(len(profile.moments), 1)
    assert seen["n_last_moment"] == max(len(profile.moments) - 1, 0)
    assert seen["n_layer_rows"] == len(profile.layers) + 1
    assert (seen["n_flame_boxes"] > 0) != is_empty


def test_the_json_file_is_strict_and_holds_the_layers(trace: MemoryTracer, tmp_path: Path) -> None:
    trace.to_json(tmp_path / "profile.json")
    text = (tmp_path / "profile.json").read_text(encoding="utf-8")
    content = json.loads(text, parse_constant=pytest.fail)
    assert sum(layer["at_peak_bytes"] for layer in content["layers"]) == content["peak_bytes"]
    assert content["out_of_memory"] is None
    assert content["timeline"]["categories"] == list(CATEGORIES)


def test_the_database_answers_where_the_memory_went(trace: MemoryTracer, tmp_path: Path) -> None:
    trace.to_sqlite(tmp_path / "profile.sqlite")
    trace.to_sqlite(tmp_path / "profile.sqlite")
    with closing(sqlite3.connect(tmp_path / "profile.sqlite")) as base:
        total = base.execute("SELECT sum(size_bytes) FROM blocks_at_peak").fetchone()[0]
        layers = base.execute("SELECT sum(at_peak_bytes) FROM layers").fetchone()[0]
        n_events = base.execute("SELECT count(*) FROM events").fetchone()[0]
        lived = base.execute(
            "SELECT sum(CASE kind WHEN 'alloc' THEN size_bytes ELSE -size_bytes END) FROM events"
        ).fetchone()[0]
    assert total == layers == trace.profile.peak_bytes
    assert n_events == len(trace.profile.trace.events)
    assert lived == trace.profile.end_bytes


def test_a_file_that_cannot_be_written_is_an_os_error(trace: MemoryTracer, tmp_path: Path) -> None:
    for write in (trace.to_sqlite, trace.to_json, trace.to_html):
        with pytest.raises(OSError, match="missing"):
            write(tmp_path / "missing" / "file")


def test_a_folder_in_the_way_is_told_and_nothing_is_left(
    trace: MemoryTracer, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    for write in (trace.to_sqlite, trace.to_json, trace.to_html):
        with pytest.raises(OSError, match="taken cannot be written: it is a folder"):
            write(tmp_path / "taken")
    assert [one.name for one in tmp_path.iterdir()] == ["taken"]


def test_a_disk_that_fills_leaves_nothing_behind(
    trace: MemoryTracer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, text: str, encoding: str) -> None:
        with path.open("w", encoding=encoding) as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match=r"profile\.json cannot be written: No space left"):
        trace.to_json(tmp_path / "profile.json")
    assert not list(tmp_path.iterdir())


def _documented(section: str) -> set[str]:
    """Return the names at the start of the rows of a table in the description of the files."""
    text = (Path(__file__).parents[3] / "docs/memory_profile.md").read_text(encoding="utf-8")
    rows = text.partition(f"## {section}")[2].partition("\n## ")[0].splitlines()
    firsts = [row.split("|")[1] for row in rows if row.startswith("|")]
    return {name for first in firsts for name in re.findall("`([a-z_]+)`", first)}


def test_the_description_of_the_files_names_all_that_is_in_them(
    trace: MemoryTracer, tmp_path: Path
) -> None:
    trace.to_json(tmp_path / "profile.json")
    trace.to_sqlite(tmp_path / "profile.sqlite")
    content = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
    with closing(sqlite3.connect(tmp_path / "profile.sqlite")) as base:
        tables = {
            name for (name,) in base.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        }
    assert _documented("profile.json") == set(content)
    assert _documented("profile.sqlite") == tables


def test_an_empty_profile_can_be_shown() -> None:
    assert "peak allocated     0 B" in profile_text(_empty())
    assert _data(html_page(_empty(), "Nothing"))["moments"] == []


def test_the_table_ends_with_the_sum_of_all_layers(trace: MemoryTracer) -> None:
    lines = profile_text(trace.profile, n_layers=1).splitlines()
    assert lines[-1].endswith("all layers")
    assert any(line.endswith("others") for line in lines)


def _long_trace(n_blocks: int) -> Recording:
    """Return a trace in which 500 blocks live at any time."""
    rng = np.random.default_rng(3)
    n_live = 500
    births = np.arange(n_blocks)
    kinds = np.zeros(2 * n_blocks, np.int8)
    kinds[1::2] = 1
    blocks = np.repeat(births, 2)
    blocks[1::2] -= n_live
    keep = blocks >= 0
    names = ("", *(f"forward|layer{index}.conv|" for index in range(60)))
    n_events = int(keep.sum())
    table = EventTable(
        kinds=kinds[keep],
        blocks=blocks[keep],
        n_bytes=rng.integers(1, 2**22, n_blocks)[blocks[keep]],
        streams=np.zeros(n_events, np.int64),
        pools=np.zeros(n_events, np.int64),
        tag_indices=rng.integers(0, len(names), n_events),
        times_us=np.arange(n_events, dtype=np.float64),
        tags=names,
    )
    trace = AllocationTrace(table, "cuda:0", "test")
    return Recording(
        trace,
        tuple(range(n_blocks)),
        lambda moments: replay_walk(trace, moments),
        "metadata",
    )


def test_the_page_of_a_long_trace_stays_small() -> None:
    profile = build_profile(_long_trace(20_000), StorageNames())
    page = html_page(profile, "Long")
    assert len(page) < 3 * 2**20
    assert len(_data(page)["timeline"]["events"]) < 1500
    assert sum(layer.at_peak_bytes for layer in profile.layers) == profile.peak_bytes


def test_a_module_with_the_sign_of_tags_in_its_name_is_one_layer(tmp_path: Path) -> None:
    model = nn.Module()
    model.add_module("a|b", nn.Linear(4, 4))
    with MemoryTracer(model) as tracer:
        model.get_submodule("a|b")(torch.ones(2, 4)).sum().backward()
    tracer.to_sqlite(tmp_path / "profile.sqlite")
    assert {"a/b"} <= {row.module for row in tracer.profile.layers}
    assert not any("|" in row.module for row in tracer.profile.layers)
