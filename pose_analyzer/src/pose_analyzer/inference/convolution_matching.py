"""Which convolution of one graph is which of another: by shape, and by what it follows.

Files name their weights as the exporter pleased. Their shapes and their order of calculation stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)
First = TypeVar("First", bound=Hashable)
Second = TypeVar("Second", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Graph(Generic[Node]):
    """A network as steps of a calculation.

    Attributes
    ----------
    outputs : iterable of nodes
        Where the calculation ends.
    inputs : callable
        Gives the nodes that a node follows, in order.
    shape : callable
        Gives the shape of a convolution's weight; None for any other node.
    """

    outputs: Iterable[Node]
    inputs: Callable[[Node], Iterable[Node]]
    shape: Callable[[Node], tuple[int, ...] | None]


def match_convolutions(
    first: Graph[First], second: Graph[Second]
) -> list[tuple[First, Second]] | None:
    """Return pairs of the same convolution in two graphs; None if the graphs differ.

    Two convolutions are the same if their weights have one shape and they follow the same
    convolutions, whatever else stands between. Several that are alike in this are paired in the
    order in which the graphs use them: two branches that meet in a concatenation meet there in one
    order, or the channels would not fit the weights that come next.

    Parameters
    ----------
    first, second : Graph
        The order of their outputs matters only among convolutions that are alike.
    """
    numbers: dict[tuple[tuple[int, ...], frozenset[int]], int] = {}
    ours, theirs = _by_number(first, numbers), _by_number(second, numbers)
    if {key: len(nodes) for key, nodes in ours.items()} != {
        key: len(nodes) for key, nodes in theirs.items()
    }:
        return None
    return [pair for key, nodes in ours.items() for pair in zip(nodes, theirs[key], strict=True)]


def _by_number(
    graph: Graph[Node], numbers: dict[tuple[tuple[int, ...], frozenset[int]], int]
) -> dict[int, list[Node]]:
    """Return the convolutions by a number that is one for those that are alike."""
    found: dict[int, list[Node]] = defaultdict(list)
    # For each node, the numbers of the convolutions that it follows directly, itself if it is one.
    nearest: dict[Node, frozenset[int]] = {}
    for node in _inputs_first(graph):
        sources = frozenset[int]().union(*(nearest[before] for before in graph.inputs(node)))
        shape = graph.shape(node)
        if shape is not None:
            number = numbers.setdefault((shape, sources), len(numbers))
            found[number].append(node)
            sources = frozenset((number,))
        nearest[node] = sources
    return dict(found)


def _inputs_first(graph: Graph[Node]) -> Iterable[Node]:
    """Yield each node once, after all that it follows; without recursion, which is too deep."""
    seen: set[Node] = set()
    waiting = [(node, False) for node in reversed(list(graph.outputs))]
    while waiting:
        node, is_ready = waiting.pop()
        if is_ready:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(before, False) for before in reversed(list(graph.inputs(node)))]
