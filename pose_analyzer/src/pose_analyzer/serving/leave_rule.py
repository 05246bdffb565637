"""When a batch that is not full should leave.

A batch of cost ``a + b n`` is worth holding back only if the frames that would otherwise just miss
it win more than those that wait lose. Leaving now is compared with leaving when one, two, ... more
frames are there; what counts is the longest time from capture to result among the frames that wait
and those that would come while the detector is at work, because the target is the tail. Chosen by
us; what it gains over fixed windows stands in reports/scheduler_simulation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pose_analyzer.serving.execution_times import ExecutionTimes


@dataclass(frozen=True, slots=True)
class WaitingBatch:
    """A batch that could leave.

    Attributes
    ----------
    n_frames : int
        How many wait, at least 1.
    most : int
        How many the detector takes at once; more than wait.
    oldest_s : float
        When the oldest was captured.
    latest_s : float
        No batch is held back longer than until then.
    deadline_s : float
        When the first of them should be done.
    """

    n_frames: int
    most: int
    oldest_s: float
    latest_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class LeaveRule:
    """Compares leaving now with leaving later.

    Attributes
    ----------
    times : ExecutionTimes
        What a batch costs.
    guard : float
        Share that a batch may take longer than expected without missing a deadline.
    """

    times: ExecutionTimes
    guard: float

    def for_streams(
        self, batch: WaitingBatch, coming: Sequence[Sequence[float]], now_s: float
    ) -> float:
        """Return when to leave, knowing how regularly the other streams send.

        Parameters
        ----------
        batch : WaitingBatch
            What waits.
        coming : sequence of sequences of float
            For each other stream, after how many seconds its next frame may come, increasing and
            equally likely.
        now_s : float
            The time.

        Returns
        -------
        float
            Now, or the time until which waiting costs no more than it gains.
        """
        end_s = self.times.seconds(batch.n_frames)
        expected = sorted(
            (remaining_s[(len(remaining_s) - 1) // 2], remaining_s[-1])
            for remaining_s in coming
            if remaining_s and remaining_s[(len(remaining_s) - 1) // 2] <= end_s
        )
        likely_s = [likely for likely, _ in expected]
        worst_now_s = self._worst_s(batch, likely_s, 0, now_s)
        best_s, best_worst_s, surely_s = now_s, worst_now_s, 0.0
        for n_more in range(1, min(len(expected), batch.most - batch.n_frames) + 1):
            likely, surely = expected[n_more - 1]
            surely_s = max(surely_s, surely)
            last_s = self._last_s(batch, n_more, now_s)
            worst_s = self._worst_s(batch, likely_s, n_more, now_s)
            if now_s + likely <= last_s and worst_s < best_worst_s:
                best_worst_s = worst_s
                until_s = now_s + min(surely_s, likely + worst_now_s - worst_s)
                best_s = min(until_s, last_s)
        return best_s

    def for_company(self, batch: WaitingBatch, remaining_s: Sequence[float], now_s: float) -> float:
        """Return when to leave, knowing only how close frames of any stream follow each other.

        It tells that frames come in company though nobody knows when: a burst of all cameras.

        Parameters
        ----------
        batch : WaitingBatch
            What waits.
        remaining_s : sequence of float
            After how many seconds the next frame may come, increasing and equally likely.
        now_s : float
            The time.

        Returns
        -------
        float
            Now, or the time until which the gain to be expected is largest.
        """
        age_s = now_s - batch.oldest_s
        last_s = self._last_s(batch, 1, now_s)
        alone_s = self.times.seconds(batch.n_frames)
        both_s = self.times.seconds(batch.n_frames + 1)
        missed_s = alone_s + self.times.seconds(1)
        best_s, best_gain_s, sum_s = now_s, 0.0, 0.0
        for n_seen, wait_s in enumerate(remaining_s, start=1):
            if wait_s > alone_s or now_s + wait_s > last_s:
                break
            sum_s += max(age_s + alone_s, missed_s - wait_s) - (age_s + wait_s + both_s)
            gain_s = (sum_s - (len(remaining_s) - n_seen) * wait_s) / len(remaining_s)
            if gain_s > best_gain_s:
                best_s, best_gain_s = now_s + wait_s, gain_s
        return best_s

    def _last_s(self, batch: WaitingBatch, n_more: int, now_s: float) -> float:
        """Return how long a larger batch may be held back: no deadline is missed by waiting."""
        margin = 1.0 + self.guard
        if now_s + margin * self.times.seconds(batch.n_frames) > batch.deadline_s:
            return batch.latest_s  # It is missed in any case.
        done_s = margin * self.times.seconds(batch.n_frames + n_more)
        return min(batch.latest_s, batch.deadline_s - done_s)

    def _worst_s(
        self, batch: WaitingBatch, likely_s: Sequence[float], n_more: int, now_s: float
    ) -> float:
        """Return the longest time from capture to result if ``n_more`` frames are waited for."""
        done_s = self.times.seconds(batch.n_frames + n_more)
        done_s += likely_s[n_more - 1] if n_more > 0 else 0.0
        worst_s = now_s + done_s - batch.oldest_s
        n_full, n_rest = divmod(len(likely_s) - n_more, batch.most)
        if n_full + n_rest == 0:
            return worst_s
        done_s += n_full * self.times.seconds(batch.most)
        done_s += self.times.seconds(n_rest) if n_rest > 0 else 0.0
        return max(worst_s, done_s - likely_s[n_more])
