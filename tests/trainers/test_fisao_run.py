"""FiSAO from data to adapter on a tiny model: what a run leaves, and that it survives anything."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file

from sightline.testing import FakeService
from sightline_trainers import fisao, rewards, runs
from sightline_trainers.configuration import plain
from sightline_trainers.data import DataConfig
from sightline_trainers.policy import PolicyConfig
from sightline_trainers.rewards import RewardConfig, RewardOutageError
from sightline_trainers.train_command import main


@pytest.fixture
def config(tiny_llava, pictures, tmp_path, socket_service):
    def make(name="run", **changes):
        fields = {
            "output_dir": tmp_path / name,
            "policy": PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8),
            "data": DataConfig(path=pictures),
            "reward": RewardConfig(url=socket_service.url, patience_s=60),
            "learning_rate": 1e-2,
            "rollout_size": 4,
            "generation_batch": 2,
            "minibatch": 2,
            "accumulation": 1,
            "ppo_epochs": 2,
            "max_new_tokens": 12,
            "kl_scope": "all",
            "save_every": 1,
        }
        return fisao.Config(**{**fields, **changes})

    return make


def steps_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def adapter_hash(folder):
    return hashlib.sha256((folder / "adapter/adapter_model.safetensors").read_bytes()).hexdigest()


def test_a_run_leaves_metrics_a_manifest_and_an_adapter(config, capsys):
    run = config(epochs=2, merge=True)
    fisao.train(run)
    steps = steps_of(run.output_dir)
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert set(steps[0]) == {"step", *fisao.METRICS}
    assert steps[0]["kl"] == 0.0  # the adapter begins without effect
    assert steps[-1]["kl"] != 0.0
    manifest = json.loads((run.output_dir / "manifest.json").read_text())
    assert manifest["service"]["models"][0]["model"]["id"] == "fake"
    assert manifest["config"] == plain(run)
    assert {"torch", "transformers", "sightline"} <= set(manifest["versions"])
    assert (run.output_dir / "merged/model.safetensors").is_file()
    assert "waiting for rewards" in capsys.readouterr().out
    page = (run.output_dir / "report.html").read_text()
    assert "FiSAO: 4 steps on 8 images" in page
    assert "Step 1: sampled responses" in page


def test_a_folder_with_a_run_is_not_begun_anew(config):
    run = config(max_steps=1)
    fisao.train(run)
    with pytest.raises(runs.RunStateError, match="--resume"):
        fisao.train(run)


def test_a_run_is_not_resumed_with_another_configuration(config):
    fisao.train(config(max_steps=1))
    with pytest.raises(runs.RunStateError, match="another configuration"):
        fisao.train(config(clip=0.1), resume=True)


@pytest.mark.parametrize("changes", [{}, {"advantage": "gae"}])
def test_a_stopped_and_resumed_run_ends_like_one_that_went_through(config, changes):
    whole, parts = config("whole", **changes), config("parts", **changes)
    fisao.train(whole)
    fisao.train(config("parts", max_steps=1, **changes))
    fisao.train(parts, resume=True)
    assert adapter_hash(whole.output_dir) == adapter_hash(parts.output_dir)
    timeless = [
        [{k: v for k, v in step.items() if k != "reward_wait_s"} for step in steps_of(folder)]
        for folder in (whole.output_dir, parts.output_dir)
    ]
    assert timeless[0] == timeless[1]


def command(config, *flags):
    path = config.output_dir.with_suffix(".yaml")
    path.write_text(json.dumps(plain(config)))  # JSON is YAML
    return [sys.executable, "-m", "sightline_trainers", "fisao", "--config", str(path), *flags]


def launched(n_processes, words):
    """The command in several processes, as the shipped configuration has them."""
    ddp = str(files("sightline_trainers") / "accelerate/ddp.yaml")
    launch = ["-m", "accelerate.commands.launch", "--config_file", ddp]
    return [words[0], *launch, "--num_processes", str(n_processes), *words[1:]]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_gives_the_same_adapter(config):
    whole, killed = config("whole", epochs=3), config("killed", epochs=3)
    fisao.train(whole)
    metrics = killed.output_dir / "metrics.jsonl"
    process = subprocess.Popen(command(killed), env=environment(), stderr=subprocess.PIPE)
    wanted = random.Random(time.time()).randint(1, 4)
    deadline = time.monotonic() + 900
    while not metrics.exists() or metrics.read_text().count("\n") < wanted:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed.output_dir / "adapter").exists()
    subprocess.run(command(killed, "--resume"), env=environment(), check=True, timeout=900)
    assert adapter_hash(whole.output_dir) == adapter_hash(killed.output_dir)
    assert [step["step"] for step in steps_of(killed.output_dir)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(config):
    common = {"accumulation": 1, "generation_batch": 4, "merge": True}
    one = config("one", rollout_size=4, minibatch=4, **common)
    two = config("two", rollout_size=2, minibatch=2, **common)
    fisao.train(one)
    subprocess.run(launched(2, command(two)), env=environment(), check=True, timeout=900)
    first, second = (
        load_file(run.output_dir / "adapter/adapter_model.safetensors") for run in (one, two)
    )
    moved = sum(tensor.abs().sum().item() for name, tensor in first.items() if "lora_B" in name)
    assert moved > 0
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-4), name
    merged = [load_file(run.output_dir / "merged/model.safetensors") for run in (one, two)]
    assert all(torch.allclose(merged[0][name], merged[1][name], atol=1e-3) for name in merged[0])
    for mine, theirs in zip(steps_of(one.output_dir), steps_of(two.output_dir), strict=True):
        for metric in ("reward", "tokens", "graded", "entropy"):
            assert mine[metric] == pytest.approx(theirs[metric], rel=1e-4, abs=1e-6), metric


def test_a_restart_of_the_service_pauses_the_run_and_changes_nothing(
    config, socket_service, monkeypatch, capfd
):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.2)
    monkeypatch.setattr(rewards, "_LONGEST_DELAY_S", 0.2)
    reward = RewardConfig(url=socket_service.url, patience_s=60, timeout_s=1)
    calm, disturbed = config("calm", reward=reward), config("disturbed", reward=reward)
    fisao.train(calm)
    saved = runs.Run.save

    def save_and_stop_the_service(self, *arguments):
        saved(self, *arguments)
        if self.config.output_dir == disturbed.output_dir:
            monkeypatch.setattr(runs.Run, "save", saved)
            socket_service.close()
            threading.Timer(3.0, socket_service.open).start()

    monkeypatch.setattr(runs.Run, "save", save_and_stop_the_service)
    fisao.train(disturbed)
    said = capfd.readouterr().err
    assert "does not answer" in said
    assert "is back after" in said
    assert adapter_hash(calm.output_dir) == adapter_hash(disturbed.output_dir)
    assert max(step["reward_wait_s"] for step in steps_of(disturbed.output_dir)) > 1


def test_a_lasting_outage_ends_in_an_error_and_a_checkpoint_that_resumes_to_the_same(
    config, socket_service, monkeypatch
):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.05)
    reward = RewardConfig(url=socket_service.url, patience_s=0.2, timeout_s=0.5)
    calm = config("calm", reward=reward, save_every=100)
    broken = config("broken", reward=reward, save_every=100)
    fisao.train(calm)
    collected = fisao.Trainer.update

    def update_and_stop_the_service(self, rollout):
        found = collected(self, rollout)
        if self.run.resumed_from is None:
            socket_service.close()
        return found

    monkeypatch.setattr(fisao.Trainer, "update", update_and_stop_the_service)
    with pytest.raises(RewardOutageError, match="--resume"):
        fisao.train(broken)
    assert [step["step"] for step in steps_of(broken.output_dir)] == [1]
    assert (broken.output_dir / "checkpoints/step-00000001").is_dir()
    socket_service.open()
    fisao.train(broken, resume=True)
    assert adapter_hash(calm.output_dir) == adapter_hash(broken.output_dir)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(config, monkeypatch):
    run = config(max_steps=1)
    original = fisao.ppo_loss

    def broken(*arguments, **options):
        loss, metrics = original(*arguments, **options)
        return loss * float("nan"), metrics

    stepped = []
    monkeypatch.setattr(fisao, "ppo_loss", broken)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: stepped.append(1))
    with pytest.raises(runs.DivergedError, match="step 1"):
        fisao.train(run)
    assert not stepped
    assert not (run.output_dir / "checkpoints").exists()


@pytest.fixture
def many_pictures(pictures):
    path = pictures.with_name("many.jsonl")
    path.write_text(pictures.read_text() * 8)
    return DataConfig(path=path)


def test_the_reward_goes_up(config, socket_service, many_pictures):
    """The service likes cats and nothing else: the policy comes to name more of them."""
    socket_service.fake = FakeService(cosine=lambda _, text: 0.34 if "cat" in text else 0.20)
    run = config(
        data=many_pictures,
        rollout_size=64,
        generation_batch=32,
        minibatch=16,
        epochs=12,
        learning_rate=2e-2,
        kl_coefficient=0.0,
        save_every=100,
    )
    fisao.train(run)
    rewards_of_steps = [step["reward"] for step in steps_of(run.output_dir)]
    assert sum(rewards_of_steps[-3:]) > 2 * sum(rewards_of_steps[:3])


@pytest.mark.parametrize("level", ["sentence", "response"])
def test_the_coarse_baselines_run_in_the_same_loop(config, level):
    run = config(reward_level=level)
    fisao.train(run)
    steps = steps_of(run.output_dir)
    assert all(step["graded"] >= 1 for step in steps)
    assert level == "sentence" or all(step["graded"] == 1 for step in steps)
    assert any(step["supported"] > 0 for step in steps)
    assert all(abs(step["reward"]) <= step["graded"] for step in steps)


def test_a_wrong_configuration_is_one_line_on_stderr(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("output_dir: out\ndata: {format: world, limit: 8}\nlr: 1\n")
    assert main(["fisao", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unknown field lr" in said


def test_the_fields_of_a_method_can_be_listed(capsys):
    assert main(["fisao", "--fields"]) == 0
    assert "--ppo_epochs (default: 4)" in capsys.readouterr().out
