"""What a user of the chart brings for tests that run it. Knows values; knows no helm."""

from typing import Any

SECRETS = {"sightline-keys": {"api-keys": "old-key\nnew-key\n", "client-key": "new-key"}}
AUTH = {"existingSecret": "sightline-keys"}
RUN: dict[str, Any] = {
    "policy": {"model": "world", "lora_rank": 2, "lora_alpha": 4},
    "data": {"format": "world", "limit": 4},
    "rollout_size": 2,
    "generation_batch": 2,
    "minibatch": 2,
    "accumulation": 1,
    "ppo_epochs": 1,
    "max_new_tokens": 8,
    "max_steps": 1,
    "save_every": 1,
}
"""A run of FiSAO that takes one step."""
