from __future__ import annotations

import pytest
import torch
from torch import nn

from gpu_optimizer.training_step import infer, make_optimizer

ROWS = torch.zeros(2, 3)
TOKENS = torch.zeros(2, 3, dtype=torch.long)


class Recorder(nn.Module):
    """Notes what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, object] = {}

    def forward(self, rows: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        self.seen = {"rows": rows, "mask": mask}


class Language(Recorder):
    """Keeps keys and values by default, as models of Hugging Face do."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool = True) -> None:  # type: ignore[override]
        self.seen = {"input_ids": input_ids, "use_cache": use_cache}


@pytest.mark.parametrize(
    ("inputs", "mask"),
    [
        (ROWS, None),
        ([ROWS], None),
        ((ROWS, TOKENS), TOKENS),
        ({"rows": ROWS, "mask": TOKENS}, TOKENS),
        ({"mask": TOKENS, "rows": ROWS}, TOKENS),
        ({"pictures": ROWS, "labels": TOKENS}, None),
    ],
)
def test_the_model_is_called_as_the_input_says(inputs: object, mask: torch.Tensor | None) -> None:
    model = Recorder()
    infer(model, inputs, 0)
    assert model.seen["rows"] is ROWS
    assert model.seen["mask"] is mask


def test_keys_and_values_are_not_kept_where_nothing_is_generated() -> None:
    model = Language()
    infer(model, {"input_ids": TOKENS}, 0)
    assert model.seen == {"input_ids": TOKENS, "use_cache": False}


def test_no_input_is_an_error() -> None:
    with pytest.raises(ValueError, match="must return an input, got an empty mapping"):
        infer(Recorder(), {}, 0)


def test_tokens_need_tokens_to_go_on_from() -> None:
    with pytest.raises(ValueError, match="n_new_tokens needs an input with 'input_ids'"):
        infer(Recorder(), {"rows": ROWS}, 2)


def test_a_model_with_nothing_to_learn_has_no_optimizer() -> None:
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), "sgd")
