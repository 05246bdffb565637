"""Tags follow the program through forward, backward and the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from gpu_optimizer.module_tags import ModuleTags


def _run(model: nn.Module, rows: torch.Tensor) -> list[str]:
    """Return the tags of a training step, each once in a row."""
    tags: list[str] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ModuleTags(model, tags.append):
        model(rows).square().mean().backward()
        optimizer.step()
    return [tag for tag, before in zip(tags, ["", *tags], strict=False) if tag != before]


def _phases(tags: list[str]) -> list[str]:
    phases = [tag.partition("|")[0] for tag in tags if tag]
    return [one for one, before in zip(phases, ["", *phases], strict=False) if one != before]


class _Block(nn.Module):
    """Adds what its part makes of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.act(self.part(rows)) + torch.sigmoid(rows)
        return output


def test_a_training_step_goes_through_all_phases() -> None:
    tags = _run(nn.Sequential(nn.Linear(3, 3)), torch.rand(2, 3))
    assert _phases(tags) == ["other", "forward", "backward", "other", "optimizer", "other"]


def test_backward_visits_the_modules_in_reverse() -> None:
    tags = _run(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), torch.rand(2, 3))
    backward = [tag.split("|")[1] for tag in tags if tag.startswith("backward|")]
    assert [name for name in backward if name.isdecimal()] == ["2", "1", "0"]


def test_modules_that_change_tensors_in_place_can_be_followed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(inplace=True))
    tags = _run(model, torch.rand(2, 1, 4, 4))
    assert {"backward|0|", "backward|1|", "backward|2|"} <= set(tags)


def test_what_a_block_does_itself_is_its_own_in_backward_too() -> None:
    tags = _run(nn.Sequential(_Block(), _Block()), torch.rand(2, 3, requires_grad=True))
    first = tags.index("backward|1|")
    assert tags[first : first + 3] == ["backward|1|", "backward|1.act|", "backward|1.part|"]
    assert tags.index("backward|0|") > tags.index("backward|1.part|")


class _Checkpointed(nn.Module):
    """Computes its part again in backward."""

    def __init__(self, is_reentrant: bool) -> None:
        super().__init__()
        self.part = nn.Linear(3, 3)
        self._is_reentrant = is_reentrant

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = checkpoint(self.part, rows, use_reentrant=self._is_reentrant)
        return output


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_what_is_recomputed_counts_for_backward(*, is_reentrant: bool) -> None:
    tags = _run(_Checkpointed(is_reentrant), torch.rand(2, 3, requires_grad=True))
    assert "backward|part|again" in tags
    assert _phases(tags) == ["other", "forward", "backward", "other", "optimizer", "other"]


def test_a_pass_without_gradients_is_evaluation() -> None:
    tags: list[str] = []
    model = nn.Sequential(nn.Linear(3, 3))
    with ModuleTags(model, tags.append), torch.no_grad():
        model(torch.rand(2, 3))
    assert "evaluation|0|" in tags
    assert not any(tag.startswith("forward|") for tag in tags)


def test_everything_is_as_before_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    backward, grad = torch.autograd.backward, torch.autograd.grad
    tags: list[str] = []
    with pytest.raises(KeyError), ModuleTags(model, tags.append):
        raise KeyError("anything")
    assert (torch.autograd.backward, torch.autograd.grad) == (backward, grad)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    n_tags = len(tags)
    model(torch.rand(2, 3)).sum().backward()
    assert len(tags) == n_tags


def test_a_name_with_the_sign_of_tags_is_changed() -> None:
    model = nn.Sequential()
    model.add_module("a|b", nn.Linear(3, 3))
    assert "forward|a/b|" in _run(model, torch.rand(2, 3))


def test_a_graph_that_outlives_the_trace_puts_no_tags() -> None:
    tags: list[str] = []
    model = nn.Sequential(nn.Linear(3, 3))
    with ModuleTags(model, tags.append):
        loss = model(torch.rand(2, 3)).sum()
    n_tags = len(tags)
    loss.backward()
    assert len(tags) == n_tags
    assert model[0].weight.grad is not None


def test_the_tag_of_a_parent_returns_when_its_part_is_done() -> None:
    tags: list[str] = []
    model = nn.Sequential(_Block())
    with ModuleTags(model, tags.append), torch.no_grad():
        model(torch.rand(2, 3))
    place = tags.index("evaluation|0.act|")
    assert tags[place + 1] == "evaluation|0|"


