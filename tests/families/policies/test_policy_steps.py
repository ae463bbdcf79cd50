"""Each trainer on each family: a step is taken, the loss is finite and the adapter moves."""

import hashlib
import json
import math

import pytest
from safetensors.torch import load_file

from sightline import RewardClient
from sightline.testing import FakeService
from sightline_trainers import aspo, csr, fisao, rewards, svp
from sightline_trainers.beam import SearchRules
from sightline_trainers.data import DataConfig
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.projection import ProjectionConfig
from sightline_trainers.rewards import RewardConfig
from sightline_trainers.seva import PairConfig

WORDS = {"cat", "dog", "cup", "bike", "car", "chair", "umbrella", "table", "There", "."}
PLAIN = "Describe the image."
BRIEF = {"max_steps": 1, "minibatch": 1, "accumulation": 1}
RUNS = {
    "fisao": (
        fisao,
        {**BRIEF, "rollout_size": 4, "generation_batch": 2, "ppo_epochs": 1, "max_new_tokens": 12},
    ),
    "csr": (
        csr,
        {
            **BRIEF,
            "iterations": 1,
            "search": SearchRules(candidates=4, max_rounds=3, max_tokens=40),
            "max_sentence_tokens": 16,
            "search_batch": 2,
        },
    ),
    "aspo": (
        aspo,
        {
            **BRIEF,
            "pairs": PairConfig(noise_step=999, max_new_tokens=12, generation_batch=4),
        },
    ),
    "svp": (
        svp,
        {
            "projection": ProjectionConfig(
                samples=4,
                top_ratio=0.5,
                generation_batch=2,
                score_batch=2,
                sampling_prompt=PLAIN,
                grounded_prompt="{grounding}\n" + PLAIN,
                training_prompt=PLAIN,
                max_new_tokens=24,
                min_words=1,
            ),
            "images_per_step": 4,
            "max_steps": 2,
            "batch": 1,
            "minibatch": 1,
        },
    ),
}


def seen(image, text):
    """The service finds some things surely, others by chance."""
    lucky = hashlib.sha256(image + text.encode()).digest()[0] / 512
    return 0.35 if text in ("cat", "dog", "cup", "chair", "umbrella") else lucky


def speaking(config, **options):
    """A random model that can be understood: it says little but names of things."""
    policy = load_policy(config, **options)
    decode = policy.prompts.decode
    said = [n for n in range(len(policy.prompts.tokenizer)) if decode([n]).strip() in WORDS]
    ends = list(policy.end_ids)

    def voice(module, arguments, logits):
        del module, arguments
        logits = logits / logits.square().mean(-1, keepdim=True).sqrt()
        logits[..., said] += 12.0
        logits[..., ends] = logits[..., said].mean(-1, keepdim=True) + 0.5
        return logits

    policy.model.get_output_embeddings().register_forward_hook(voice)
    return policy


@pytest.mark.parametrize("method", RUNS)
def test_a_run_takes_a_step_and_the_adapter_moves(
    family, method, folder, pictures, tmp_path, monkeypatch
):
    module, changes = RUNS[method]
    service = FakeService(cosine=seen)
    monkeypatch.setattr(
        rewards, "RewardClient", lambda *_, **__: RewardClient("http://fake", transport=service)
    )
    monkeypatch.setattr(module, "load_policy", speaking)
    module.train(
        module.Config(
            output_dir=tmp_path / "run",
            policy=PolicyConfig(model=str(folder), lora_rank=2, lora_alpha=4),
            data=DataConfig(path=pictures),
            reward=RewardConfig(url="http://fake"),
            learning_rate=1e-2,
            **changes,
        )
    )
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert math.isfinite(steps[-1]["loss"])
    assert steps[-1]["grad_norm"] > 0
    adapter = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert all(each.abs().max() > 0 for name, each in adapter.items() if "lora_B" in name)
