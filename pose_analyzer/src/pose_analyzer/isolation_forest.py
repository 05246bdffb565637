"""An Isolation Forest that is learned by scikit-learn and kept as plain arrays.

scikit-learn grows the trees. What it learned are numbers: kept as such they need no pickle to be
stored, and one sample is scored in a tenth of a millisecond without importing scikit-learn.

References
----------
.. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation Forest", ICDM 2008 (score and path length).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pose_analyzer.types import FloatArray, IntArray

_EULER: Final = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class IsolationForest:
    """Trees as arrays, M nodes at most in each of the N trees.

    Attributes
    ----------
    feature : int array, shape (N, M)
        Feature that a node asks for; negative in a leaf.
    threshold : array, shape (N, M)
        A sample whose feature is at most this goes left.
    left, right : int array, shape (N, M)
        Children.
    path_length : array, shape (N, M)
        In a leaf: its depth and what further splits of its samples would add on average.
    n_samples : int
        Samples that each tree was grown from.
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    path_length: FloatArray
    n_samples: int

    @classmethod
    def learned(cls, samples: FloatArray, n_trees: int, seed: int) -> IsolationForest:
        """Return a forest grown from samples, shape (S, F), without NaN, S >= 2."""
        # scikit-learn takes seconds to import and only learning needs it.
        from sklearn.ensemble import IsolationForest as Grower

        grown = Grower(n_estimators=n_trees, random_state=seed).fit(samples)
        trees = [one.tree_ for one in grown.estimators_]
        size = max(tree.node_count for tree in trees)
        shape = (n_trees, size)
        feature, left, right = (np.full(shape, -1, dtype=np.intp) for _ in range(3))
        threshold, path_length = np.zeros(shape), np.zeros(shape)
        for row, tree in enumerate(trees):
            nodes = slice(0, tree.node_count)
            feature[row, nodes] = tree.feature
            left[row, nodes], right[row, nodes] = tree.children_left, tree.children_right
            threshold[row, nodes] = tree.threshold
            further = np.array([_average_path(int(n)) for n in tree.n_node_samples])
            path_length[row, nodes] = _depths(tree.children_left, tree.children_right) + further
        return cls(feature, threshold, left, right, path_length, int(grown.max_samples_))

    def score(self, sample: FloatArray) -> float:
        """Return how isolated a sample, shape (F,), is: in (0, 1), about 0.5 for the usual [1]_."""
        # The trees were grown on single precision, which a threshold may tell from double.
        values = sample.astype(np.float32)
        rows = np.arange(len(self.feature))
        node = np.zeros(len(rows), dtype=np.intp)
        inner = self.feature[rows, node] >= 0
        while inner.any():
            at = rows[inner], node[inner]
            goes_left = values[self.feature[at]] <= self.threshold[at]
            node[inner] = np.where(goes_left, self.left[at], self.right[at])
            inner = self.feature[rows, node] >= 0
        mean_path = float(self.path_length[rows, node].mean())
        return float(2.0 ** (-mean_path / _average_path(self.n_samples)))

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the attributes by name, as small as a file needs them."""
        return {
            "feature": self.feature.astype(np.int16),
            "threshold": self.threshold,
            "left": self.left.astype(np.int16),
            "right": self.right.astype(np.int16),
            "path_length": self.path_length,
            "n_samples": np.array(self.n_samples),
        }


def _average_path(n: int) -> float:
    """Return the mean path length of an unsuccessful search among n samples [1]_, equation 1."""
    if n <= 1:
        return 0.0
    if n == 2:
        return 1.0
    return 2.0 * (math.log(n - 1.0) + _EULER) - 2.0 * (n - 1.0) / n


def _depths(left: IntArray, right: IntArray) -> FloatArray:
    """Return the depth of each node; children come after their parent."""
    depth = np.zeros(len(left))
    for node in range(len(left)):
        if left[node] >= 0:
            depth[left[node]] = depth[right[node]] = depth[node] + 1.0
    return depth