class _Borrower(nn.Module):
    """Calls a part that belongs to another module."""

    def __init__(self, lender: nn.Sequential) -> None:
        super().__init__()
        self.lender = lender
        self.borrower = nn.Module()
        self.borrower.add_module("part", lender[0])
        self.borrower.forward = self._borrow

    def _borrow(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.lender[0](rows) * 2
        return output

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.borrower(rows)
        return output


def test_a_shared_part_returns_to_whoever_called_it() -> None:
    tags = _run(_Borrower(nn.Sequential(nn.Linear(3, 3))), torch.rand(2, 3))
    place = tags.index("forward|lender.0|")
    assert (tags[place - 1], tags[place + 1]) == ("forward|borrower|", "forward|borrower|")


def test_a_step_within_backward_returns_to_backward_and_leaves_a_mark() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizers = {one: torch.optim.SGD([one], lr=0.1) for one in model.parameters()}
    for one in model.parameters():
        one.register_post_accumulate_grad_hook(lambda it: optimizers[it].step())  # type: ignore[no-untyped-call]
    tags: list[str] = []
    with ModuleTags(model, tags.append):
        model(torch.rand(2, 3)).sum().backward()
    steps = [place for place, tag in enumerate(tags) if tag.startswith("optimizer||")]
    assert [tags[place + 1].split("|")[0] for place in steps] == ["backward"] * 4
    assert tags[steps[0] + 1].endswith("#1")
    assert tags[-2] == "other||"


def test_a_closure_returns_to_the_step_that_calls_it() -> None:
    model = nn.Linear(3, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)
    tags: list[str] = []

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(torch.rand(2, 3)).square().sum()
        loss.backward()
        return float(loss.detach())

    with ModuleTags(model, tags.append):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert _phases(tags) == ["other", "optimizer", "forward", "backward", "optimizer", "other"]


class _Force(nn.Module):
    """Differentiates within forward."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        energy = self.part(rows).sum()
        (force,) = torch.autograd.grad(energy, rows, create_graph=True)
        return force.square()


def test_a_gradient_within_forward_returns_to_the_module_that_asked() -> None:
    tags = _run(_Force(), torch.rand(2, 3, requires_grad=True))
    assert _phases(tags)[:4] == ["other", "forward", "backward", "forward"]
    last_inner = max(place for place, tag in enumerate(tags) if tag == "forward|(model)|")
    assert tags[last_inner - 1].startswith("backward|")


def test_a_part_without_gradients_beside_one_with_is_evaluation() -> None:
    model = nn.ModuleDict({"frozen": nn.Linear(3, 3), "head": nn.Linear(3, 3)})
    tags: list[str] = []
    with ModuleTags(model, tags.append):
        with torch.no_grad():
            features = model["frozen"](torch.rand(2, 3))
        model["head"](features)
    assert {"evaluation|frozen|", "forward|head|"} <= set(tags)


class _Branch(nn.Module):
    """A user's module, since those of PyTorch are not compiled by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.part(rows))


def _as_it_is(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
    return graph


@pytest.mark.parametrize("is_in_place", [False, True])
def test_what_is_compiled_is_one_part_and_still_compiles(*, is_in_place: bool) -> None:
    torch.compiler.reset()
    branch: nn.Module = _Branch()
    if is_in_place:
        branch.compile(backend=_as_it_is, fullgraph=True)
    else:
        branch = cast(nn.Module, torch.compile(branch, backend=_as_it_is, fullgraph=True))
    tags = _run(nn.Sequential(branch, nn.Linear(3, 3)), torch.rand(2, 3))
    assert {"forward|0|", "backward|0|", "forward|1|"} <= set(tags)
    assert not any("part" in tag for tag in tags)


@dataclass
class _Output:
    rows: torch.Tensor


class _Structured(nn.Module):
    """Takes keywords and returns a dataclass."""

    def forward(self, *, rows: torch.Tensor) -> _Output:
        return _Output(rows * 2)


class _Caller(nn.Module):
    """Does something itself around its part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = _Structured()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: _Output = self.part(rows=torch.sigmoid(rows))
        return output.rows


def test_keywords_and_dataclasses_are_followed_in_backward() -> None:
    tags: list[str] = []
    model = _Caller()
    with ModuleTags(model, tags.append):
        model(torch.rand(2, 3, requires_grad=True)).sum().backward()
    place = tags.index("backward|part|")
    assert tags[place + 1] == "backward|(model)|"


class _Unhookable(nn.Module):
    """Refuses hooks, as some compiled modules do."""

    def register_forward_pre_hook(self, *_: object, **__: object) -> RemovableHandle:
        raise RuntimeError("no hooks")


def test_an_entry_that_fails_leaves_nothing_behind() -> None:
    model = nn.Sequential(nn.Linear(3, 3), _Unhookable())
    backward, grad = torch.autograd.backward, torch.autograd.grad
    with pytest.raises(RuntimeError, match="no hooks"), ModuleTags(model, lambda _: None):
        pass
    assert (torch.autograd.backward, torch.autograd.grad) == (backward, grad)
    assert not model[0]._forward_pre_hooks


def test_a_part_called_past_its_model_is_in_the_forward_phase() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tags: list[str] = []
    with ModuleTags(model, tags.append):
        model[1](model[0](torch.ones(2, 3))).sum().backward()
    assert _phases(tags) == ["other", "forward", "backward", "other"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_counts_for_the_module_above() -> None:
    scripted = torch.jit.script(nn.Linear(3, 3))
    tags = _run(nn.Sequential(nn.Linear(3, 3), scripted), torch.ones(2, 3))
    assert any("|0|" in tag for tag in tags)
    assert not any("|1|" in tag for tag in tags)


def _refuse(tag: str) -> None:
    raise RuntimeError(f"no driver for {tag}")


def test_tags_that_cannot_be_put_leave_no_hooks() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    backward = torch.autograd.backward
    with pytest.raises(RuntimeError, match="no driver"), ModuleTags(model, _refuse):
        raise AssertionError("not reached")
    assert torch.autograd.backward is backward
    model(torch.rand(2, 3)).sum().backward()
    assert not model[0]._forward_hooks
