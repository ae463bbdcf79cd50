"""A reproduction from its plan to the page, with a tiny random policy and trainings made up."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from sightline_trainers import aspo, seva, tracking
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.policy import PolicyConfig, Sampling, export_adapter, load_policy
from sightline_trainers.prompts import collate
from sightline_trainers.reproduction import examination
from sightline_trainers.reproduction.command import main
from sightline_trainers.reproduction.exam import Exam, build_exam
from sightline_trainers.reproduction.examination import load_adapted, weights_digest
from sightline_trainers.reproduction.experiment import RESULTS, Experiment, Setting
from sightline_trainers.reproduction.panels import Evidence
from sightline_trainers.reproduction.plan import PLANS, Plan, Variant
from sightline_trainers.reproduction.report import headline, render_report
from sightline_trainers.reproduction.results import read_results
from sightline_trainers.reproduction.sentence_weights import sentence_weights
from sightline_trainers.reproduction.training import (
    Job,
    TrainingFailedError,
    cost_of,
    train,
)
from sightline_world.captions import faithful
from sightline_world.scenes import scene
from sightline_world.splits import stream


@pytest.fixture(scope="module")
def exam() -> Exam:
    return build_exam("validation", 10)


@pytest.fixture(autouse=True)
def short_captions(monkeypatch):
    monkeypatch.setattr(examination, "_GREEDY", Sampling(max_new_tokens=12, temperature=0.0))
    monkeypatch.setattr(examination, "_SAMPLED", Sampling(max_new_tokens=12))


@pytest.fixture
def recipe(tmp_path) -> Path:
    """FiSAO's fields for the tiny policy."""
    path = tmp_path / "recipe.yaml"
    content = {
        "output_dir": "runs/x",
        "policy": {"lora_rank": 4, "lora_alpha": 8},
        "data": {"format": "world", "limit": 64},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def adapted(config: PolicyConfig, seed: int):
    """A policy whose adapter does something."""
    policy = load_policy(config, seed=seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    return policy


class Trainer:
    """Leaves behind what a run leaves: manifest, metrics, adapters, summary."""

    def __init__(self, fails: str = "") -> None:
        self.trained: list[str] = []
        self.urls: list[str] = []
        self._fails = fails

    def __call__(self, job: Job, url: str) -> None:
        self.trained.append(job.folder.name)
        self.urls.append(url)
        if job.folder.name == self._fails:
            raise TrainingFailedError(f"training in {job.folder} ended with code 1")
        config = job.read()
        job.folder.mkdir(parents=True)
        (job.folder / "manifest.json").write_text(json.dumps({"config_digest": config.digest}))
        lines = [{"step": 1, "reward_wait_s": 0.5}, {"step": 2, "reward_wait_s": 0.25}]
        (job.folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        (job.folder / "attempts.jsonl").write_text('{"seconds": 10.0}\n{"seconds": 5.0}\n')
        if job.product == "answers.jsonl":
            return
        folders = [job.folder / "adapter"]
        if job.method == "csr":
            folders += [job.folder / f"iteration-{number}" / "adapter" for number in (1, 2, 10)]
        for number, folder in enumerate(folders):
            last = number == len(folders) - 1  # it is what the run ends with
            export_adapter(adapted(config.policy, 0 if last else number), folder)
        (job.folder / job.product).write_text("{}")


@contextmanager
def serve(url: str = "http://reward") -> Iterator[str]:
    yield url


def setting(tiny_llava, recipe, out: Path, plan: Plan, **changes) -> Setting:
    facts = {
        "plan": plan,
        "variants": plan.variants,
        "out": out,
        "recipe": recipe,
        "fields": {},
        "seed": 3,
        "policy": str(tiny_llava),
    }
    return Setting(**facts | changes)


SMALL = Plan(
    "fisao",
    "FiSAO",
    (),
    (Variant("fisao", "FiSAO"), Variant("sentence", "sentences", {"reward_level": "sentence"})),
)


def test_a_plan_is_trained_asked_and_measured_once(tiny_llava, recipe, tmp_path, exam, monkeypatch):
    trainer, out = Trainer(), tmp_path / "out"
    wanted = setting(tiny_llava, recipe, out, SMALL)
    seen = list(Experiment(wanted, exam, serve=serve, train_job=trainer).run())
    assert [[row.name for row in each.rows] for each in seen] == [
        ["base"],
        ["base", "fisao"],
        ["base", "fisao", "sentence"],
    ]
    found = read_results(out / RESULTS)
    assert found == seen[-1]
    assert trainer.urls == ["http://reward"] * 2
    assert (found.seed, found.split, found.scenes) == (3, "validation", 10)
    assert (found.seconds, found.reward_seconds) == (30.0, 1.5)
    assert found.rows[2].fields == {"reward_level": "sentence"}
    assert found.rows[1].cost.share == pytest.approx(0.05)
    assert found.base.greedy.figures.keys() == found.rows[1].greedy.change.keys()
    assert found.rows[1].sampled.change.keys() == found.rows[1].sampled.figures.keys()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("sightline_trainers.reproduction.experiment.answer", never)
    fewer = replace(wanted, variants=SMALL.variants[1:])  # what is there is measured all the same
    for again in (wanted, fewer):
        *_, last = Experiment(again, exam, serve=never, train_job=never).run()
        assert last == seen[-1]


def test_what_was_found_before_a_failure_stands(tiny_llava, recipe, tmp_path, exam):
    out, trainer = tmp_path / "out", Trainer(fails="sentence")
    wanted = setting(tiny_llava, recipe, out, SMALL)
    with pytest.raises(TrainingFailedError, match="sentence ended with code 1"):
        list(Experiment(wanted, exam, serve=serve, train_job=trainer).run())
    assert [row.name for row in read_results(out / RESULTS).rows] == ["base", "fisao"]
    mended = Trainer()
    *_, last = Experiment(wanted, exam, serve=serve, train_job=mended).run()
    assert mended.trained == ["sentence"]
    assert len(last.rows) == 3


def test_each_iteration_of_csr_is_a_row(tiny_llava, recipe, tmp_path, exam):
    plan = Plan("csr", "CSR", (), (Variant("csr", "CSR", yields="iterations"),))
    wanted = setting(tiny_llava, recipe, tmp_path / "out", plan)
    *_, last = Experiment(wanted, exam, serve=serve, train_job=Trainer()).run()
    assert [row.name for row in last.rows] == ["base", "csr-1", "csr-2", "csr"]
    assert [row.label for row in last.rows[1:3]] == ["CSR, iteration 1", "CSR, iteration 2"]
    assert [row.cost is None for row in last.rows] == [True, True, True, False]
    assert last.seconds == 15.0


def test_a_run_that_answers_itself_is_measured_without_being_asked(
    tiny_llava, recipe, tmp_path, exam
):
    truths = [
        faithful(each.layout, stream("validation", each.index, purpose="caption", seed=9))
        for each in exam.scenes
    ]

    def answers(job: Job, url: str) -> None:
        Trainer()(job, url)
        lines = [{"row": number, "answer": text} for number, text in enumerate(truths)]
        text = "".join(json.dumps(line) + "\n" for line in reversed(lines))
        (job.folder / "answers.jsonl").write_text(text)

    variant = next(each for each in PLANS["svp"].variants if each.yields == "answers")
    plan = Plan("svp", "SVP", (), (variant,))
    wanted = setting(tiny_llava, recipe, tmp_path / "out", plan)
    *_, last = Experiment(wanted, exam, serve=serve, train_job=answers).run()
    assert last.rows[1].greedy.value("recall") == 1.0
    assert last.rows[1].greedy.value("chair_s") == 0.0
    assert last.rows[1].sampled is None
    assert "pope_f1" not in last.rows[1].greedy.figures
    job = wanted.job(variant, exam).read()
    assert (job.data.world_split, job.data.limit) == ("validation", 10)


def test_a_folder_belongs_to_one_experiment(tiny_llava, recipe, tmp_path, exam):
    out = tmp_path / "out"
    plan = Plan("fisao", "FiSAO", (), SMALL.variants[:1])
    wanted = setting(tiny_llava, recipe, out, plan)
    list(Experiment(wanted, exam, serve=serve, train_job=Trainer()).run())
    for change in ({"seed": 4}, {"fields": {"max_steps": "1"}}):
        other = setting(tiny_llava, recipe, out, plan, **change)
        with pytest.raises(ValueError, match="holds fisao with seed 3.*give another --out"):
            Experiment(other, exam, serve=serve, train_job=Trainer())
    (out / RESULTS).unlink()
    other = setting(tiny_llava, recipe, out, plan, fields={"clip": "0.1"})
    with pytest.raises(ValueError, match="trained with another configuration"):
        list(Experiment(other, exam, serve=serve, train_job=Trainer()).run())


def test_a_wrong_field_is_refused_before_anything_is_trained(tiny_llava, recipe, tmp_path, exam):
    wanted = setting(tiny_llava, recipe, tmp_path / "out", SMALL, fields={"lerning_rate": "1"})
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        Experiment(wanted, exam, serve=serve, train_job=Trainer())


@pytest.mark.parametrize("method", sorted(PLANS))
def test_every_variant_is_a_configuration_of_its_own(method, exam, tmp_path):
    plan = PLANS[method]
    recipe = Path(tracking.__file__).parent / "recipes" / f"world_{method}.yaml"
    wanted = setting("world", recipe, tmp_path, plan)
    configs = [wanted.job(variant, exam).read() for variant in plan.variants]
    assert len({config.digest for config in configs}) == len(configs)
    assert {config.seed for config in configs} == {3}
    assert not any(config.merge for config in configs)
    main_names = {variant.name for variant in plan.choose(["main"])}
    assert method in main_names
    assert len(main_names) > 1


def test_variants_are_chosen_by_name_in_the_order_of_the_plan():
    plan = PLANS["fisao"]
    assert [each.name for each in plan.choose(["sentence", "fisao"])] == ["fisao", "sentence"]
    assert plan.choose(["all"]) == plan.variants
    with pytest.raises(ValueError, match="fisao has no variant 'fsiao': choose among main, all"):
        plan.choose(["fsiao"])
    with pytest.raises(ValueError, match="variants is empty"):
        plan.choose([])


def test_a_loaded_adapter_says_what_the_trained_policy_said(tiny_llava, tmp_path, exam):
    config = PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8)
    policy = adapted(config, 0).eval()
    export_adapter(policy, tmp_path / "adapter")
    prompts = [policy.prompts.encode(each.image, "What is it?") for each in exam.scenes[:2]]
    inputs = collate(prompts, policy.prompts.pad_id, torch.device("cpu"))
    with torch.no_grad():
        trained = policy.model(**inputs).logits
        loaded = load_adapted(config, tmp_path / "adapter").model(**inputs).logits
        base = load_adapted(config, None).model(**inputs).logits
        with policy.reference():
            reference = policy.model(**inputs).logits
    assert torch.allclose(loaded, trained, atol=1e-3)
    assert not torch.allclose(loaded, base, atol=1e-1)
    assert torch.equal(base, reference)


def test_weights_are_known_by_their_content(tiny_llava, tmp_path):
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((tiny_llava / "model.safetensors").read_bytes())
    assert weights_digest(tmp_path) == weights_digest(tiny_llava)
    copy.write_bytes(copy.read_bytes() + b"x")
    assert weights_digest(tmp_path) != weights_digest(tiny_llava)
    assert weights_digest("hub/name") != weights_digest("hub/other")


def test_objects_are_scored_by_the_service(tiny_llava, recipe, tmp_path, exam, socket_service):
    plan = Plan("fisao", "FiSAO", (), SMALL.variants[:1], scored=True)
    wanted = setting(tiny_llava, recipe, tmp_path / "out", plan)
    experiment = Experiment(
        wanted, exam, serve=lambda: serve(socket_service.url), train_job=Trainer()
    )
    list(experiment.run())
    with examination.RewardClient(socket_service.url) as client:
        scores = examination.score_objects(client, exam, ["A dog and a cat."] * 9 + [""])
    assert [len(each) for each in scores] == [2] * 9 + [0]
    assert len(experiment.answers["fisao"].scores) == 10


def test_sentences_have_the_weights_of_the_service_s_cosines(tiny_llava, tmp_path, socket_service):
    config = aspo.Config(
        output_dir=tmp_path,
        policy=PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8),
        data=DataConfig(format="world", limit=2),
        metrics="S",
    )
    policy = load_policy(config.policy, seed=0)
    there = scene("train", 1).layout.names[0]
    texts = [f"There is a {there}.", " There is a zebra.", f" It is a {there}."]
    ids = policy.prompts.tokenizer("".join(texts), add_special_tokens=False)["input_ids"]
    chosen, offsets = decode_with_offsets(policy.prompts.decode, ids)
    pair = seva.Pair(1, "x", "kept", chosen, "No.", tuple(ids), (5,), offsets, 500, 0, 9)
    equal = replace(pair, row=0, fate="equal")
    digest = seva.digest(config.pairs, config.policy, config.data, seed=0)
    seva.PairFolder(tmp_path / "pairs" / digest, 0).add([pair, equal])

    (found,) = sentence_weights(policy, config, url=socket_service.url)
    _, png = load_image(read_rows(config.data)[1])
    with examination.RewardClient(socket_service.url) as client:
        reply = client.sentence_reward(png, [text.strip() for text in texts])
    cosines = [each.cosine for each in reply]
    spread = max(cosines) - min(cosines)
    expected = [(cosine - min(cosines)) / spread for cosine in cosines]
    assert [weight for weight, _ in found] == pytest.approx(expected)
    assert [true for _, true in found] == [True, False, True]


def test_the_page_says_what_was_found_and_loads_nothing(tiny_llava, recipe, tmp_path, exam):
    wanted = setting(tiny_llava, recipe, tmp_path / "out", SMALL)
    experiment = Experiment(wanted, exam, serve=serve, train_job=Trainer())
    pages = [
        render_report(Evidence(each, wanted.out, experiment.answers), exam)
        for each in experiment.run()
    ]
    assert "FiSAO is not trained yet" in pages[0]
    page = pages[-1]
    assert headline(read_results(wanted.out / RESULTS)) in page
    assert "paper: CHAIR_S 39.9, CHAIR_I 9.9, POPE 85.7 (FiSAO, Table 2)" in page
    assert page.count("<article class=card>") == 8
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


@pytest.mark.slow
def test_a_training_that_fails_says_how_to_go_on(tmp_path, recipe):
    job = Job("fisao", recipe, {"policy.model": str(tmp_path / "nothing")}, tmp_path / "run")
    assert not job.done
    with pytest.raises(TrainingFailedError, match="ended with code 1.*the same command goes on"):
        train(job, "http://127.0.0.1:9")
    assert cost_of(job.folder).seconds > 0
    assert cost_of(job.folder).reward_seconds == 0.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scenes", "0"], "scenes is 0: give 10 or more"),
        (["--variants", "fisao,none"], "fisao has no variant 'none'"),
        (["--policy", "no/such/folder"], "policy 'no/such/folder' is no model's folder"),
        (["--set", "learning_rate"], "set 'learning_rate': write FIELD=VALUE"),
    ],
)
def test_bad_flags_end_in_one_line(flags, message, tmp_path, capsys):
    assert main(["fisao", "--out", str(tmp_path / "out"), *flags]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"sightline reproduce: {message}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["fisao", "--out", str(tmp_path / "out")]) == 1
    assert "cannot be a folder" in capsys.readouterr().err


def test_an_unknown_method_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sfiao", "--out", "x"])
    assert stop.value.code == 2
    assert "aspo" in capsys.readouterr().err


def test_a_summary_of_no_result_is_refused(tmp_path, capsys):
    assert main(["summary", str(tmp_path)]) == 1
    assert "results.json" in capsys.readouterr().err
