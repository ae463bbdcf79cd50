"""Makes a chosen and a rejected response of each row: by beam search, or by the policy as judge.

Knows how sampling, scores and choice follow on each other; knows no training.
"""
# ruff: noqa: N806 - a tensor's name ends in its shape

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import PIL.Image
import torch

from sightline import Image
from sightline_trainers import judge
from sightline_trainers.beam import (
    Draw,
    Node,
    Question,
    SearchRules,
    Start,
    Tree,
    choose,
    path_value,
    search,
    tree_record,
)
from sightline_trainers.continuations import SentenceSampler
from sightline_trainers.data import Row, load_image
from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.policy import Policy, Sampling
from sightline_trainers.prompts import Prompt
from sightline_trainers.relevance import Candidates, RelevanceSource
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import derived_seed

Record = dict[str, Any]
"""One row's line of the journal: see `Case` and `tree_record`; "dropped" says why it has no pair,
otherwise "chosen" and "rejected" are responses with "ids", "text" and "value"."""

Asked = TypeVar("Asked")
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Case:
    """One row as the policy and the service see it, and the seed of its samples."""

    number: int
    row: Row
    seed: int
    picture: PIL.Image.Image
    image: Image
    prompt: Prompt


def prepare(policy: Policy, number: int, row: Row, seed: int) -> Case:
    """Reads a row's image.

    Raises:
        ValueError: it cannot be read.
    """
    picture, data = load_image(row)
    prompt = policy.prompts.encode(picture, row.prompt)
    return Case(number, row, seed, picture, Image(data), prompt)


class PairBuilder(Protocol):
    """Makes records of cases, lane by lane; what a lane gives does not depend on the others."""

    def build(self, lanes: Sequence[Sequence[Case]]) -> list[Record]:
        """One record per case, in order."""
        ...


class BeamBuilder:
    """Chooses among the finished paths of a sentence-level beam search.

    Args:
        policy: samples, and gives R_T.
        source: gives R_I.
        rules: how the search goes.
        sampling: how one sentence is drawn.
        generation_batch: sentences drawn together at most.
    """

    def __init__(
        self,
        policy: Policy,
        source: RelevanceSource,
        rules: SearchRules,
        sampling: Sampling,
        *,
        generation_batch: int,
    ) -> None:
        self._policy, self._source, self._rules = policy, source, rules
        self._sampler = SentenceSampler(policy, sampling)
        self._generation_batch = generation_batch

    def build(self, lanes: Sequence[Sequence[Case]]) -> list[Record]:
        """One record per case; one lane's sentences are scored while the next are drawn."""
        searches = [
            search([case.seed for case in lane], partial(self._sample, lane), self._rules)
            for lane in lanes
        ]
        grown = interleaved(
            searches, [partial(self._ask, lane) for lane in lanes], self._source.wait
        )
        return [
            self._record(case, tree)
            for lane, trees in zip(lanes, grown, strict=True)
            for case, tree in zip(lane, trees, strict=True)
        ]

    def _sample(self, lane: Sequence[Case], starts: Sequence[Start]) -> list[Draw]:
        draws: list[Draw] = []
        for some in cut(starts, self._generation_batch):
            prompts = [lane[start.prompt].prompt for start in some]
            draws += self._sampler.draw(
                prompts, [start.ids for start in some], [start.seed for start in some]
            )
        return draws

    def _ask(
        self, lane: Sequence[Case], questions: Sequence[Question]
    ) -> "Future[list[tuple[float, ...]]]":
        return self._source.ask_relevance(
            [
                Candidates(lane[place].row.origin, lane[place].image, texts)
                for place, texts in questions
            ]
        )

    def _record(self, case: Case, tree: Tree) -> Record:
        picked = choose(tree.finished, self._rules)
        facts = {**_facts(case), **tree_record(tree, self._rules)}
        if isinstance(picked, str):
            return {**facts, "dropped": picked}
        return {
            **facts,
            "dropped": None,
            "chosen": self._response(picked[0]),
            "rejected": self._response(picked[1]),
        }

    def _response(self, node: Node) -> dict[str, Any]:
        path = node.path
        return {
            "node": node.number,
            "ids": list(node.ids),
            "text": self._policy.prompts.decode(list(node.ids)),
            "value": path_value(node, self._rules.path_value),
            "image": sum(each.image for each in path) / len(path),
            "language": sum(each.draw.language for each in path) / len(path),
        }


