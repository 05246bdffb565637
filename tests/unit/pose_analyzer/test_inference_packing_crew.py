"""A crew packs every line of every picture where it belongs, and tells what went wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.inference.device_letterbox import Packing, pack, packing_for
from pose_analyzer.inference.packing_crew import PackingCrew, PackingJob, packing_jobs
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.types import ImageArray

SIZES = ((90, 160), (54, 96), (30, 40), (7, 5))


def picture(size: tuple[int, int], seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@given(
    n_threads=st.integers(1, 4),
    n_parts=st.integers(1, 9),
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_parts_make_up_the_whole(
    n_threads: int, n_parts: int, sizes: list[tuple[int, int]]
) -> None:
    images = [picture(size, seed) for seed, size in enumerate(sizes)]
    packings = [packing_for(Letterbox.fit(image.shape, 32, 32)) for image in images]
    targets = [np.zeros(packing.n_bytes, dtype=np.uint8) for packing in packings]
    crew = PackingCrew(n_threads)
    jobs = [
        job
        for image, packing, target in zip(images, packings, targets, strict=True)
        for job in packing_jobs(image, packing, target, 100, n_parts)
    ]
    done = list(crew.run(jobs))
    crew.close()
    assert sorted(map(id, done)) == sorted(map(id, jobs))
    assert sum(job.end - job.start for job in jobs) == sum(each.n_bytes for each in packings)
    for image, packing, target in zip(images, packings, targets, strict=True):
        expected = np.empty_like(target)
        pack(image, packing, expected)
        np.testing.assert_array_equal(target, expected)


def test_few_pictures_are_cut_and_many_are_not() -> None:
    crew = PackingCrew(8)
    assert [crew.parts_each(n) for n in (1, 2, 4, 8, 32)] == [4, 4, 2, 1, 1]
    crew.close()


def test_what_a_job_raises_reaches_the_caller_after_the_others_are_done() -> None:
    target = np.zeros(75, dtype=np.uint8)
    good = PackingJob(picture((5, 5), 0), Packing(0, None, 75), target, slice(None), 0, 75)
    bad = PackingJob(picture((5, 5), 1), Packing(0, None, 75), target[:7], slice(None), 0, 75)
    crew = PackingCrew(2)
    done: list[PackingJob] = []
    with pytest.raises(ValueError, match="reshape"):
        done.extend(crew.run([bad, good]))
    np.testing.assert_array_equal(target, good.image.ravel())
    assert list(crew.run([good])) == [good]
    crew.close()


def test_its_threads_end_when_it_is_closed() -> None:
    before = set(threading.enumerate())
    crew = PackingCrew(3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    crew.close()
    for helper in helpers:
        helper.join(timeout=10.0)
        assert not helper.is_alive()


def test_a_crew_has_somebody() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        PackingCrew(0)
