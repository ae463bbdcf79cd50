"""Visual projections (SVP's inner loop): drafts, boxes, guided samples, scores, choice.

Knows the policy and the service; learns nothing. Symbols are those of `svp`.
"""
# ruff: noqa: N806 - a tensor's name ends in its shape

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal

import PIL.Image
import torch

from sightline import Image
from sightline_core.entities import load_vocabulary
from sightline_trainers import svp_prompts
from sightline_trainers.candidates import Candidate, answered, top_k
from sightline_trainers.data import Row, load_image
from sightline_trainers.divergence import GapMeter
from sightline_trainers.grounding import Boxes, GroundingConfig, GroundingSource
from sightline_trainers.policy import Policy, Sampling
from sightline_trainers.prompts import Prompt
from sightline_trainers.queries import object_questions
from sightline_trainers.rewards import Response
from sightline_trainers.rollout import cut
from sightline_trainers.runs import require
from sightline_trainers.schedule import derived_seed

_DRAFT, _GUIDED, _QUERY, _LOTTERY = range(4)
"""Kinds of seeds."""


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """How candidates are sampled, scored and chosen; the paper's values where it gives any.

    Raises:
        ValueError: a number is out of range, or fields contradict each other.
    """

    samples: int = 20
    """K: drafts, and guided samples, of each image."""
    top_ratio: float = 0.2
    """The share of K that is learned, at least one."""
    select: Literal["S", "Delta", "random"] = "S"
    """The score that ranks; "random" is the ablation without scoring."""
    per_token: bool = False
    """Rank by the score per token."""
    grounding: bool = True
    """False is the ablation without grounding: drafts are learned, so select must be random."""
    boxes: GroundingConfig = field(default_factory=GroundingConfig)
    queries: Literal["none", "rows", "objects"] = "none"
    """Visual queries besides descriptions (CVQ): each row's own prompt, or questions on objects.

    Objects are those that drafts name, half of them drafts of other images of the step in this
    process, so more processes ask about others.
    """
    sampling_prompt: str = svp_prompts.SAMPLING_PROMPT
    """What drafts are sampled with, and p of the scores."""
    grounded_prompt: str = svp_prompts.GROUNDED_PROMPT
    """What guided samples are sampled with; {grounding} stands for the boxes."""
    training_prompt: str = svp_prompts.BASE
    """The question under which chosen descriptions are learned."""
    generation_batch: int = 1
    """Images whose K samples are generated together; boxes are asked for during the next."""
    score_batch: int = 4
    """Samples scored together."""
    head_chunk: int = 256
    """Tokens at which the distributions over the vocabulary are compared at a time."""
    max_new_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 0.9
    min_words: int = 10
    """Descriptions with fewer words are dropped."""

    def __post_init__(self) -> None:
        """Refuses what cannot be sampled."""
        counts = ("samples", "generation_batch", "score_batch", "head_chunk", "max_new_tokens")
        require(self, *counts, least=1)
        require(self, "top_ratio", "top_p", above=0, most=1)
        require(self, "temperature", above=0)
        require(self, "min_words", least=0)
        if svp_prompts.GROUNDING not in self.grounded_prompt:
            raise ValueError(
                f"grounded_prompt holds no {svp_prompts.GROUNDING}: write it where the boxes belong"
            )
        if not self.grounding and self.select != "random":
            raise ValueError(
                f"grounding is false, so q is p and every score is 0, but select is "
                f"{self.select!r}: give random"
            )

    @property
    def k(self) -> int:
        """How many of an image's samples are learned."""
        return max(1, round(self.top_ratio * self.samples))


@dataclass(frozen=True, slots=True)
class SeedImage:
    """A row at its place in the run: the image as the policy sees it, and the file's bytes."""

    place: int
    number: int
    row: Row
    image: PIL.Image.Image
    data: bytes