class JudgeBuilder:
    """The self-rewarding baseline: two whole samples, and the policy says which is better.

    Args:
        policy: samples and judges.
        sampling: how a response is drawn.
        min_margin: a preference of no more than this many nats makes no pair.
    """

    def __init__(self, policy: Policy, sampling: Sampling, *, min_margin: float) -> None:
        self._policy, self._sampling, self._min_margin = policy, sampling, min_margin

    def build(self, lanes: Sequence[Sequence[Case]]) -> list[Record]:
        """One record per case."""
        return [record for lane in lanes for record in self._judged(lane)]

    def _judged(self, lane: Sequence[Case]) -> list[Record]:
        samples = list(zip(self._samples(lane, 0), self._samples(lane, 1), strict=True))
        texts = [(first["text"], second["text"]) for first, second in samples]
        preferred = judge.preferences(self._policy, [case.picture for case in lane], texts)
        return [self._record(*each) for each in zip(lane, samples, preferred, strict=True)]

    def _samples(self, lane: Sequence[Case], place: int) -> list[dict[str, Any]]:
        seeds = [derived_seed(case.seed, place) for case in lane]
        prompts = [case.prompt for case in lane]
        ids_BT, mask_BT = self._policy.sample(prompts, self._sampling, seeds)
        sampled = [ids[mask == 1].tolist() for ids, mask in zip(ids_BT, mask_BT, strict=True)]
        decode = self._policy.prompts.decode
        return [
            {"ids": ids, "text": decode(ids), "ended": ids[-1] in self._policy.end_ids}
            for ids in sampled
        ]

    def _record(
        self, case: Case, samples: tuple[dict[str, Any], dict[str, Any]], preferred: float
    ) -> Record:
        first: dict[str, Any] = {**samples[0], "value": preferred}
        second: dict[str, Any] = {**samples[1], "value": -preferred}
        facts = {**_facts(case), "seed": case.seed, "samples": [first, second]}
        if not (first["ended"] and second["ended"]):
            return {**facts, "dropped": "unfinished"}
        if not (first["text"].strip() and second["text"].strip()):
            return {**facts, "dropped": "empty"}
        if first["text"].split() == second["text"].split():
            return {**facts, "dropped": "equal"}
        if not 2 * abs(preferred) > self._min_margin:
            return {**facts, "dropped": "margin"}
        best, worst = (first, second) if preferred > 0 else (second, first)
        return {**facts, "dropped": None, "chosen": best, "rejected": worst}


def _facts(case: Case) -> Record:
    return {"row": case.number, "origin": case.row.origin}


@torch.no_grad()
def add_references(
    policy: Policy, cases: Sequence[Case], records: Sequence[Record], *, minibatch: int
) -> None:
    """Adds to each chosen and rejected response its log-probability under the policy as it is."""
    responses = [
        (case.prompt, record[side])
        for case, record in zip(cases, records, strict=True)
        for side in ("chosen", "rejected")
        if record["dropped"] is None
    ]
    for some in cut(responses, 2 * minibatch):
        prompts = [prompt for prompt, _ in some]
        ids = [response["ids"] for _, response in some]
        found = completion_log_probs(policy, prompts, ids).tolist()
        for (_, response), log_prob in zip(some, found, strict=True):
            response["reference"] = log_prob


def interleaved(
    jobs: Sequence[Generator[Asked, Given, Made]],
    ask: Sequence[Callable[[Asked], "Future[Given]"]],
    wait: Callable[["Future[Given]"], Given],
) -> list[Made]:
    """Runs jobs that ask as they go: while one's question is answered, the others work."""
    made: dict[int, Made] = {}
    pending: deque[tuple[int, Future[Given] | None]] = deque((n, None) for n in range(len(jobs)))
    while pending:
        number, answer = pending.popleft()
        job = jobs[number]
        try:
            asked = next(job) if answer is None else job.send(wait(answer))
        except StopIteration as end:
            made[number] = end.value
        else:
            pending.append((number, ask[number](asked)))
    return [made[number] for number in range(len(jobs))]
