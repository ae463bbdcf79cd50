"""SVP: self-captioning with grounding feedback (arXiv 2501.04568). Knows the method, no HTTP.

    symbol          variable            shape   meaning
    c               row, image                  a seed image and a question about it
    z_p             draft                       a description sampled from p_theta(. | c)
    g               context                     what the detector finds of z_p, as text
    z_q             text, ids           (T,)    a description sampled from q = p_theta(. | c, g)
    q_t, p_t                            (V,)    next-token distributions at z_q's tokens
    S (Eq. 5)       S                           sum over t of KL(q_t || p_t), w = q
    Delta (Eq. 6)   Delta                       sum over t of H(p_t) - H(q_t)
    K, k            samples, k                  samples of an image, and how many are learned
    log p_theta     logp_BT             (B, T)  of z_q under the plain question

One iteration samples all images (Algorithm 2, lines 8-24), then learns what was chosen (25-28). A
step of the run is either some images or one update. Departures from the paper:

 1. Appendix F's system prompts open the user's turn: templates differ in whether they have a system
    turn (that of LLaVA-1.6-Mistral has none). Training asks the short question alone.
 2. The detector is asked for the objects that z_p names; the service finds them. Thresholds are its
    authors' (the paper gives none). Where nothing is found there is no guided sample.
 3. Boxes are written as corners, as text and prompt say; Figure 27b's are centre and size.
    `pooled` shows what was found for all K samples.
 4. S and Delta are exact sums over the vocabulary at temperature 1, whatever the sampling.
 5. k = top_ratio * K, 20 % as in Table 11 and 4000 / 1000 (the text says 10 %). `per_token` ranks
    by the mean over tokens, which takes the advantage from long answers.
 6. "Degenerate samples" are those of `candidates.Outcome`.
 7. The loss is the mean over tokens; `loss_over` "sequences" is Algorithm 2's 1 / |B|.
 8. Visual queries "from the training history": the row's own question, or questions about objects,
    answered by the model as it was before the run; as many as descriptions were chosen.
 9. Not in the paper, so ours: temperature, nucleus, lengths, gradient norm; AdamW begins anew, with
    warm-up and cosine, in each iteration, and rows that do not fill a step are left out.
10. Our own loop, not TRL's SFTTrainer: it learns ids as sampled and resumes exactly; its loss is
    held against the one that SFTTrainer takes.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from typing import Literal

import torch
from torch import Tensor

from sightline_trainers import runs
from sightline_trainers.candidates import Candidate, CandidateFiles, tallies
from sightline_trainers.checkpoint import write_whole
from sightline_trainers.data import Row, load_image, read_rows
from sightline_trainers.descent import descend
from sightline_trainers.grounding import GroundingSource
from sightline_trainers.learning_rate import warm_cosine
from sightline_trainers.likelihood import token_likelihoods
from sightline_trainers.policy import Policy, load_policy
from sightline_trainers.projection import ProjectionConfig, Projector, load_seed
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import Schedule, shuffled
from sightline_trainers.tracking import write_output

METRICS = {
    "chosen": "candidates that are learned / candidates",
    "sound": "candidates without a flaw, chosen or outranked / candidates",
    "no_grounding": "candidates whose draft named nothing that was found / candidates",
    "S": "mean S(q, p) of sound candidates, nats",
    "S_chosen": "mean S(q, p) of chosen candidates, nats",
    "Delta": "mean Delta(q, p) of sound candidates, nats",
    "Delta_chosen": "mean Delta(q, p) of chosen candidates, nats",
    "tokens": "mean tokens of sound candidates",
    "objects": "mean boxes in the context of sound candidates",
    "opening": 'share of sound candidates that begin with "In the image"',
    "queries": "learned answers to visual queries / candidates",
    "reward_wait_s": "seconds that this step stood still for boxes",
    "loss": "-log p of chosen answers: mean over tokens, or sum / sequences",
    "grad_norm": "norm of the gradient before it is cut",
    "learning_rate": "of this update",
}
"""What each metric is, over all processes; down to reward_wait_s of sampling steps, then updates.

