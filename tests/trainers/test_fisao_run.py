"""FiSAO from data to adapter on a tiny model: what comes out, and that it goes the right way."""

import json

import pytest

from sightline_trainers import fisao
from sightline_trainers.data import DataConfig
from sightline_trainers.policy import PolicyConfig
from sightline_trainers.rewards import RewardConfig


@pytest.fixture
def config(tiny_llava, pictures, tmp_path, socket_service):
    def make(name="run", **changes):
        fields = {
            "output_dir": tmp_path / name,
            "policy": PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8),
            "data": DataConfig(path=pictures),
            "reward": RewardConfig(url=socket_service.url),
            "learning_rate": 1e-3,
            "rollout_size": 4,
            "generation_batch": 2,
            "minibatch": 2,
            "accumulation": 1,
            "ppo_epochs": 2,
            "max_new_tokens": 12,
            "save_every": 1,
        }
        return fisao.Config(**{**fields, **changes})

    return make


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_metrics_a_manifest_and_an_adapter(config):
    run = config()
    fisao.train(run)
    steps = read_metrics(run.output_dir)
    assert [step["step"] for step in steps] == [1, 2]
    assert set(steps[0]) == {"step", *fisao.METRICS}
    assert (run.output_dir / "adapter" / "adapter_model.safetensors").is_file()
