"""A training loop that truly fragments memory: batches and lengths change, and so does evaluation.

Batches are made to have about as many tokens as each other, as in training by buckets: a few long
texts or many short ones. After every few steps other shapes are evaluated without gradients. It
runs on a GPU, on a CPU with a small `Shape`, and on fake tensors (`fake_workload`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from gpu_optimizer.training_step import Batch, Workload

BATCHES: Final = (
    *((6, 160), (16, 96), (5, 640), (12, 224), (4, 1024), (9, 416)),
    *((20, 128), (6, 800), (10, 512), (3, 1280), (14, 352), (8, 704)),
)
"""Texts and tokens of each batch in training, in turn."""
EVALUATIONS: Final = ((2, 2048), (24, 256), (6, 1152))
"""The same of the batches of one evaluation."""
EVALUATE_EVERY: Final = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the transformer; by default 268 million parameters.

    Attributes
    ----------
    n_words, width, n_heads, n_layers : int
        As usual.
    divide_by : int
        By what the lengths of the texts are divided, to make the loop small.
    """

    n_words: int = 32_000
    width: int = 1536
    n_heads: int = 16
    n_layers: int = 6
    divide_by: int = 1


class LanguageModel(nn.Module):
    """A transformer that predicts tokens, with attention in plain operators.

    Fused attention adds up gradients in an order that changes, and results must be the same bits.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.n_words, shape.width)
        self.blocks = nn.ModuleList(
            _Block(shape.width, shape.n_heads) for _ in range(shape.n_layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.n_words, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (B, T, n_words), of tokens of shape (B, T)."""
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        logits: torch.Tensor = self.head(self.norm(hidden))
        return logits


class TrainingLoop:
    """The model, its optimizer and the data, from a seed.

    Parameters
    ----------
    device : torch.device
        Where it trains.
    shape : Shape
        How large it is.
    """

    def __init__(self, device: torch.device, shape: Shape) -> None:
        torch.manual_seed(0)
        self.model = LanguageModel(shape).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self._shape = shape
        self._device = device
        self._generator = torch.Generator(device).manual_seed(1)

    def steps(self, n_steps: int) -> Iterator[torch.Tensor]:
        """Train, and yield the loss of each step when it is over and its gradients are gone."""
        for index, (texts, length) in zip(range(n_steps), itertools.cycle(BATCHES), strict=False):
            if index and index % EVALUATE_EVERY == 0:
                self._evaluate()
            loss = self._loss(texts, length)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
            yield loss.detach()

    def checksum(self) -> str:
        """Return the bits of all parameters and of the optimizer's state as two sums."""
        state = [
            value
            for values in self.optimizer.state.values()
            for value in values.values()
            if value.dim()
        ]
        sums = (
            sum(int(_bits(tensor)) for tensor in tensors) % 2**64
            for tensors in (list(self.model.parameters()), state)
        )
        return "-".join(f"{value:016x}" for value in sums)

    def _evaluate(self) -> None:
        with torch.no_grad():
            for texts, length in EVALUATIONS:
                self._loss(texts, length)

    def _loss(self, texts: int, length: int) -> torch.Tensor:
        size = (texts, length // self._shape.divide_by)
        tokens = torch.randint(
            self._shape.n_words, size, device=self._device, generator=self._generator
        )
        return _token_loss(self.model, tokens)


def fake_workload(shape: Shape) -> Workload:
    """Return the same loop for `trace_step`: each step takes the next batch."""
    counter = itertools.count()

    def loss(model: nn.Module, _: Batch) -> torch.Tensor:
        index = next(counter)
        if index and index % EVALUATE_EVERY == 0:
            with torch.no_grad():
                for size in EVALUATIONS:
                    _token_loss(model, _zeros(*size, shape))
        return _token_loss(model, _zeros(*BATCHES[index % len(BATCHES)], shape))

    return Workload(lambda: LanguageModel(shape), lambda: {"tokens": _zeros(1, 64, shape)}, loss)


class _Block(nn.Module):
    """Attention and two linear layers, each after a norm and added to its input."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self._n_heads = n_heads
        self.norm_1 = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the same shape, (B, T, width)."""
        n, length, width = hidden.shape
        head_width = width // self._n_heads
        parts = self.attention_in(self.norm_1(hidden)).view(n, length, 3, self._n_heads, head_width)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) / math.sqrt(head_width)).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(n, length, width)
        hidden = hidden + self.attention_out(mixed)
        added: torch.Tensor = self.down(functional.gelu(self.up(self.norm_2(hidden))))
        return hidden + added


def _token_loss(
    model: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor
) -> torch.Tensor:
    return functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())


def _zeros(texts: int, length: int, shape: Shape) -> torch.Tensor:
    return torch.zeros(texts, length // shape.divide_by, dtype=torch.long)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(torch.int32).to(torch.int64).sum()
