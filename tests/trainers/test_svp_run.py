"""SVP from images to adapter on a tiny model that names objects: files, ablations, kills."""
# ruff: noqa: N806 - a tensor's name ends in its shape

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import groupby

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from sightline.testing import FakeService
from sightline_trainers import rewards, svp
from sightline_trainers.configuration import plain
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.logprobs import padded, token_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.projection import ProjectionConfig
from sightline_trainers.prompts import PromptFormat, collate
from sightline_trainers.rewards import RewardConfig, RewardOutageError

OBJECTS = ("cat", "dog", "cup", "bike", "car", "chair", "umbrella", "table")
PLAIN, GROUNDED = "Describe the image.", "{grounding}\nDescribe the image."


@pytest.fixture(scope="session")
def speaking_llava(tiny_llava, tmp_path_factory):
    """The tiny LLaVA after some lessons: it names objects at random and ends its sentences."""
    folder = tmp_path_factory.mktemp("speaking-llava")
    model = LlavaForConditionalGeneration.from_pretrained(tiny_llava)
    processor = AutoProcessor.from_pretrained(tiny_llava)
    prompts, draw, cpu = PromptFormat(processor), random.Random(0), torch.device("cpu")
    grey = PIL.Image.new("RGB", (40, 30), "grey")
    question = collate([prompts.encode(grey, PLAIN)] * 16, prompts.pad_id, cpu)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        texts = [
            " There is a {} and a {} on the {}.".format(*draw.sample(OBJECTS, 3)) for _ in range(16)
        ]
        rows = [processor.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        ids_BT, mask_BT = padded([[*row, 2] for row in rows], 0, cpu)
        logits = model(
            input_ids=torch.cat([question["input_ids"], ids_BT], 1),
            attention_mask=torch.cat([question["attention_mask"], mask_BT], 1),
            pixel_values=question["pixel_values"],
        ).logits[:, -(ids_BT.shape[1] + 1) : -1]
        loss = -(token_log_probs(logits, ids_BT) * mask_BT).sum() / mask_BT.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def seen(image, text):
    """The service finds cats and dogs surely, other things by chance."""
    lucky = hashlib.sha256(image + text.encode()).digest()[0] / 512
    return 0.35 if text in ("cat", "dog") else lucky


@pytest.fixture
def config(speaking_llava, pictures, tmp_path, socket_service):
    socket_service.fake = FakeService(cosine=seen)

    def make(name="run", *, projection=(), **changes):
        sampling = {
            "samples": 4,
            "top_ratio": 0.5,
            "generation_batch": 2,
            "sampling_prompt": PLAIN,
            "grounded_prompt": GROUNDED,
            "training_prompt": PLAIN,
            "max_new_tokens": 24,
            "min_words": 3,
            "head_chunk": 8,
        }
        fields = {
            "output_dir": tmp_path / name,
            "policy": PolicyConfig(model=str(speaking_llava), lora_rank=4, lora_alpha=8),
            "data": DataConfig(path=pictures),
            "reward": RewardConfig(url=socket_service.url, patience_s=60),
            "projection": ProjectionConfig(**{**sampling, **dict(projection)}),
            "learning_rate": 1e-2,
            "images_per_step": 4,
            "batch": 4,
            "minibatch": 2,
            "save_every": 1,
        }
        return svp.Config(**{**fields, **changes})

    return make


def steps_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(folder):
    return [{k: v for k, v in each.items() if k != "reward_wait_s"} for each in steps_of(folder)]


def adapter_hash(folder):
    return hashlib.sha256((folder / "adapter/adapter_model.safetensors").read_bytes()).hexdigest()


def candidates_of(folder, iteration=1):
    paths = sorted((folder / f"candidates/iteration-{iteration}").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().split("\n") if line]


def test_a_run_leaves_every_candidate_with_its_scores_and_learns_the_best(config, capsys):
    run = config()
    svp.train(run)
    found = candidates_of(run.output_dir)
    assert len(found) == 8 * 4
    guided = [each for each in found if each["context"]]
    assert guided
    assert all(each["S"] > 0 and each["n_tokens"] == len(each["ids"]) for each in guided)
    assert all(each["draft"] and each["prompt"] == PLAIN for each in found)
    for place in range(8):
        of_image = [each for each in found if each["place"] == place]
        chosen = [each["S"] for each in of_image if each["outcome"] == "chosen"]
        passed = [each["S"] for each in of_image if each["outcome"] == "rank"]
        assert len(chosen) <= 2
        assert not passed or len(chosen) == 2
        assert min(chosen, default=0) >= max(passed, default=0)
    steps = steps_of(run.output_dir)
    n_chosen = sum(each["outcome"] == "chosen" for each in found)
    assert sum("loss" in step for step in steps) == n_chosen // 4 > 0
    assert set().union(*steps) == {"step", *svp.METRICS}
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["S_chosen"] >= steps[0]["S"]
    assert (run.output_dir / "adapter/adapter_model.safetensors").is_file()
    assert "waiting for rewards" in capsys.readouterr().out


def test_the_grounded_question_shows_what_was_found_of_the_draft_alone(config):
    run = config(max_steps=1)
    svp.train(run)
    for each in candidates_of(run.output_dir):
        lines = each["context"].splitlines()
        assert all(line.split(" [")[0] in each["draft"] for line in lines)
        assert len(lines) >= ("cat" in each["draft"]) + ("dog" in each["draft"])


def test_each_image_is_sent_once_however_many_samples_it_has(config, socket_service, pictures):
    svp.train(config(iterations=2))
    bodies = [request.content for request in socket_service.fake.requests]
    for row in read_rows(DataConfig(path=pictures)):
        data = load_image(row)[1]
        assert sum(body.count(data) for body in bodies) == 1
    asked = [r for r in socket_service.fake.requests if r.url.path.endswith("/ground")]
    assert len(asked) == 2 * 8 / 2  # one request per generated batch


def test_the_loss_is_that_of_the_answer_alone_under_the_plain_question(config):
    run = config(projection={"grounded_prompt": "SECRET {grounding}"}, learning_rate=1e-8)
    svp.train(run)
    found = candidates_of(run.output_dir)
    chosen = [each for each in found if each["outcome"] == "chosen"]
    chosen.sort(key=lambda each: (each["place"], each["sample"]))
    order = svp.shuffled(len(chosen), 0, 0, 0)
    mine = [chosen[place] for place in order[:4]]
    policy = load_policy(run.policy, seed=0)
    rows = read_rows(run.data)
    total, count = 0.0, 0
    for each in mine:
        prompt = policy.prompts.encode(load_image(rows[each["row"]])[0], PLAIN)
        ids = torch.tensor([each["ids"]])
        labels = torch.cat([torch.full_like(prompt["input_ids"], -100), ids], 1)
        with torch.no_grad():  # transformers' own loss, which TRL's SFTTrainer takes too
            output = policy.model(
                input_ids=torch.cat([prompt["input_ids"], ids], 1),
                attention_mask=torch.cat([prompt["attention_mask"], torch.ones_like(ids)], 1),
                pixel_values=prompt["pixel_values"],
                labels=labels,
            )
        total += output.loss.item() * len(each["ids"])
        count += len(each["ids"])
        assert each["ids"][-1] in policy.end_ids
    first = next(step for step in steps_of(run.output_dir) if "loss" in step)
    assert first["loss"] == pytest.approx(total / count, rel=1e-5)


def test_what_was_chosen_becomes_likelier(config):
    run = config(epochs=6, images_per_step=8, learning_rate=3e-2)
    svp.train(run)
    losses = [step["loss"] for step in steps_of(run.output_dir) if "loss" in step]
    third = len(losses) // 3
    assert sum(losses[-third:]) < 0.8 * sum(losses[:third])


def test_without_grounding_the_drafts_are_learned_and_nothing_is_asked(config, socket_service):
    run = config(projection={"grounding": False, "select": "random"})
    svp.train(run)
    found = candidates_of(run.output_dir)
    assert all(each["text"] == each["draft"] and not each["context"] for each in found)
    chosen = [each["sample"] for each in found if each["outcome"] == "chosen"]
    assert len(set(chosen)) > 2  # not always the first
    assert not [r for r in socket_service.fake.requests if r.url.path.endswith("/ground")]


def test_without_scoring_the_choice_is_by_lot_among_the_same_candidates(config):
    scored, drawn = config("scored"), config("drawn", projection={"select": "random"})
    svp.train(replace(scored, max_steps=2))
    svp.train(replace(drawn, max_steps=2))
    mine, theirs = candidates_of(scored.output_dir), candidates_of(drawn.output_dir)
    assert [each["text"] for each in mine] == [each["text"] for each in theirs]
    assert [each["outcome"] for each in mine] != [each["outcome"] for each in theirs]
    assert sum(each["outcome"] == "chosen" for each in mine) == sum(
        each["outcome"] == "chosen" for each in theirs
    )


@pytest.mark.parametrize("queries", ["rows", "objects"])
def test_visual_queries_are_as_many_as_chosen_descriptions_of_their_image(config, queries):
    run = config(projection={"queries": queries})
    svp.train(run)
    found = candidates_of(run.output_dir)
    prompts = {row.prompt for row in read_rows(run.data)}
    for place in range(8):
        of_image = [each for each in found if each["place"] == place]
        asked = [each for each in of_image if each["kind"] == "query"]
        chosen = [each for each in of_image if each["kind"] != "query"]
        chosen = [each for each in chosen if each["outcome"] == "chosen"]
        assert len(asked) == len(chosen)
        for each in asked:
            wanted = (
                each["prompt"] in prompts if queries == "rows" else "Is there" in each["prompt"]
            )
            assert wanted


def test_the_best_guided_answers_can_be_had_without_training(config):
    run = config(inference_only=True)
    svp.train(run)
    path = run.output_dir / "answers.jsonl"
    answers = [json.loads(line) for line in path.read_text().splitlines()]
    found = candidates_of(run.output_dir)
    assert len(answers) == 8
    for answer in answers:
        of_image = [each for each in found if each["origin"] == answer["origin"]]
        best = max(
            (each for each in of_image if each["outcome"] == "chosen"),
            key=lambda each: each["S"],
            default=None,
        )
        assert answer["answer"] == (of_image[0]["draft"] if best is None else best["text"])
    assert not (run.output_dir / "adapter").exists()


def test_images_that_would_get_no_answer_are_refused(config):
    with pytest.raises(ValueError, match="images_per_step"):
        svp.train(config(inference_only=True, images_per_step=3))


def test_a_run_of_two_iterations_that_stops_anywhere_ends_like_one_that_went_through(config):
    changes = {"iterations": 2, "save_every": 2, "projection": {"queries": "objects"}}
    whole, parts = config("whole", **changes), config("parts", **changes)
    svp.train(whole)
    steps = steps_of(whole.output_dir)
    for stop in (1, 4, 4, len(steps) - 3):  # sampling, learning, and both in the second iteration
        svp.train(replace(parts, max_steps=stop), resume=stop > 1)
        assert len(steps_of(parts.output_dir)) == stop
    svp.train(parts, resume=True)
    assert adapter_hash(whole.output_dir) == adapter_hash(parts.output_dir)
    assert timeless(whole.output_dir) == timeless(parts.output_dir)
    found = [candidates_of(whole.output_dir, iteration) for iteration in (1, 2)]
    assert found == [candidates_of(parts.output_dir, iteration) for iteration in (1, 2)]
    assert {each["place"] for each in found[0]} == set(range(8))
    assert {each["place"] for each in found[1]} == set(range(8, 16))
    sampling, *updates = [
        [step.get("learning_rate") for step in phase]
        for _, phase in groupby(steps, key=lambda step: "loss" in step)
    ]
    assert sampling == [None, None]
    for rates in (updates[0], updates[2]):  # the optimiser and its rate begin anew
        assert rates[0] == 1e-2
        assert rates == sorted(rates, reverse=True)


def test_candidates_of_another_configuration_are_not_taken_for_this_runs(config):
    run = config(max_steps=1)
    other = run.output_dir / "candidates/iteration-1/step-00001-process-0.jsonl"
    other.parent.mkdir(parents=True)
    other.write_text("{}\n")
    svp.train(run)
    assert len(candidates_of(run.output_dir)) == 16


def test_a_lasting_outage_ends_in_an_error_and_a_checkpoint_that_resumes_to_the_same(
    config, socket_service, monkeypatch
):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.05)
    reward = RewardConfig(url=socket_service.url, patience_s=0.2, timeout_s=0.5)
    calm, broken = config("calm", reward=reward), config("broken", reward=reward)
    svp.train(calm)
    collected = svp.Trainer.collect

    def collect_and_stop_the_service(self, iteration, number):
        found = collected(self, iteration, number)
        if self.run.resumed_from is None:
            socket_service.close()
        return found

    monkeypatch.setattr(svp.Trainer, "collect", collect_and_stop_the_service)
    with pytest.raises(RewardOutageError, match="--resume"):
        svp.train(broken)
    assert [step["step"] for step in steps_of(broken.output_dir)] == [1]
    socket_service.open()
    svp.train(broken, resume=True)
    assert adapter_hash(calm.output_dir) == adapter_hash(broken.output_dir)