def load_seed(rows: Sequence[Row], *, place: int, number: int) -> SeedImage:
    """Row `number`, read.

    Raises:
        ValueError: the image cannot be read.
    """
    return SeedImage(place, number, rows[number], *load_image(rows[number]))


class Projector:
    """Lines 9-24 of Algorithm 2 with the policy as it is.

    Args:
        config: how.
        seed: the run's seed.
        policy: gives p, and q under the grounded prompt.
        source: where boxes come from.
        wait: gives the boxes of a question, in all processes or in none.
    """

    def __init__(
        self,
        config: ProjectionConfig,
        *,
        seed: int,
        policy: Policy,
        source: GroundingSource,
        wait: Callable[[Future[list[Boxes]]], list[Boxes]],
    ) -> None:
        self._config, self._seed = config, seed
        self._policy, self._source, self._wait = policy, source, wait
        self._sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p)
        self._meter = GapMeter(policy, minibatch=config.score_batch, chunk=config.head_chunk)
        self._vocabulary = load_vocabulary()

    @torch.no_grad()
    def project(self, seeds: Sequence[SeedImage]) -> list[Candidate]:
        """K candidates of each image with their outcomes, and the answers to visual queries."""
        config = self._config
        self._policy.eval()
        parts: list[tuple[Sequence[SeedImage], list[Candidate], Future[list[Boxes]] | None]] = []
        for part in cut(seeds, config.generation_batch):
            drafts = self._drafts(part)
            parts.append((part, drafts, self._ask(part, drafts) if config.grounding else None))
        found: list[Candidate] = []
        for part, candidates, answer in parts:
            if answer is not None:
                candidates = self._guided(part, candidates, self._wait(answer))
            found += self._judged(candidates)
        return found + self._queries(seeds, found)

    def _drafts(self, seeds: Sequence[SeedImage]) -> list[Candidate]:
        """Line 12: K samples of each image, z_p ~ p(. | c); candidates as they are."""
        prompts = self._encoded(seeds, [self._config.sampling_prompt] * len(seeds))
        samples = range(self._config.samples)
        blank = [
            _blank(seed, sample, prompt=self._config.training_prompt)
            for seed in seeds
            for sample in samples
        ]
        drawn = self._drawn(blank, [prompt for prompt in prompts for _ in samples], _DRAFT)
        return [replace(each, draft=each.text) for each in drawn]

    def _ask(
        self, seeds: Sequence[SeedImage], drafts: Sequence[Candidate]
    ) -> "Future[list[Boxes]]":
        """Line 13: g, in the background."""
        images = {seed.place: Image(seed.data) for seed in seeds}
        texts = [Response(each.origin, images[each.place], each.draft, ()) for each in drafts]
        return self._source.ask_boxes(texts, self._config.boxes)

    def _guided(
        self, seeds: Sequence[SeedImage], drafts: Sequence[Candidate], found: Sequence[Boxes]
    ) -> list[Candidate]:
        """Lines 14-19: z_q ~ q(. | c, g) where something was found, with its scores."""
        config = self._config
        if config.boxes.pooled:
            pools = [config.boxes.pool(part) for part in cut(found, config.samples)]
            found = [pool for pool in pools for _ in range(config.samples)]
        candidates = [
            replace(each, text="", ids=(), finished=False, context=config.boxes.context(boxes))
            for each, boxes in zip(drafts, found, strict=True)
        ]
        shown = [place for place, each in enumerate(candidates) if each.context]
        if not shown:
            return candidates
        owners = [seeds[place // config.samples] for place in shown]
        questions = [self._grounded_question(candidates[place].context) for place in shown]
        q_prompts = self._encoded(owners, questions)
        p_prompts = self._encoded(owners, [config.sampling_prompt] * len(owners))
        drawn = self._drawn([candidates[place] for place in shown], q_prompts, _GUIDED)
        gaps = self._meter.measure(q_prompts, p_prompts, [each.ids for each in drawn])
        for place, each, gap in zip(shown, drawn, gaps, strict=True):
            candidates[place] = replace(
                each, S=gap.S, Delta=gap.Delta, log_ratio=gap.log_ratio, n_tokens=gap.n_tokens
            )
        return candidates

    def _grounded_question(self, context: str) -> str:
        return self._config.grounded_prompt.replace(svp_prompts.GROUNDING, context)

    def _judged(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Lines 21-23, image by image."""
        config = self._config
        return [
            judged
            for of_image in cut(candidates, config.samples)
            for judged in top_k(
                of_image,
                config.k,
                score=self.score,
                min_words=config.min_words,
                grounded=config.grounding,
            )
        ]

    def score(self, candidate: Candidate) -> float:
        """What ranks the candidates of an image; the highest are learned."""
        config = self._config
        if config.select == "random":
            return derived_seed(self._seed, candidate.place, candidate.sample, _LOTTERY)
        score = candidate.S if config.select == "S" else candidate.Delta
        return score / max(1, candidate.n_tokens) if config.per_token else score

    def _queries(
        self, seeds: Sequence[SeedImage], candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        """Visual queries, as many per image as descriptions were chosen, with their answers.

        The model answers as it was before the run.
        """
        asked = [
            (seed, _blank(seed, sample, prompt=question, kind="query"))
            for seed in seeds
            for sample, question in enumerate(self._questions(seed, candidates))
        ]
        answers: list[Candidate] = []
        with self._policy.reference():
            for part in cut(asked, self._config.generation_batch * self._config.samples):
                blank = [query for _, query in part]
                prompts = self._encoded([seed for seed, _ in part], [q.prompt for q in blank])
                answers += self._drawn(blank, prompts, _QUERY)
        return [answered(each) for each in answers]

    def _questions(self, seed: SeedImage, candidates: Sequence[Candidate]) -> Sequence[str]:
        own = [each for each in candidates if each.place == seed.place]
        count = sum(each.outcome == "chosen" for each in own)
        if self._config.queries == "none":
            return ()
        if self._config.queries == "rows":
            return [seed.row.prompt] * count
        return object_questions(
            [each.draft for each in own],
            [each.draft for each in candidates if each.place != seed.place],
            count=count,
            seed=derived_seed(self._seed, seed.place, _QUERY),
            vocabulary=self._vocabulary,
        )

    def _encoded(self, seeds: Sequence[SeedImage], questions: Sequence[str]) -> list[Prompt]:
        """The inputs of each image and question; equal pairs are laid out once."""
        known: dict[tuple[int, str], Prompt] = {}
        for seed, question in zip(seeds, questions, strict=True):
            if (seed.place, question) not in known:
                known[seed.place, question] = self._policy.prompts.encode(seed.image, question)
        pairs = zip(seeds, questions, strict=True)
        return [known[seed.place, question] for seed, question in pairs]

    def _drawn(
        self, blank: Sequence[Candidate], prompts: Sequence[Prompt], kind: int
    ) -> list[Candidate]:
        """Each candidate with a text of its own, sampled from its own seed."""
        seeds = [derived_seed(self._seed, each.place, each.sample, kind) for each in blank]
        ids_BT, mask_BT = self._policy.sample(prompts, self._sampling, seeds)
        drawn: list[Candidate] = []
        for each, row, mask in zip(blank, ids_BT, mask_BT, strict=True):
            ids: list[int] = row[mask == 1].tolist()
            text = self._policy.prompts.decode(ids).strip()
            finished = ids[-1] in self._policy.end_ids
            drawn.append(replace(each, text=text, ids=tuple(ids), finished=finished))
        return drawn


def _blank(
    seed: SeedImage,
    sample: int,
    *,
    prompt: str,
    kind: Literal["description", "query"] = "description",
) -> Candidate:
    return Candidate(
        place=seed.place,
        sample=sample,
        row=seed.number,
        origin=seed.row.origin,
        kind=kind,
        prompt=prompt,
        text="",
        ids=(),
        finished=False,
    )
