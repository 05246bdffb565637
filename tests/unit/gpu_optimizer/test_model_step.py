from __future__ import annotations

import pickle

import pytest
import torch

from gpu_optimizer.model_step import ModelStep
from gpu_optimizer.training_step import StepConfig

SMALL = "torchvision:squeezenet1_1"


def test_a_model_of_the_registry_trains_and_evaluates() -> None:
    made = ModelStep(SMALL, step=StepConfig("train"), device="cpu")
    step: ModelStep = pickle.loads(pickle.dumps(made))  # noqa: S301 - packed in the line above
    step.prepare()
    program = step(2)
    program.step()
    assert program.evaluate is not None
    program.evaluate()
    assert torch.get_default_dtype() == torch.float32


def test_inference_has_no_evaluation_of_its_own() -> None:
    program = ModelStep(SMALL, step=StepConfig("infer", precision="bf16"), device="cpu")(1)
    program.step()
    assert program.evaluate is None


def test_the_forecast_grows_with_the_batch() -> None:
    step = ModelStep(SMALL)
    assert step.forecast_bytes(16) > step.forecast_bytes(1) > 0


def test_what_a_model_cannot_do_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no blocks that can be checkpointed"):
        ModelStep(SMALL, step=StepConfig(is_checkpointed=True), device="cpu")(1)
