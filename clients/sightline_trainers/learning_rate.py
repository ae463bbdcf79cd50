"""How a learning rate rises and falls over a run. Knows numbers alone."""

import math


def warm_cosine(step: int, n_steps: int, *, warmup: float = 0.0) -> float:
    """The share of the peak at step 0, 1, ..: a linear rise over a share of the steps, then half
    a cosine that would reach 0 after the last.

    It follows from the step alone, so that a resumed run needs no scheduler's state.
    """
    n_rising = math.ceil(warmup * n_steps)
    if step < n_rising:
        return (step + 1) / n_rising
    return 0.5 * (1 + math.cos(math.pi * (step - n_rising) / (n_steps - n_rising)))
