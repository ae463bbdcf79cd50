"""CSR from data to adapters on a tiny model that has learnt to speak."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.testing import FakeService
from sightline_core.csr import combine
from sightline_trainers import csr, pair_building, rewards, runs
from sightline_trainers.beam import SearchRules
from sightline_trainers.configuration import plain, read_config
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.journal import Journal
from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.prompts import PromptFormat
from sightline_trainers.rewards import RewardConfig, RewardOutageError

THINGS = ["A cat is on the table.", "There is a red cup.", "A person rides a bike.", "A dog."]


@pytest.fixture(scope="module")
def speaking_llava(tiny_llava, tmp_path_factory, tokenizer):
    """The tiny model after a moment of training: it says one to three sentences and ends."""
    folder = tmp_path_factory.mktemp("speaking-llava")
    shutil.copytree(tiny_llava, folder, dirs_exist_ok=True)
    model = AutoModelForImageTextToText.from_pretrained(tiny_llava)
    prompts = PromptFormat(AutoProcessor.from_pretrained(tiny_llava))
    start = tokenizer.encode(prompts.render("Describe the image."), add_special_tokens=False)
    draw = random.Random(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        texts = [" " + " ".join(draw.sample(THINGS, draw.randint(1, 3))) for _ in range(16)]
        ids = [start + tokenizer.encode(t, add_special_tokens=False) + [2] for t in texts]
        length = max(map(len, ids))
        padded = torch.tensor([[*each, *[0] * (length - len(each))] for each in ids])
        text_only = padded.masked_fill(padded == model.config.image_token_id, 0)
        logits = model(input_ids=text_only).logits
        targets = padded.clone()
        targets[:, : len(start)] = 0
        loss = cross_entropy(logits[:, :-1].transpose(1, 2), targets[:, 1:], ignore_index=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def config(speaking_llava, pictures, tmp_path, socket_service):
    def make(name="run", **changes):
        fields = {
            "output_dir": tmp_path / name,
            "policy": PolicyConfig(model=str(speaking_llava), lora_rank=4, lora_alpha=8),
            "data": DataConfig(path=pictures),
            "reward": RewardConfig(url=socket_service.url, patience_s=60),
            "learning_rate": 1e-2,
            "iterations": 2,
            "search": SearchRules(max_rounds=4, max_tokens=40),
            "max_sentence_tokens": 16,
            "search_batch": 2,
            "minibatch": 1,
            "accumulation": 2,
            "save_every": 1,
        }
        return csr.Config(**{**fields, **changes})

    return make


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(folder):
    return lines_of(folder / "metrics.jsonl")


def pairs_of(folder, iteration):
    return lines_of(folder / f"iteration-{iteration}/pairs-0.jsonl")


def adapter_hash(folder):
    return hashlib.sha256((folder / "adapter/adapter_model.safetensors").read_bytes()).hexdigest()


def test_a_run_leaves_pairs_metrics_and_an_adapter_for_each_iteration(config):
    run = config()
    csr.train(run)
    folder = run.output_dir
    steps = steps_of(folder)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["iteration"] for step in steps} == {1, 2}
    assert set(steps[0]) == {"step", *csr.METRICS}
    first_of_second = next(step for step in steps if step["iteration"] == 2)
    for step in (steps[0], first_of_second):  # the policy begins as its own reference
        assert step["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert step["chosen_reward"] == pytest.approx(0.0, abs=1e-5)
    assert steps[1]["loss"] != pytest.approx(0.693147, abs=1e-4)
    assert steps[0]["chosen_value"] > steps[0]["rejected_value"]
    adapters = [load_file(folder / f"{where}adapter/adapter_model.safetensors")
                for where in ("iteration-1/", "iteration-2/", "")]  # fmt: skip
    assert all(torch.equal(adapters[1][name], adapters[2][name]) for name in adapters[1])
    assert any(not torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["method"] == "csr"
    assert manifest["config"] == plain(run)
    assert manifest["service"]["models"][0]["model"]["id"] == "fake"


def test_every_score_in_the_journal_can_be_computed_again(config, socket_service, tmp_path):
    run = config(iterations=1, max_steps=1)
    csr.train(run)
    records = pairs_of(run.output_dir, 1)
    rows = read_rows(run.data)
    assert [record["row"] for record in records] == list(range(8))
    kept = [record for record in records if record["dropped"] is None]
    assert len(kept) >= 4
    for record in records:
        _, image = load_image(rows[record["row"]])
        nodes = record["nodes"]
        for node in nodes:
            cosine = fake_cosine(socket_service.fake, image, node["text"])
            assert node["image"] == pytest.approx(max(100 * cosine, 0))
        for parent in {node["parent"] for node in nodes}:
            family = [node for node in nodes if node["parent"] == parent]
            scores = combine([n["language"] for n in family], [n["image"] for n in family])
            assert [node["score"] for node in family] == pytest.approx(scores)
    for record in kept:
        values = {each["node"]: each["value"] for each in record["finished"]}
        assert record["chosen"]["value"] == max(values.values())
        assert record["rejected"]["value"] == min(values.values())
        for side in ("chosen", "rejected"):
            path, number = [], record[side]["node"]
            while number is not None:
                path.insert(0, record["nodes"][number])
                number = path[0]["parent"]
            assert record[side]["ids"] == [token for node in path for token in node["ids"]]


def fake_cosine(fake, image, text):
    return fake._cosine(image, text)


def policy_with(run, adapter=None):
    policy = load_policy(run.policy, seed=run.seed).eval()
    if adapter is not None:
        weights = load_file(adapter / "adapter_model.safetensors")
        found = set_peft_model_state_dict(policy.model, weights)
        assert not found.unexpected_keys
    return policy


def test_the_reference_of_an_iteration_is_the_policy_that_the_last_one_left(config):
    run = config()
    csr.train(run)
    base, after_first = policy_with(run), policy_with(run, run.output_dir / "iteration-1/adapter")
    assert_references(run, 1, base)
    assert_references(run, 2, after_first)
    with pytest.raises(AssertionError):
        assert_references(run, 2, base)


@torch.no_grad()
def assert_references(run, iteration, policy):
    rows = read_rows(run.data)
    for record in pairs_of(run.output_dir, iteration):
        if record["dropped"] is None:
            row = rows[record["row"]]
            prompt = policy.prompts.encode(load_image(row)[0], row.prompt)
            for side in ("chosen", "rejected"):
                found = completion_log_probs(policy, [prompt], [record[side]["ids"]]).item()
                assert record[side]["reference"] == pytest.approx(found, abs=1e-3)


def test_an_iteration_makes_what_the_service_likes_more_likely(config, socket_service):
    socket_service.fake = FakeService(cosine=lambda image, text: 0.3 if "cat" in text else 0.1)
    run = config(iterations=2, epochs=4, learning_rate=3e-3, beta=0.5)
    csr.train(run)
    firsts = [step for step in steps_of(run.output_dir) if "pairs" in step]
    assert len(firsts) == 2
    assert firsts[0]["chosen_image"] > firsts[0]["rejected_image"]
    means = []
    for iteration in (1, 2):
        nodes = [n for r in pairs_of(run.output_dir, iteration) for n in r["nodes"]]
        opening = [node["image"] for node in nodes if node["parent"] is None]
        means.append(sum(opening) / len(opening))
    assert means[1] > means[0]


def test_each_image_is_sent_once(config, socket_service):
    run = config(iterations=1, max_steps=1)
    csr.train(run)
    rows = read_rows(run.data)
    requests = socket_service.fake.requests
    asked = [each.content for each in requests if each.url.path.endswith("/sentence_reward")]
    uploaded = [each.content for each in requests if each.method == "PUT"]
    assert len(asked) > len(rows)
    for row in rows:
        _, data = load_image(row)
        assert sum(data in body for body in asked) == 1
        assert uploaded.count(data) <= 1  # this service forgets what came with a question


@pytest.mark.parametrize(("weight", "side"), [(0.0, "language"), (1.0, "image")])
def test_with_one_reward_alone_the_other_has_no_say(config, weight, side):
    run = config(iterations=1, max_steps=1, search=SearchRules(weight=weight, max_rounds=4))
    csr.train(run)
    for record in pairs_of(run.output_dir, 1):
        for node in record["nodes"]:
            assert node["score"] == node[f"{side}_scaled"]


@pytest.mark.parametrize("changes", [{}, {"preference": "judge"}])
def test_a_stopped_and_resumed_run_ends_like_one_that_went_through(config, changes):
    whole, parts = config("whole", **changes), config("parts", **changes)
    csr.train(whole)
    n_first = sum(step["iteration"] == 1 for step in steps_of(whole.output_dir))
    n_all = len(steps_of(whole.output_dir))
    assert 1 < n_first < n_all
    csr.train(config("parts", max_steps=n_first, **changes))  # between two iterations
    csr.train(config("parts", max_steps=n_first + 1, **changes), resume=True)  # within the second
    csr.train(parts, resume=True)
    assert_equal_runs(whole, parts)


def assert_equal_runs(first, second):
    folders = first.output_dir, second.output_dir
    assert adapter_hash(folders[0]) == adapter_hash(folders[1])
    for iteration in range(1, first.iterations + 1):
        assert pairs_of(folders[0], iteration) == pairs_of(folders[1], iteration)
    timeless = [
        [{k: v for k, v in step.items() if k not in ("reward_wait_s", "search_s")} for step in each]
        for each in map(steps_of, folders)
    ]
    assert timeless[0] == timeless[1]


def test_the_judge_makes_pairs_without_the_service(config, socket_service):
    run = config(iterations=1, preference="judge", max_steps=1)
    csr.train(run)
    paths = {request.url.path for request in socket_service.fake.requests}
    assert paths == {"/v1/info"}
    records = pairs_of(run.output_dir, 1)
    for record in records:
        first, second = record["samples"]
        assert first["value"] == -second["value"]
        if record["dropped"] is None:
            assert record["chosen"]["value"] > 0
            assert record["chosen"]["text"] != record["rejected"]["text"]
    assert any(record["dropped"] is None for record in records)


def test_an_outage_in_a_search_keeps_the_groups_that_are_done_and_resumes_to_the_same(
    config, socket_service, monkeypatch
):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.05)
    reward = RewardConfig(url=socket_service.url, patience_s=0.2, timeout_s=0.5)
    changes = {"reward": reward, "iterations": 1, "max_steps": 1}
    calm, broken = config("calm", **changes), config("broken", **changes)
    csr.train(calm)
    appended = Journal.append

    def append_and_stop_the_service(self, records):
        appended(self, records)
        if broken.output_dir in self._path.parents:
            monkeypatch.setattr(Journal, "append", appended)
            socket_service.close()

    monkeypatch.setattr(Journal, "append", append_and_stop_the_service)
    with pytest.raises(RewardOutageError, match="--resume"):
        csr.train(broken)
    journal = broken.output_dir / "iteration-1/pairs-0.jsonl"
    assert len(lines_of(journal)) == 4
    with journal.open("a") as file:  # as a kill in the middle of a group would leave it
        file.write(json.dumps({"row": 4, "dropped": "equal"}) + '\n{"row": 5, "dro')
    socket_service.open()
    csr.train(broken, resume=True)
    assert_equal_runs(calm, broken)


def test_a_run_with_another_search_does_not_go_on_with_these_pairs(config):
    csr.train(config(max_steps=1))
    with pytest.raises(runs.RunStateError, match="another configuration"):
        csr.train(config(search=SearchRules(weight=0.5, max_rounds=4)), resume=True)


def test_too_few_pairs_are_an_error_that_says_what_to_do(config):
    search = SearchRules(max_rounds=1, min_margin=100.0)
    with pytest.raises(ValueError, match=r"iteration 1 gave 0 pairs of 8 rows.*higher temperature"):
        csr.train(config(search=search))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(config, monkeypatch):
    original = csr.dpo_loss

    def broken(*arguments, **options):
        loss, metrics = original(*arguments, **options)
        return loss * float("nan"), metrics

    stepped = []
    monkeypatch.setattr(csr, "dpo_loss", broken)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: stepped.append(1))
    with pytest.raises(runs.DivergedError, match="step 1"):
        csr.train(config())
    assert not stepped


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": SearchRules(top=0)}, "top is 0"),
        ({"search": SearchRules(weight=1.5)}, "weight is 1.5"),
        ({"beta": 0.0}, "beta is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"warmup": 2.0}, "warmup is 2"),
    ],
)
def test_impossible_values_are_refused_by_name(config, changes, said):
    with pytest.raises(ValueError, match=said):
        config(**changes)


def test_jobs_take_turns_while_their_questions_are_answered():
    order = []

    def job(name, n_questions):
        total = 0
        for number in range(n_questions):
            order.append(f"{name}{number}")
            total += yield number
        return total

    class Answer:
        def __init__(self, value):
            self.value = value

    made = pair_building.interleaved(
        [job("a", 3), job("b", 1)],
        [lambda n: Answer(10 + n), lambda n: Answer(20 + n)],
        lambda answer: answer.value,
    )
    assert made == [33, 20]
    assert order == ["a0", "b0", "a1", "a2"]


def command(config, *flags):
    path = config.output_dir.with_suffix(".yaml")
    path.write_text(json.dumps(plain(config)))  # JSON is YAML
    return [sys.executable, "-m", "sightline_trainers", "csr", "--config", str(path), *flags]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_gives_the_same_adapter(config):
    whole, killed = config("whole"), config("killed")
    csr.train(whole)
    started = time.monotonic()
    journal = killed.output_dir / "iteration-1/pairs-0.jsonl"
    process = subprocess.Popen(command(killed), env=environment(), stderr=subprocess.PIPE)
    while not journal.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < started + 120
        time.sleep(0.01)
    time.sleep(random.Random(time.time()).uniform(0, 2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    subprocess.run(command(killed, "--resume"), env=environment(), check=True, timeout=900)
    assert_equal_runs(whole, killed)


@pytest.mark.slow
def test_two_processes_find_the_same_pairs_and_learn_what_one_does(config):
    one, two = config("one", accumulation=2), config("two", accumulation=1)
    csr.train(one)
    launched = [*command(two)]
    launched[1:3] = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", launched[2]]
    launched.insert(3, "--standalone")
    subprocess.run(launched, env=environment(), check=True, timeout=900)
    theirs = [
        record
        for rank in (0, 1)
        for record in lines_of(two.output_dir / f"iteration-1/pairs-{rank}.jsonl")
    ]
    theirs.sort(key=lambda record: record["row"])
    for mine, other in zip(pairs_of(one.output_dir, 1), theirs, strict=True):
        assert mine["dropped"] == other["dropped"]
        if mine["dropped"] is None:
            assert mine["chosen"]["ids"] == other["chosen"]["ids"]
            assert mine["rejected"]["ids"] == other["rejected"]["ids"]
    first, second = (
        load_file(run.output_dir / "iteration-1/adapter/adapter_model.safetensors")
        for run in (one, two)
    )
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-4), name


@pytest.mark.parametrize("name", ["world_csr", "llava15_7b_csr", "llava15_13b_csr"])
def test_the_recipes_can_be_read(name):
    recipe = Path(csr.__file__).parent / f"recipes/{name}.yaml"
    config = read_config(csr.Config, recipe, ["--search.weight", "0"])
    assert config.iterations == 3
    assert config.search.weight == 0.0