A candidate is a description; visual queries are counted under `queries` alone.
"""


@dataclass(frozen=True, kw_only=True)
class Config(runs.RunConfig):
    """What decides an SVP run. The defaults are the paper's for LLaVA-1.5-13B where it gives any.

    Raises:
        ValueError: a number is out of range, or fields contradict each other.
    """

    iterations: int = 1
    """Rounds of sampling and learning; the paper uses up to 3."""
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    images_per_step: int = 4
    """Images of one sampling step in one process."""
    inference_only: bool = False
    """iSVP: write each image's best guided answer to answers.jsonl and train nothing."""
    learning_rate: float = 2e-4
    """The highest of an iteration."""
    warmup_ratio: float = 0.03
    epochs: int = 1
    """Passes over what was chosen, per iteration."""
    batch: int = 16
    """Answers per update and process."""
    minibatch: int = 4
    """Answers per forward and backward pass."""
    loss_over: Literal["tokens", "sequences"] = "tokens"
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        super().__post_init__()
        counts = ("iterations", "images_per_step", "epochs", "batch", "minibatch")
        runs.require(self, *counts, least=1)
        runs.require(self, "learning_rate", "max_grad_norm", above=0)
        runs.require(self, "warmup_ratio", least=0, most=1)
        if self.inference_only and not self.projection.grounding:
            raise ValueError("inference_only needs guided answers: give projection.grounding true")


def sft_loss(logp_BT: Tensor, mask_BT: Tensor, *, divisor: Tensor) -> Tensor:
    """Minus the objective of Eq. 7: -sum of log p over the answers' tokens, divided."""
    return -(logp_BT * mask_BT).sum() / divisor