def test_too_few_sound_candidates_end_the_run_with_the_reasons(config):
    with pytest.raises(ValueError, match=r"chose 0 of 32 candidates \(.*short: .*smaller batch"):
        svp.train(config(projection={"min_words": 100}))


def test_a_broken_image_ends_the_run_with_its_name(config, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image": "x.png", "prompt": "Describe."}\n')
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"rows\.jsonl:1"):
        svp.train(config(data=DataConfig(path=path), images_per_step=1))


def command(config, *flags):
    path = config.output_dir.with_suffix(".yaml")
    path.write_text(json.dumps(plain(config)))  # JSON is YAML
    return [sys.executable, "-m", "sightline_trainers", "svp", "--config", str(path), *flags]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_gives_the_same_adapter(config):
    whole, killed = config("whole", iterations=2), config("killed", iterations=2)
    svp.train(whole)
    metrics = killed.output_dir / "metrics.jsonl"
    process = subprocess.Popen(command(killed), env=environment(), stderr=subprocess.PIPE)
    wanted = random.Random(time.time()).randint(1, 6)
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
    assert timeless(whole.output_dir) == timeless(killed.output_dir)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(config):
    one = config("one", images_per_step=4, batch=4, minibatch=4)
    two = config("two", images_per_step=2, batch=2, minibatch=2)
    svp.train(one)
    launched = [*command(two)]
    launched[1:3] = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", launched[2]]
    launched.insert(3, "--standalone")
    subprocess.run(launched, env=environment(), check=True, timeout=900)

    def texts(folder):
        found = sorted(candidates_of(folder), key=lambda each: (each["place"], each["sample"]))
        return [(each["text"], each["outcome"]) for each in found]

    assert texts(one.output_dir) == texts(two.output_dir)
    first, second = (
        load_file(run.output_dir / "adapter/adapter_model.safetensors") for run in (one, two)
    )
    moved = sum(tensor.abs().sum().item() for name, tensor in first.items() if "lora_B" in name)
    assert moved > 0
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-4), name
