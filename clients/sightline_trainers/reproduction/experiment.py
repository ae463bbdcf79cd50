"""Runs a plan: base and variants one after another, each trained, asked and measured once.

Knows in which order and in which folders; knows no method.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import RewardClient
from sightline_eval.progress import progress_bar
from sightline_trainers.checkpoint import write_whole
from sightline_trainers.configuration import read_file
from sightline_trainers.journal import Journal
from sightline_trainers.policy import PolicyConfig
from sightline_trainers.reproduction.exam import Answers, Exam, read_answers, write_answers
from sightline_trainers.reproduction.examination import (
    answer,
    load_adapted,
    n_answers,
    score_objects,
    weights_digest,
)
from sightline_trainers.reproduction.measures import (
    Tallies,
    caption_tallies,
    changes,
    figures,
    pope_tallies,
)
from sightline_trainers.reproduction.plan import BASE, Plan, Variant
from sightline_trainers.reproduction.results import (
    Measured,
    Results,
    Row,
    read_results,
    write_results,
)
from sightline_trainers.reproduction.sentence_weights import sentence_weights
from sightline_trainers.reproduction.training import Cost, Job, cost_of, train
from sightline_trainers.tracking import versions
from sightline_world import weights

RESULTS = "results.json"
WEIGHTS = "weights.json"
"""In ASPO's own run: per answer, each sentence's weight and whether it is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What one reproduction is asked for.

    Attributes:
        plan: of the method.
        variants: those of it that are wanted; others that the folder holds are measured too.
        out: the folder of everything, absolute.
        recipe: the configuration file that all variants start from.
        fields: what is laid over it for all of them.
        seed: of the trainings.
        policy: the model that is trained.
    """

    plan: Plan
    variants: tuple[Variant, ...]
    out: Path
    recipe: Path
    fields: Mapping[str, str]
    seed: int
    policy: str

    @property
    def facts(self) -> dict[str, Any]:
        """The recipe's name, its content, and what is laid over it."""
        content = read_file(self.recipe)
        return {"file": self.recipe.name, "content": content, "fields": dict(self.fields)}

    def job(self, variant: Variant, exam: Exam) -> Job:
        """A variant's training run."""
        places = {
            "out": str(self.out),
            "profile": str(weights.profile_path()),
            "split": exam.split,
            "scenes": str(len(exam.scenes)),
        }
        own = {name: value.format(**places) for name, value in variant.fields.items()}
        common = {"seed": str(self.seed), "policy.model": self.policy, "merge": "false"}
        fields = {**common, **self.fields, **own}
        if variant.yields == "answers":  # they are about these very scenes
            folder = self.out / f"{variant.name}-{exam.name}"
            return Job(self.plan.method, self.recipe, fields, folder, "answers.jsonl")
        return Job(self.plan.method, self.recipe, fields, self.out / variant.name)

    def answers_path(self, row: str, exam: Exam) -> Path:
        """Where the answers of a row are kept."""
        return self.out / "answers" / exam.name / f"{row}.json"


