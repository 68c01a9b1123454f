"""Average the weights of a training: an exponential moving average, which is validated and saved in their place.

The weights of single steps scatter around a minimum of the loss. Their average lies closer to it (Polyak and Juditsky
1992, doi:10.1137/0330046), and needs no step more.

```
average <- d average + (1 - d) weights,    d = min(decay, (1 + t) / (10 + t)) after step t = 1, 2, ...
```

With a constant decay, the average would hold a share of the initial weights for thousands of steps. The ramp forgets
them at once, and reaches a decay of 0.999 after 9,000 steps.

Mean and variance of batch normalisation are averaged with the same decay. Those that the model keeps describe the
activations of its latest weights. Between weights and statistics of different steps there would be a mismatch that
neither has alone. Counters are taken as they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of a model's weights and of its statistics of batch normalisation.

    Parameters
    ----------
    model : nn.Module
        The model as it is trained. The average starts with its weights.
    decay : float
        Largest share of the average that a step keeps, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._model = model
        self.tensors: dict[str, Tensor] = {key: value.detach().clone() for key, value in model.state_dict().items()}
        """The average by the names of the model's `state_dict`."""

    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, counted from 1."""
        weight, latest = 1 - decay_of_step(step, self.decay), self._model.state_dict()
        averaged = [key for key, value in latest.items() if value.is_floating_point()]
        with torch.no_grad():  # one call for all tensors: on a GPU each call takes longer than its arithmetic
            torch._foreach_lerp_([self.tensors[key] for key in averaged], [latest[key] for key in averaged], weight)
            for key in latest.keys() - averaged:
                self.tensors[key].copy_(latest[key])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the average by the average of a saved state."""
        for key, value in self.tensors.items():
            value.copy_(tensors[key])

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the average into the model within this context; afterwards the model has its own weights, bit for bit."""
        own = {key: value.detach().clone() for key, value in self._model.state_dict().items()}
        self._model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self._model.load_state_dict(own)


def decay_of_step(step: int, decay: float) -> float:
    """Return the decay after a step, counted from 1.

    >>> [round(decay_of_step(step, 0.999), 4) for step in (1, 90, 8981, 20_000)]
    [0.1818, 0.91, 0.999, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))
