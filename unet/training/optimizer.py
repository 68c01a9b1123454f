"""Build the optimiser, and compute its learning rate from the step alone."""

from math import cos, pi

import torch
from torch import nn

from unet.config.train import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build stochastic gradient descent with momentum (paper, section 3), or AdamW."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then constant or a half cosine to 0.

    >>> config = TrainConfig(learning_rate=1.0, steps=12, warmup_steps=2)
    >>> [round(learning_rate(step, config), 2) for step in (0, 1, 2, 7, 11)]
    [0.5, 1.0, 1.0, 0.5, 0.02]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * (1 + cos(pi * done)) / 2
