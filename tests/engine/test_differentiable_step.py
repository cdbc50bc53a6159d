"""The step with gradients: what a task has without saying more."""

import pytest
import torch

from slowfast.engine.task import Task


class Sums(Task):
    """A task whose memory is the sum of all clips, and which says nothing of gradients."""

    def train_step(self, model, batch, optim_step):
        raise NotImplementedError

    def predict(self, model, batch):
        raise NotImplementedError

    def predict_step(self, model, inputs, memory):
        total = inputs[0] if memory is None else inputs[0] + memory
        return model(total), total


class Plain(Sums):
    predict_step = Task.predict_step


def test_a_task_without_memory_has_gradients():
    clip = torch.ones(1, 3, requires_grad=True)
    scores, memory = Plain().differentiable_step(lambda inputs: 2 * inputs[0], [clip], None)
    scores.sum().backward()
    assert memory is None
    assert clip.grad.tolist() == [[2, 2, 2]]


def test_a_task_with_memory_has_to_say_how():
    with pytest.raises(ValueError, match="Sums has a memory.*differentiable_step"):
        Sums().differentiable_step(lambda clip: clip, [torch.ones(1, 3)], None)