class Experiment:
    """Trains, asks and measures; what is done is not done again.

    Args:
        setting: what is asked for.
        exam: the held-out scenes.
        serve: starts the reward service, or finds it; gives its URL. It is called when needed.
        train_job: runs a job with the service at a URL.

    Attributes:
        answers: what each row's policy said so far.

    Raises:
        ValueError: a configuration is impossible, or the folder holds another reproduction.
    """

    def __init__(
        self,
        setting: Setting,
        exam: Exam,
        *,
        serve: Callable[[], AbstractContextManager[str]],
        train_job: Callable[[Job, str], None] = train,
    ) -> None:
        self._setting, self._exam = setting, exam
        self._serve, self._train = serve, train_job
        self._weights = weights_digest(setting.policy)
        self._check_folder()
        known = [(variant, setting.job(variant, exam)) for variant in setting.plan.variants]
        self._jobs = [(v, job) for v, job in known if v in setting.variants or job.done]
        self._policies = {job.folder: job.read().policy for _, job in self._jobs}
        self.answers: dict[str, Answers] = {}
        self._rows: list[Row] = []
        self._base: Sequence[Tallies] = ()
        self._url: str | None = None

    def run(self) -> Iterator[Results]:
        """Does all of it; gives what is known, and writes results.json, after each variant.

        Raises:
            TrainingFailedError: a training ended without its product.
            ValueError: a folder holds a run with another configuration.
        """
        self._setting.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            policy = self._policies[self._jobs[0][1].folder]
            self._add(BASE, "base", {}, self._asked(BASE, policy, None, stack), None)
            yield self._write()
            for variant, job in self._jobs:
                if not job.done:
                    self._train(job, self._service(stack))
                self._add_variant(variant, job, stack)
                if self._setting.plan.weighed and variant.name == self._setting.plan.method:
                    self._weigh(job, stack)
                yield self._write()

    def _check_folder(self) -> None:
        path = self._setting.out / RESULTS
        if not path.is_file():
            return
        found = read_results(path)
        held = (found.method, found.seed, found.policy["weights"], found.recipe)
        setting = self._setting
        if held != (setting.plan.method, setting.seed, self._weights, setting.facts):
            raise ValueError(
                f"{setting.out} holds {found.method} with seed {found.seed}, policy "
                f"{found.policy['model']} (weights {found.policy['weights']}) and fields "
                f"{found.recipe['fields']}, or another state of {found.recipe['file']}: give "
                "another --out"
            )

    def _service(self, stack: ExitStack) -> str:
        if self._url is None:
            self._url = stack.enter_context(self._serve())
        return self._url

    def _add_variant(self, variant: Variant, job: Job, stack: ExitStack) -> None:
        policy, cost = self._policies[job.folder], cost_of(job.folder)
        if variant.yields == "answers":
            self._add(variant.name, variant.label, variant.fields, _own_answers(job), cost)
            return
        if variant.yields == "iterations":
            for number, adapter in _iterations(job.folder):
                name, label = f"{variant.name}-{number}", f"{variant.label}, iteration {number}"
                answers = self._asked(name, policy, adapter, stack)
                self._add(name, label, variant.fields, answers, None)
        answers = self._asked(variant.name, policy, job.folder / "adapter", stack)
        self._add(variant.name, variant.label, variant.fields, answers, cost)

    def _asked(
        self, name: str, config: PolicyConfig, adapter: Path | None, stack: ExitStack
    ) -> Answers:
        """The answers of the policy with an adapter, from the disk if it was asked before."""
        path = self._setting.answers_path(name, self._exam)
        key = f"{self._weights}+{weights_digest(adapter) if adapter else 'nothing'}"
        answers = read_answers(path, key=key)
        if answers is not None:
            return answers
        policy = load_adapted(config, adapter)
        with progress_bar(f"Asking {name}", n_answers(self._exam)) as advance:
            answers = answer(policy, self._exam, advance=advance)
        if self._setting.plan.scored:
            with RewardClient(self._service(stack)) as client:
                scores = score_objects(client, self._exam, answers.greedy)
            answers = replace(answers, scores=scores)
        write_answers(path, answers, key=key)
        return answers

    def _weigh(self, job: Job, stack: ExitStack) -> None:
        """Keeps how the run's policy weighs sentences."""
        path = job.folder / WEIGHTS
        if path.is_file():
            return
        policy = load_adapted(self._policies[job.folder], job.folder / "adapter")
        found = sentence_weights(policy, job.read(), url=self._service(stack))
        write_whole(path, json.dumps(found) + "\n")

    def _add(
        self,
        name: str,
        label: str,
        fields: Mapping[str, str],
        answers: Answers,
        cost: Cost | None,
    ) -> None:
        """Measures answers; the first are those of the base."""
        self.answers[name] = answers
        greedy: Tallies = caption_tallies(answers.greedy, self._exam)
        if answers.pope:
            greedy = {**greedy, **pope_tallies(answers.pope, self._exam)}
        kinds = [greedy]
        if answers.sampled:
            kinds.append(caption_tallies(answers.sampled, self._exam))
        if name == BASE:
            self._base = kinds
        measured = [
            Measured(figures(tallies), {} if name == BASE else changes(tallies, base))
            for tallies, base in zip(kinds, self._base, strict=False)
        ]
        sampled = measured[1] if len(measured) > 1 else None
        self._rows.append(Row(name, label, fields, measured[0], sampled, cost))

    def _write(self) -> Results:
        setting = self._setting
        costs = [row.cost for row in self._rows if row.cost is not None]
        results = Results(
            method=setting.plan.method,
            seed=setting.seed,
            split=self._exam.split,
            scenes=len(self._exam.scenes),
            policy={"model": setting.policy, "weights": self._weights},
            recipe=setting.facts,
            rows=tuple(self._rows),
            seconds=sum(cost.seconds for cost in costs),
            reward_seconds=sum(cost.reward_seconds for cost in costs),
            versions=versions(),
        )
        write_results(setting.out / RESULTS, results)
        return results


def _iterations(folder: Path) -> list[tuple[int, Path]]:
    """Number and adapter of a run's iterations, without the one that the run ended with."""
    last = weights_digest(folder / "adapter")
    adapters = (
        (int(each.parent.name.rpartition("-")[2]), each)
        for each in folder.glob("iteration-*/adapter")
    )
    return sorted(pair for pair in adapters if weights_digest(pair[1]) != last)


def _own_answers(job: Job) -> Answers:
    """The captions that a run without training wrote, in the order of the scenes."""
    lines = sorted(Journal(job.folder / job.product).read(), key=lambda line: line["row"])
    return Answers(greedy=tuple(line["answer"] for line in lines))