class Trainer:
    """Algorithm 2 in one process of a run.

    Args:
        config: what decides the run.
        run: its folder, processes and log.
        policy: the policy that is trained; it gives both p and q.
        source: where boxes come from.
        rows: the seed images.
        schedule: which of them each sampling step takes; an epoch is an iteration.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: runs.Run,
        policy: Policy,
        source: GroundingSource,
        rows: Sequence[Row],
        schedule: Schedule,
    ) -> None:
        self.config, self.run, self.source = config, run, source
        self.rows, self.schedule, self.policy = rows, schedule, policy
        self.projector = Projector(
            config.projection,
            seed=config.seed,
            policy=policy,
            source=source,
            wait=lambda answer: run.agree(partial(source.wait, answer), before_raising=self.save),
        )
        self.files = CandidateFiles(config.output_dir / "candidates", run.process)
        self.trained = {n: each for n, each in policy.named_parameters() if each.requires_grad}
        optimiser = torch.optim.AdamW(
            self.trained.values(), lr=config.learning_rate, weight_decay=0.0
        )
        self.model, self.optimiser = run.accelerator.prepare(policy, optimiser)
        self.step = 0

    def train(self) -> None:
        """Takes the steps that are left; saves as it goes, and at the end.

        Raises:
            RewardOutageError, RewardRefusedError: a step got no boxes; what was done is saved.
            DivergedError: a loss or gradient was not finite.
            ValueError: too few candidates are sound.
        """
        self.step = self.run.load(self.trained, self.optimiser)
        if self.run.resumed_from is None:
            self.files.clear()
            self.save()  # from here on the files are of this configuration
        for position, act in enumerate(islice(self._steps(), self.config.max_steps)):
            if position < self.step:
                continue
            metrics = act()
            self.step += 1
            shown = ("loss",) if "loss" in metrics else ("sound", "S_chosen")
            self.run.tracker.log(self.step, metrics, shown=shown)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()

    def _steps(self) -> Iterator[Callable[[], dict[str, float]]]:
        """The run's steps in order; how many updates there are follows from what was chosen."""
        config = self.config
        for iteration in range(config.iterations):
            for number in range(self.schedule.steps_per_epoch):
                yield partial(self.collect, iteration, number)
            if config.inference_only:
                return
            pairs = self.chosen(iteration)
            n_updates = config.epochs * (len(pairs) // self._update_size)
            for number in range(n_updates):
                yield partial(self.update, pairs, iteration, number, n_updates)

    def collect(self, iteration: int, number: int) -> dict[str, float]:
        """Lines 9-24 for some images; what an interrupted run has written stands."""
        waited_s = self.source.waited_s
        if self.run.any_failed(not self.files.has(iteration, number)):
            places = self.schedule.places(iteration * self.schedule.steps_per_epoch + number)
            seeds = [
                load_seed(self.rows, place=place, number=self.schedule.row(place))
                for place in places
            ]
            self.files.write(iteration, number, self.projector.project(seeds))
        metrics = self._sampling_metrics(self.files.part(iteration, number))
        return {**metrics, "reward_wait_s": self.source.waited_s - waited_s}

    def chosen(self, iteration: int) -> tuple[Candidate, ...]:
        """D of line 23, from all processes.

        Raises:
            ValueError: it does not fill one update.
        """
        self.run.accelerator.wait_for_everyone()
        candidates = self.files.all(iteration)
        pairs = tuple(each for each in candidates if each.outcome == "chosen")
        if len(pairs) < self._update_size:
            outcomes = Counter(each.outcome for each in candidates)
            raise ValueError(
                f"iteration {iteration + 1} chose {len(pairs)} of {len(candidates)} candidates "
                f"({', '.join(f'{name}: {n}' for name, n in outcomes.most_common())}), fewer than "
                f"the {self._update_size} of one update: give more images, or a smaller batch"
            )
        return pairs

    def update(
        self, pairs: Sequence[Candidate], iteration: int, number: int, n_updates: int
    ) -> dict[str, float]:
        """Lines 26-27: one step of Eq. 7 on the plain question; no boxes are shown."""
        config = self.config
        if number == 0:
            self.optimiser.state.clear()
        self.policy.train()
        mine = self._mine(pairs, iteration, number)
        divisor = self._divisor(mine)
        losses: list[Tensor] = []
        parts = list(cut(mine, config.minibatch))
        for part in parts:
            last = len(losses) + 1 == len(parts)
            with nullcontext() if last else self.run.accelerator.no_sync(self.model):
                loss = self._loss(part, divisor)
                self.run.accelerator.backward(loss)
            losses.append(loss.detach())
        rate = config.learning_rate * warm_cosine(number, n_updates, warmup=config.warmup_ratio)
        norm = descend(
            self.run,
            self.optimiser,
            self.trained,
            losses=torch.stack(losses),
            rate=rate,
            max_norm=config.max_grad_norm,
            step=self.step + 1,
        )
        mean = self.run.total(torch.stack(losses).double().sum()) / self.run.process.n_processes
        return {"loss": mean.item(), "grad_norm": norm, "learning_rate": rate}

    @property
    def _update_size(self) -> int:
        """Answers of one update in all processes."""
        return self.config.batch * self.run.process.n_processes

    def _mine(self, pairs: Sequence[Candidate], iteration: int, number: int) -> Sequence[Candidate]:
        """This process's answers in an update: all shuffled anew for each pass."""
        epoch, position = divmod(number, len(pairs) // self._update_size)
        order = shuffled(len(pairs), self.config.seed, iteration, epoch)
        start = position * self._update_size + self.run.process.rank * self.config.batch
        return [pairs[place] for place in order[start : start + self.config.batch]]

    def _divisor(self, mine: Sequence[Candidate]) -> Tensor:
        """This process's share of the whole update's tokens or sequences."""
        # DDP averages the gradients of the processes, so each divides by its share
        count = sum(len(each.ids) if self.config.loss_over == "tokens" else 1 for each in mine)
        counted = torch.tensor(float(count), device=self.run.accelerator.device)
        return self.run.total(counted) / self.run.process.n_processes

    def _loss(self, pairs: Sequence[Candidate], divisor: Tensor) -> Tensor:
        prompts = [
            self.policy.prompts.encode(load_image(self.rows[each.row])[0], each.prompt)
            for each in pairs
        ]
        answers = [each.ids for each in pairs]
        logp_BT, mask_BT = token_likelihoods(self.policy, prompts, answers, model=self.model)
        return sft_loss(logp_BT, mask_BT, divisor=divisor)

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        self.run.save(self.step, self.trained, self.optimiser)

    def write_answers(self) -> None:
        """iSVP: each image's best guided answer; its first draft where none is sound."""
        self.run.accelerator.wait_for_everyone()
        if not self.run.process.leads:
            return
        described = [each for each in self.files.all(0) if each.kind == "description"]
        lines = [
            json.dumps(_answer(list(of_image), self.projector.score), ensure_ascii=False)
            for _, of_image in groupby(described, key=lambda each: each.place)
        ]
        path = self.config.output_dir / "answers.jsonl"
        write_whole(path, "".join(f"{line}\n" for line in lines))
        write_output(f"answers: {path}")

    def _sampling_metrics(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        parts = tallies(candidates)
        counted = torch.tensor(list(parts.values()), dtype=torch.float64)
        totals: list[list[float]] = self.run.total(counted.to(self.run.accelerator.device)).tolist()
        return {
            name: above / below if below else math.nan
            for name, (above, below) in zip(parts, totals, strict=True)
        }


def _answer(
    of_image: Sequence[Candidate], score: Callable[[Candidate], float]
) -> dict[str, str | int]:
    chosen = [each for each in of_image if each.outcome == "chosen"]
    best = max(chosen, key=score, default=None)
    shown = best or of_image[0]
    return {
        "row": shown.row,
        "origin": shown.origin,
        "draft": shown.draft,
        "context": shown.context,
        "answer": shown.draft if best is None else best.text,
    }


def train(config: Config, *, resume: bool = False) -> None:
    """One run in this process, from the seed images to the exported adapter, or iSVP's answers.

    Raises:
        ValueError: the configuration, the data or the run's folder cannot be used.
        RewardOutageError, RewardRefusedError: a step got no boxes.
        DivergedError: a loss or gradient was not finite.
    """
    rows = read_rows(config.data)
    accelerator = runs.build_accelerator(config.reward.patience_s)
    schedule = Schedule(
        n_rows=len(rows),
        batch=config.images_per_step,
        epochs=1 if config.inference_only else config.iterations,
        max_steps=None,
        seed=config.seed,
        rank=accelerator.process_index,
        n_processes=accelerator.num_processes,
    )
    sampled = schedule.steps_per_epoch * config.images_per_step * accelerator.num_processes
    if config.inference_only and sampled != len(rows):
        raise ValueError(
            f"{len(rows)} rows are no multiple of {config.images_per_step} images_per_step in "
            f"{accelerator.num_processes} processes, so some would get no answer: give a divisor"
        )
    n_steps = _most_steps(config, schedule, sampled)
    run = runs.Run(config, method="svp", n_steps=n_steps, accelerator=accelerator, resume=resume)
    with run.tracker, GroundingSource(config.reward, say=run.tracker.say) as source:
        runs.seed_everything(config.seed)
        policy = load_policy(config.policy, seed=config.seed)
        run.write_manifest(source.info(), n_rows=len(rows), metrics=METRICS)
        trainer = Trainer(
            config, run=run, policy=policy, source=source, rows=rows, schedule=schedule
        )
        trainer.train()
        if config.inference_only:
            trainer.write_answers()
        else:
            run.finish(policy, waited_s=source.waited_s)


def _most_steps(config: Config, schedule: Schedule, n_images: int) -> int:
    """The run's steps if every image has k sound candidates."""
    if config.inference_only:
        return schedule.n_steps
    answers = n_images * config.projection.k * (1 if config.projection.queries == "none" else 2)
    per_update = config.batch * schedule.n_processes
    n_updates = config.iterations * config.epochs * (answers // per_update)
    steps = schedule.n_steps + n_updates
    return steps if config.max_steps is None else min(steps, config.max_steps)
