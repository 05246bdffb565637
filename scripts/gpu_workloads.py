"""Small training and evaluation loops with the memory patterns of large ones.

Each is a function of a device and of `probe`, which it calls at moments worth looking at. They run
on a CPU too, where `probe` has nothing to see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

Probe = Callable[[], None]
Workload = Callable[[torch.device, Probe, int], None]


def convolutional_training(device: torch.device, probe: Probe, scale: int) -> None:
    """Train a residual network with SGD; the last batch of each epoch is smaller."""
    model = nn.Sequential(
        _stage(3, 32), _stage(32, 64), _stage(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model.append(nn.Linear(128, 100)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    _probe_layers(model, probe)
    for batch in (2 * scale, 2 * scale, scale + 1, 2 * scale):
        images = torch.rand(batch, 3, 96, 96, device=device)
        labels = torch.randint(100, (batch,), device=device)
        loss = nn.functional.cross_entropy(model(images), labels)
        _step(optimizer, loss, probe)


def alternating_sequences(device: torch.device, probe: Probe, scale: int) -> None:
    """Train a transformer with AdamW on sequences whose length changes at each step."""
    model = _transformer(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    _probe_layers(model, probe)
    for length in (8, 31, 14, 46, 20, 55, 11, 50, 37):
        _step(optimizer, _sequence_loss(model, device, length * scale), probe)


def evaluation_between_training(device: torch.device, probe: Probe, scale: int) -> None:
    """Train on short sequences, evaluate on long ones; the cache is emptied once."""
    model = _transformer(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    _probe_layers(model, probe)
    kept = []
    for round_index in range(3):
        for length in (16, 21, 25):
            _step(optimizer, _sequence_loss(model, device, length * scale), probe)
        with torch.no_grad():
            for length in (90, 61, 120):
                loss = _sequence_loss(model, device, length * scale)
                kept.append(loss.expand(round_index + 1).clone())
                probe()
        if round_index == 1 and device.type == "cuda":
            torch.cuda.empty_cache()
            probe()


def two_streams(device: torch.device, probe: Probe, scale: int) -> None:
    """Prepare batches on one stream and use them on another."""
    model = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    side = _stream(device) if device.type == "cuda" else None
    for rows in (64, 200, 90, 300, 64, 200):
        with torch.cuda.stream(side):
            batch = torch.rand(rows * scale, 1024, device=device) * 2 - 1
            batch = batch.sort(dim=1).values
        if side is not None:
            torch.cuda.current_stream(device).wait_stream(side)
            batch.record_stream(torch.cuda.current_stream(device))
        _step(optimizer, model(batch).square().mean(), probe)


def captured_graph(device: torch.device, probe: Probe, scale: int) -> None:
    """Capture a forward pass into a CUDA graph, whose memory is a pool of its own."""
    model = nn.Sequential(*[_stage(16, 16) for _ in range(3)]).to(device).eval()
    images = torch.rand(2 * scale, 16, 64, 64, device=device)
    with torch.no_grad():
        _warm_up(model, images)
        probe()
        if device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model(images)
            probe()
            graph.replay()
        for batch in (3, 5):
            model(torch.rand(batch * scale, 16, 64, 64, device=device))
            probe()


WORKLOADS: Final[dict[str, Workload]] = {
    "convolutional_training": convolutional_training,
    "alternating_sequences": alternating_sequences,
    "evaluation_between_training": evaluation_between_training,
    "two_streams": two_streams,
    "captured_graph": captured_graph,
}


class _Residual(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the input and what the convolutions make of it."""
        return torch.relu(x + self.body(x))


def _stage(n_in: int, n_out: int) -> nn.Module:
    stride = 1 if n_in == n_out else 2
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1), _Residual(n_out), _Residual(n_out)
    )


def _transformer(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    blocks = [
        nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.0) for _ in range(3)
    ]
    return nn.Sequential(nn.Embedding(8000, 256), *blocks, nn.Linear(256, 8000)).to(device)


def _sequence_loss(model: nn.Module, device: torch.device, length: int) -> torch.Tensor:
    tokens = torch.randint(8000, (4, length), device=device)
    logits = model(tokens)
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, probe: Probe) -> None:
    probe()
    loss.backward()  # type: ignore[no-untyped-call]
    probe()
    optimizer.step()
    probe()
    optimizer.zero_grad()
    probe()


def _probe_layers(model: nn.Module, probe: Probe) -> None:
    """Look after the forward pass of each part of the model."""
    for part in model.children():
        part.register_forward_hook(lambda *_: probe())


def _warm_up(model: nn.Module, images: torch.Tensor) -> None:
    """Run once on a stream of its own, as a capture asks for."""
    if images.device.type != "cuda":
        model(images)
        return
    side = _stream(images.device)
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(side):
        model(images)
    torch.cuda.current_stream(images.device).wait_stream(side)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
