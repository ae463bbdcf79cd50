"""ASPO and DPO from data to adapter on a tiny model: their gradients, and what a run leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from sightline_trainers import aspo, rewards, runs, seva
from sightline_trainers.configuration import plain
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.pair_log_probs import Case, pair_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.rewards import RewardConfig, RewardOutageError
from sightline_trainers.segments import cut_answer
from sightline_trainers.seva import PairConfig

PAIRS = PairConfig(noise_step=999, max_new_tokens=12, generation_batch=4)
ANSWERS = [
    ("A cat is on the table. There is a red cup.", "A dog and a chair."),
    ("Two birds fly. The man holds an umbrella. A bike.", "Two blue birds fly over the man."),
    ("A person rides a bike.", "A person rides a car. The car is blue."),
    ("The chair is red. A dog is on it.", "The table is red. A cat is on it."),
]


def pair(tokenizer, row, chosen, rejected):
    def decode(some):
        return tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    chosen_ids, rejected_ids = (
        (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)
        for text in (chosen, rejected)
    )
    return seva.Pair(
        row=row,
        origin=f"row {row}",
        fate=seva.fate_of(chosen, rejected),
        chosen=chosen,
        rejected=rejected,
        chosen_ids=chosen_ids,
        rejected_ids=rejected_ids,
        chosen_offsets=decode_with_offsets(decode, chosen_ids)[1],
        noise_step=500,
        noise_seed=0,
        max_new_tokens=32,
    )


@pytest.fixture
def config(tiny_llava, pictures, tmp_path, socket_service, tokenizer):
    """Runs on answers of several sentences, which a random model hardly writes."""

    def make(name="run", **changes):
        fields = {
            "output_dir": tmp_path / name,
            "policy": PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8),
            "data": DataConfig(path=pictures),
            "reward": RewardConfig(url=socket_service.url, patience_s=60),
            "pairs": replace(PAIRS, folder=tmp_path / "pairs"),
            "learning_rate": 1e-2,
            "minibatch": 2,
            "accumulation": 2,
            "save_every": 1,
        }
        made = aspo.Config(**{**fields, **changes})
        if made.pairs.folder == tmp_path / "pairs":
            digest = seva.digest(made.pairs, made.policy, made.data, seed=made.seed)
            folder = seva.PairFolder(made.pairs.folder / digest, 0)
            if not folder.read():
                folder.add(pair(tokenizer, row, *ANSWERS[row % 4]) for row in range(8))
        return made

    return make


def steps_of(config):
    lines = (config.output_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def adapter_of(config):
    return config.output_dir / "adapter/adapter_model.safetensors"


def adapter_hash(config):
    return hashlib.sha256(adapter_of(config).read_bytes()).hexdigest()


def test_a_run_leaves_metrics_a_manifest_pairs_and_an_adapter(config, capsys):
    run = config(epochs=2, merge=True, pairs=PAIRS, accumulation=1)
    aspo.train(run)
    steps = steps_of(run)
    assert set(steps[0]) == {"step", *aspo.METRICS}
    assert steps[0]["margin"] == 0.0  # the adapter begins without effect
    assert steps[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert steps[-1]["margin"] != 0.0
    assert steps[0]["learning_rate"] == 1e-2
    assert 0 < steps[-1]["learning_rate"] < 1e-2
    manifest = json.loads((run.output_dir / "manifest.json").read_text())
    kept = manifest["pairs"]["kept"]
    assert sum(manifest["pairs"].values()) == 8
    assert len(steps) == 2 * (kept // 2)
    (lines,) = run.output_dir.glob("pairs/*/pairs-0.jsonl")
    assert len(lines.read_text().splitlines()) == 8
    assert manifest["config"] == plain(run)
    assert (run.output_dir / "merged/model.safetensors").is_file()
    assert "aspo: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "dpo"},
        {"loss": "aspo"},
        {"level": "token", "metrics": "P"},
        {"level": "response", "metrics": "S"},
        {"perplexity": "service", "normaliser": "weights"},
    ],
)
def test_the_chosen_answers_pull_ahead(config, changes):
    run = config(epochs=8, save_every=100, **changes)
    aspo.train(run)
    steps = steps_of(run)
    assert steps[-1]["margin"] > 0.05 > steps[0]["margin"]
    assert steps[-1]["accuracy"] == 1.0
    assert steps[-1]["chosen_reward"] > steps[-1]["rejected_reward"]
    assert steps[-1]["loss"] < steps[0]["loss"]
    weighs = [0 < step["weight"] < 1 for step in steps]
    assert all(weighs) if run.loss == "aspo" else not any(weighs)


@pytest.fixture
def cases(tiny_llava, pictures, tokenizer):
    """Two pairs of answers of several sentences, and a policy that has left its reference."""
    policy = load_policy(PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8), seed=1)
    torch.manual_seed(5)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    rows = read_rows(DataConfig(path=pictures, limit=2))
    pairs = [pair(tokenizer, row, *ANSWERS[row]) for row in range(2)]
    return policy, [
        Case(
            each,
            policy.prompts.encode(load_image(row)[0], row.prompt),
            cut_answer(each.chosen, each.chosen_offsets, "sentence"),
        )
        for row, each in zip(rows, pairs, strict=True)
    ]


def slow_log_prob(policy, case, ids, start, stop):
    """log P of the ids from `start` to `stop`, one forward pass without padding."""
    every = torch.tensor([ids])
    logits, _ = policy(case.prompt, every, torch.ones_like(every))
    log_p = logits[0].log_softmax(-1)
    return sum(log_p[t, ids[t]] for t in range(start, stop))


def test_sentences_add_up_to_the_answer_and_equal_a_slow_reference(cases):
    policy, both = cases
    with torch.no_grad():
        y = pair_log_probs(policy, policy, both)
        for row, case in enumerate(both):
            ids, owners = case.pair.chosen_ids, case.segments.of_token
            whole = slow_log_prob(policy, case, ids, 0, len(ids))
            assert y.logp_BK[row].sum().item() == pytest.approx(whole.item(), rel=1e-5)
            assert int(y.tokens_BK[row].sum()) == len(ids)
            for number in range(len(case.segments.pieces)):
                start, stop = owners.index(number), len(ids) - owners[::-1].index(number)
                part = slow_log_prob(policy, case, ids, start, stop).item()
                assert y.logp_BK[row, number].item() == pytest.approx(part, rel=1e-5)
                with policy.reference():
                    reference = slow_log_prob(policy, case, ids, start, stop).item()
                assert y.lr_BK[row, number].item() == pytest.approx(part - reference, abs=1e-4)
                perplexity = torch.tensor(-part / (stop - start)).exp().item()
                assert y.perplexities()[row][number] == pytest.approx(perplexity, rel=1e-4)
            rejected = case.pair.rejected_ids
            mine = slow_log_prob(policy, case, rejected, 0, len(rejected))
            with policy.reference():
                theirs = slow_log_prob(policy, case, rejected, 0, len(rejected))
            assert y.rejected_lr_B[row].item() == pytest.approx((mine - theirs).item(), abs=1e-4)
    assert [len(row) for row in y.perplexities()] == [2, 3]


def gradients(policy, both, *, weight=None):
    """The loss of a minibatch, and its gradient over all trained parameters."""
    policy.zero_grad()
    y = pair_log_probs(policy, policy, both)
    w = torch.zeros_like(y.lr_BK) if weight is None else torch.tensor(weight)
    count = (y.tokens_BK > 0).sum(1).float()
    k = aspo.normaliser(y.lr_BK, w, count, kind="ratio", level="sentence")
    margin = aspo.aspo_margin(y.lr_BK, w, k, y.rejected_lr_B, beta=0.1)
    loss = -torch.nn.functional.logsigmoid(margin).mean()
    loss.backward()
    trained = [each for name, each in policy.named_parameters() if "lora" in name]
    return loss.item(), torch.cat([each.grad.flatten() for each in trained])


def test_one_sentence_answers_give_the_gradient_of_dpo_and_several_another(cases):
    policy, both = cases
    plain, dpo = gradients(policy, both)
    single = [
        replace(case, segments=cut_answer(case.pair.chosen, case.pair.chosen_offsets, "response"))
        for case in both
    ]
    one = [list(aspo.weights([0.3], [2.0], alpha=0.5)) for _ in single]
    loss, gradient = gradients(policy, single, weight=one)
    assert loss == pytest.approx(plain, abs=1e-7)
    assert torch.allclose(gradient, dpo, atol=1e-7)
    _, gradient = gradients(policy, both, weight=[[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
    cosine = torch.nn.functional.cosine_similarity(gradient, dpo, dim=0).item()
    assert 0.5 < cosine < 0.999


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's own
def test_dpo_equals_that_of_trl_in_loss_and_gradient(cases, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # no telemetry
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    policy, both = cases
    ours, gradient = gradients(policy, both)
    kept = {name: each.detach().clone() for name, each in policy.named_parameters()}
    with torch.no_grad():  # TRL copies the adapter as it is now to be its reference
        for name, each in policy.named_parameters():
            if "lora_B" in name:
                each.zero_()
    rows = read_rows(DataConfig(path=pictures, limit=2))
    table = datasets.Dataset.from_list(
        [
            {
                "prompt": policy.prompts.render(row.prompt),
                "chosen": case.pair.chosen + "</s>",
                "rejected": case.pair.rejected + "</s>",
                "images": [load_image(row)[0]],
            }
            for row, case in zip(rows, both, strict=True)
        ]
    )
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path),
        max_length=None,
        beta=0.1,
        bf16=False,
        use_cpu=True,
        report_to=[],
        gradient_checkpointing=False,
        remove_unused_columns=False,
    )
    trainer = trl.DPOTrainer(
        model=policy.model,
        args=arguments,
        train_dataset=table,
        processing_class=policy.prompts.processor,
    )
    with torch.no_grad():
        for name, each in policy.named_parameters():
            if name in kept:
                each.copy_(kept[name])
    batch = trainer.data_collator([dict(row) for row in table])
    written = [
        batch["input_ids"][row][batch["completion_mask"][row].bool()].tolist() for row in range(4)
    ]
    assert written == [list(case.pair.chosen_ids) for case in both] + [
        list(case.pair.rejected_ids) for case in both
    ]
    policy.zero_grad()
    loss = trainer.compute_loss(policy.model, batch)
    loss.backward()
    theirs = torch.cat(
        [
            each.grad.flatten()
            for name, each in policy.named_parameters()
            if "lora" in name and each.grad is not None
        ]
    )
    assert ours == pytest.approx(loss.item(), abs=1e-6)
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(gradient, theirs, atol=1e-6)


@pytest.mark.parametrize("loss", ["aspo", "dpo"])
def test_a_stopped_and_resumed_run_ends_like_one_that_went_through(config, loss):
    whole, parts = config("whole", loss=loss), config("parts", loss=loss)
    aspo.train(whole)
    aspo.train(config("parts", loss=loss, max_steps=1))
    assert len(steps_of(parts)) == 1 < len(steps_of(whole))
    aspo.train(parts, resume=True)
    assert adapter_hash(whole) == adapter_hash(parts)
    timeless = [
        [{k: v for k, v in step.items() if k != "reward_wait_s"} for step in steps_of(run)]
        for run in (whole, parts)
    ]
    assert timeless[0] == timeless[1]


def test_weights_change_what_is_learnt_and_nothing_else(config):
    one, other = config("aspo"), config("dpo", loss="dpo")
    aspo.train(one)
    aspo.train(other)
    first, second = steps_of(one)[0], steps_of(other)[0]
    assert {name: first[name] for name in ("loss", "log_prob", "segments")} == {
        name: second[name] for name in ("loss", "log_prob", "segments")
    }
    assert first["grad_norm"] != second["grad_norm"]
    assert adapter_hash(one) != adapter_hash(other)


def test_a_lasting_outage_ends_in_an_error_and_a_checkpoint_that_resumes_to_the_same(
    config, socket_service, monkeypatch
):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.05)
    reward = RewardConfig(url=socket_service.url, patience_s=0.2, timeout_s=0.5)
    calm = config("calm", reward=reward, save_every=100, epochs=2)
    broken = config("broken", reward=reward, save_every=100, epochs=2)
    aspo.train(calm)
    updated = aspo.Trainer.update

    def update_and_stop_the_service(self, *arguments):
        found = updated(self, *arguments)
        if self.run.resumed_from is None:
            socket_service.close()
        return found

    monkeypatch.setattr(aspo.Trainer, "update", update_and_stop_the_service)
    with pytest.raises(RewardOutageError, match="--resume"):
        aspo.train(broken)
    done = len(steps_of(broken))
    assert 1 <= done < len(steps_of(calm))
    assert (broken.output_dir / f"checkpoints/step-{done:08d}").is_dir()
    socket_service.open()
    aspo.train(broken, resume=True)
    assert adapter_hash(calm) == adapter_hash(broken)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(config, monkeypatch):
    run = config(max_steps=1)
    margin = aspo.aspo_margin
    monkeypatch.setattr(aspo, "aspo_margin", lambda *a, **o: margin(*a, **o) * float("nan"))
    with pytest.raises(runs.DivergedError, match="step 1"):
        aspo.train(run)
    assert not (run.output_dir / "checkpoints").exists()


def command(config, *flags):
    path = config.output_dir.with_suffix(".yaml")
    path.write_text(json.dumps(plain(config)))  # JSON is YAML
    return [sys.executable, "-m", "sightline_trainers", "aspo", "--config", str(path), *flags]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.mark.slow
@pytest.mark.parametrize("until", ["pairs", "steps"])
def test_a_killed_and_resumed_run_gives_the_same_adapter(config, until):
    pairs = replace(PAIRS, generation_batch=1)
    changes = {"pairs": pairs, "epochs": 9, "minibatch": 1, "accumulation": 1}
    whole, killed = config("whole", **changes), config("killed", **changes)
    aspo.train(whole)
    process = subprocess.Popen(command(killed), env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 900

    def lines():
        if until == "pairs":
            files = killed.output_dir.glob("pairs/*/pairs-0.jsonl")
            return sum(path.read_bytes().count(b"\n") for path in files)
        path = killed.output_dir / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    while lines() < 3:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed.output_dir / "adapter").exists()
    subprocess.run(command(killed, "--resume"), env=environment(), check=True, timeout=900)
    assert adapter_hash(whole) == adapter_hash(killed)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(config):
    one = config("one", minibatch=4, accumulation=1, pairs=PAIRS)
    two = config("two", minibatch=2, accumulation=1, pairs=PAIRS)
    aspo.train(one)
    launched = [*command(two)]
    launched[1:3] = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", launched[2]]
    launched.insert(3, "--standalone")
    subprocess.run(launched, env=environment(), check=True, timeout=900)
    first, second = (load_file(adapter_of(run)) for run in (one, two))
    assert sum(tensor.abs().sum().item() for name, tensor in first.items() if "lora_B" in name) > 0
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-4), name
    for mine, theirs in zip(steps_of(one), steps_of(two), strict=True):
        for metric in ("loss", "margin", "weight", "log_prob", "grad_norm"):
            assert mine[metric] == pytest.approx(theirs[metric], rel=1e-3, abs=1e-5), metric
