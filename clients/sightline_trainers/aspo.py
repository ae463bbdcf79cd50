"""ASPO: sentence-weighted preference optimisation (arXiv 2505.19100). Knows the method, no HTTP.

    symbol          variable             shape   meaning
    x               Case.prompt                  question and clean image
    y_c, y_r        Case.pair                    chosen and rejected answer, as sampled ids
    s_i             Case.segments                the K sentences of y_c, which partition its tokens
    lr_i            y.lr_BK              (B, K)  log pi_theta(s_i) - log pi_ref(s_i); 0 past K
    lr of y_r       y.rejected_lr_B      (B,)    the same of the whole rejected answer
    S_i, S'_i       cosines              B x K   similarity to the image (Eq. 6), min-max (Eq. 7)
    PPL_i, PPL'_i   perplexities         B x K   perplexity (Eq. 9), negated and min-max
    w_i             weight_BK            (B, K)  alpha S' + (1 - alpha) PPL' (Eq. 10), in [0, 1]
    R_c, R_c*       plain_B, weighted_B  (B,)    sums of lr_i and of (1 + w_i) lr_i; beta cancels
    k = R_c / R_c*  k_B                  (B,)    the normaliser of Eq. 12
    M*              margin_B             (B,)    Eq. 12; DPO's M (Eq. 11) where all w are 0

Pairs come from `seva`, pi_ref is the policy with its adapter off. Departures from the paper:

 1. k is detached. With its gradient, k R_c* = R_c for any weights: ASPO would be DPO to the last
    digit. Detached, the loss still has DPO's value, and the chosen sentences share its gradient in
    proportion to 1 + w_i. The weights are detached too.
 2. k is guarded: 0/0 (the first step) becomes its limit K / sum(1 + w_i), and k is held in
    [1/2, 1], its range where all lr_i have one sign; outside, it would flip or blow up the
    gradient. `normaliser` "weights" always takes the limit, "none" takes 1.
 3. PPL_i is the current policy's, from the same forward pass; `perplexity` "service" asks for a
    fixed model's instead.
 4. The end token belongs to the last sentence. A metric that is equal for all sentences is 0.
 5. `level` "response" has one segment, so that within an answer nothing is left to weigh:
    min-max and k then run over the minibatch. At "token" S_i is the similarity of a token's word.
 6. Pairs are learnt once per epoch (SeVa lists each twice) and the noise is seeded per image.
 7. An own loop on accelerate instead of TRL's DPOTrainer: ids are as sampled, resuming is exact,
    InstructBLIP works. The tests hold loss and gradient against TRL's.
 8. Not in the paper, so ours: AdamW, gradient norm; warm-up is 0 as in SeVa.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline import Image
from sightline_core.aspo import min_max, normalized_perplexities
from sightline_trainers import runs, seva
from sightline_trainers.checkpoint import Process
from sightline_trainers.data import Row, load_image, read_rows
from sightline_trainers.descent import descend
from sightline_trainers.learning_rate import warm_cosine
from sightline_trainers.pair_log_probs import Case, PairLogProbs, pair_log_probs
from sightline_trainers.policy import Policy, load_policy
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import Schedule
from sightline_trainers.segment_scores import Question, SegmentScores, SegmentSource
from sightline_trainers.segments import Level, cut_answer

Normaliser = Literal["ratio", "weights", "none"]

METRICS = {
    "loss": "mean over pairs of -log sigma(M*)",
    "margin": "mean over pairs of M*",
    "accuracy": "pairs with M* > 0 / pairs",
    "chosen_reward": "mean over pairs of R_c = beta (log pi_theta - log pi_ref) of the chosen",
    "rejected_reward": "the same of the rejected",
    "segments": "segments of chosen answers / pairs",
    "weight": "mean over pairs of the mean of w_i",
    "k": "mean over pairs of the normaliser",
    "guarded": "pairs whose M* is not DPO's M (k guarded, or another normaliser) / pairs",
    "log_prob": "mean over pairs of log pi_theta per chosen token, nats",
    "grad_norm": "norm of the gradient before it is cut",
    "learning_rate": "of this step",
    "reward_wait_s": "seconds that this step stood still for rewards",
}
"""What each metric is; sums and counts run over all processes, one optimiser step."""

_SMALLEST_SUM = 1e-6
"""Nats below which |R_c* / beta| counts as 0."""
_SAME = 1e-4
"""How far apart two margins are that count as equal."""


@dataclass(frozen=True, kw_only=True)
class Config(runs.RunConfig):
    """What decides an ASPO or DPO run. The defaults are the paper's for LLaVA-1.5.

    Raises:
        ValueError: a number is out of range, or a combination is impossible.
    """

    pairs: seva.PairConfig = field(default_factory=seva.PairConfig)
    loss: Literal["aspo", "dpo"] = "aspo"
    """dpo: the baseline, all weights 0."""
    level: Level = "sentence"
    """What is weighed."""
    metrics: Literal["S", "P", "S+P"] = "S+P"
    """Image-text similarity, textual perplexity, or both."""
    alpha: float = 0.5
    """The share of S' with "S+P" (Eq. 10)."""
    normaliser: Normaliser = "ratio"
    """R_c / R_c*, guarded; its limit K / sum(1 + w) always; or none."""
    perplexity: Literal["policy", "service"] = "policy"
    """Whose perplexity: the policy's as it is, or that of the model behind /perplexity."""
    beta: float = 0.1
    learning_rate: float = 2e-6
    """At the beginning; it falls to 0 along a cosine."""
    epochs: int = 1
    """Passes over the pairs."""
    minibatch: int = 5
    """Pairs per backward pass."""
    accumulation: int = 2
    """Minibatches per optimiser step."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        super().__post_init__()
        runs.require(self, "epochs", "minibatch", "accumulation", least=1)
        runs.require(self, "learning_rate", "beta", "max_grad_norm", above=0)
        runs.require(self, "alpha", least=0, most=1)
        if self.perplexity == "service" and self.level == "token":
            raise ValueError(
                'perplexity is "service" and level "token": the service has other tokens than the '
                'policy, choose level "sentence" or "response"'
            )

    @property
    def similarity_share(self) -> float:
        """alpha of Eq. 10 for the chosen metrics."""
        return {"S": 1.0, "P": 0.0, "S+P": self.alpha}[self.metrics]

    @property
    def asks_cosines(self) -> bool:
        """Whether S is needed."""
        return self.loss == "aspo" and self.similarity_share > 0

    @property
    def asks_perplexities(self) -> bool:
        """Whether PPL is needed from the service."""
        given = self.loss == "aspo" and self.perplexity == "service"
        return given and self.similarity_share < 1


def weights(
    cosines: Sequence[float], perplexities: Sequence[float], *, alpha: float
) -> tuple[float, ...]:
    """w_i of Eq. 10 for the segments of one answer, in [0, 1]; alpha 0 and 1 leave one metric out.

    Raises:
        ValueError: a number is not finite.
    """
    similar = min_max(cosines) if alpha > 0 else (0.0,) * len(perplexities)
    confident = normalized_perplexities(perplexities) if alpha < 1 else (0.0,) * len(cosines)
    return tuple(alpha * s + (1 - alpha) * p for s, p in zip(similar, confident, strict=True))


@torch.no_grad()
def normaliser(
    lr_BK: Tensor, weight_BK: Tensor, count_B: Tensor, *, kind: Normaliser, level: Level
) -> Tensor:
    """k of Eq. 12, (B,), guarded; `count_B` is each answer's number of segments."""
    plain_B, weighted_B = lr_BK.sum(1), ((1 + weight_BK) * lr_BK).sum(1)
    total_B = count_B + weight_BK.sum(1)
    if level == "response":
        sums = (plain_B, weighted_B, total_B, count_B)
        plain_B, weighted_B, total_B, count_B = (each.sum().expand_as(each) for each in sums)
    limit_B = count_B / total_B
    if kind == "weights":
        return limit_B
    if kind == "none":
        return torch.ones_like(limit_B)
    vanishes_B = weighted_B.abs() < _SMALLEST_SUM
    ratio_B = plain_B / weighted_B.masked_fill(vanishes_B, 1.0)
    return torch.where(vanishes_B, limit_B, ratio_B).clamp(0.5, 1.0)


def aspo_margin(
    lr_BK: Tensor, weight_BK: Tensor, k_B: Tensor, rejected_lr_B: Tensor, *, beta: float
) -> Tensor:
    """M* of Eq. 12, (B,); with weights 0 and k 1 it is M of Eq. 11. The loss is -log sigma(M*)."""
    return beta * (k_B * ((1 + weight_BK) * lr_BK).sum(1) - rejected_lr_B)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One step's pairs in this process; their scores may be under way."""

    cases: list[Case]
    scores: "Future[list[SegmentScores]]"


class Trainer:
    """Algorithm 1 in one process of a run.

    Args:
        config: what decides the run.
        run: its folder, processes and log.
        policy: the policy that is trained.
        source: where scores come from.
        rows: all images and prompts.
        pairs: the pairs to learn from.
        schedule: which of them each step takes.
    """

    def __init__(
        self,
        config: Config,
        run: runs.Run,
        policy: Policy,
        source: SegmentSource,
        *,
        rows: Sequence[Row],
        pairs: Sequence[seva.Pair],
        schedule: Schedule,
    ) -> None:
        self.config, self.run, self.policy, self.source = config, run, policy, source
        self.rows, self.pairs, self.schedule = rows, pairs, schedule
        self.trained = {n: each for n, each in policy.named_parameters() if each.requires_grad}
        optimiser = torch.optim.AdamW(
            self.trained.values(), lr=config.learning_rate, weight_decay=0.0
        )
        self.model, self.optimiser = run.accelerator.prepare(policy, optimiser)
        self.step = 0

    def train(self) -> None:
        """Takes the steps that are left; saves as it goes, and at the end.

        Raises:
            RewardOutageError, RewardRefusedError: a step got no scores; what was done is saved.
            DivergedError: a loss or gradient was not finite.
        """
        self.step = self.run.load(self.trained, self.optimiser)
        total = self.schedule.n_steps
        self.policy.train()
        following = self.ask(self.step) if self.step < total else None
        while (current := following) is not None:
            waited_s = self.source.waited_s
            # the next step's scores are asked for while this one learns
            following = self.ask(self.step + 1) if self.step + 1 < total else None
            metrics = self.update(current, self._wait(current))
            metrics["reward_wait_s"] = self.source.waited_s - waited_s
            self.step += 1
            self.run.tracker.log(self.step, metrics, shown=("margin", "accuracy", "loss"))
            if self.step % self.config.save_every == 0 or self.step == total:
                self.save()

    def ask(self, step: int) -> Lesson:
        """A step's pairs, cut into segments; their scores are asked for in the background."""
        config = self.config
        pairs = [self.pairs[self.schedule.row(place)] for place in self.schedule.places(step)]
        rows = [self.rows[pair.row] for pair in pairs]
        loaded = [load_image(row) for row in rows]
        cases = [
            Case(
                pair,
                self.policy.prompts.encode(image, row.prompt),
                cut_answer(pair.chosen, pair.chosen_offsets, config.level),
            )
            for row, pair, (image, _) in zip(rows, pairs, loaded, strict=True)
        ]
        questions = [
            Question(row.origin, Image(data), row.prompt, case.pair.chosen, case.segments)
            for row, case, (_, data) in zip(rows, cases, loaded, strict=True)
        ]
        scores = self.source.ask_segments(
            questions, cosines=config.asks_cosines, perplexities=config.asks_perplexities
        )
        return Lesson(cases, scores)

    def update(self, lesson: Lesson, scores: Sequence[SegmentScores]) -> dict[str, float]:
        """One optimiser step of Eq. 13 over the step's pairs; gives `METRICS`."""
        config, n_pairs = self.config, len(lesson.cases)
        found: list[dict[str, Tensor]] = []
        parts = list(cut(range(n_pairs), config.minibatch))
        for number, places in enumerate(parts, start=1):
            last = number == len(parts)
            with nullcontext() if last else self.run.accelerator.no_sync(self.model):
                loss_B, metrics = self._loss(lesson, scores, places)
                # DDP averages the gradients of the processes, which have as many pairs each
                self.run.accelerator.backward(loss_B.sum() / n_pairs)
            found.append(metrics)
        n_steps = config.epochs * self.schedule.steps_per_epoch
        rate = config.learning_rate * warm_cosine(self.step, n_steps)
        norm = descend(
            self.run,
            self.optimiser,
            self.trained,
            losses=torch.stack([metrics["loss"] for metrics in found]),
            rate=rate,
            max_norm=config.max_grad_norm,
            step=self.step + 1,
        )
        sums = [torch.stack([metrics[name] for metrics in found]).sum() for name in found[0]]
        means = self.run.total(torch.stack(sums)) / (n_pairs * self.run.process.n_processes)
        named = dict(zip(found[0], means.tolist(), strict=True))
        return {**named, "grad_norm": norm, "learning_rate": rate}

    def _loss(
        self, lesson: Lesson, scores: Sequence[SegmentScores], places: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of a minibatch, (B,), and the sums of its metrics."""
        config = self.config
        y = pair_log_probs(self.policy, self.model, [lesson.cases[place] for place in places])
        weight_BK = self._weights(y, [scores[place] for place in places])
        count_B = (y.tokens_BK > 0).sum(1).float()
        k_B = normaliser(y.lr_BK, weight_BK, count_B, kind=config.normaliser, level=config.level)
        margin_B = aspo_margin(y.lr_BK, weight_BK, k_B, y.rejected_lr_B, beta=config.beta)
        loss_B = -logsigmoid(margin_B)
        with torch.no_grad():
            plain_B = y.lr_BK.sum(1)
            dpo_B = config.beta * (plain_B - y.rejected_lr_B)
            metrics = {
                "loss": loss_B,
                "margin": margin_B,
                "accuracy": margin_B > 0,
                "chosen_reward": config.beta * plain_B,
                "rejected_reward": config.beta * y.rejected_lr_B,
                "segments": count_B,
                "weight": weight_BK.sum(1) / count_B,
                "k": k_B,
                "guarded": (margin_B - dpo_B).abs() > _SAME,
                "log_prob": y.logp_BK.sum(1) / y.tokens_BK.sum(1),
            }
        return loss_B, {name: each.double().sum().detach() for name, each in metrics.items()}

    def _weights(self, y: PairLogProbs, scores: Sequence[SegmentScores]) -> Tensor:
        """w of a minibatch, (B, K), without gradient; 0 for DPO."""
        config = self.config
        weight_BK = torch.zeros_like(y.lr_BK)
        if config.loss == "dpo":
            return weight_BK
        cosines: list[Sequence[float]] = [each.cosines for each in scores]
        perplexities: list[Sequence[float]] = [each.perplexities for each in scores]
        if config.perplexity == "policy":
            perplexities = [*y.perplexities()]
        if config.level == "response":
            cosines, perplexities = [list(chain(*cosines))], [list(chain(*perplexities))]
            weight_BK = weight_BK.T
        for row, (similar, surprising) in enumerate(zip(cosines, perplexities, strict=True)):
            w = weights(similar, surprising, alpha=config.similarity_share)
            weight_BK[row, : len(w)] = weight_BK.new_tensor(w)
        return weight_BK.T if config.level == "response" else weight_BK

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        self.run.save(self.step, self.trained, self.optimiser)

    def _wait(self, lesson: Lesson) -> list[SegmentScores]:
        return self.run.agree(lambda: self.source.wait(lesson.scores), before_raising=self.save)


def train(config: Config, *, resume: bool = False) -> None:
    """One run in this process, from the data to the exported adapter.

    Raises:
        ValueError: the configuration, the data or the run's folder cannot be used.
        RewardOutageError, RewardRefusedError: a step got no scores.
        DivergedError: a loss or gradient was not finite.
    """
    rows = read_rows(config.data)
    accelerator = runs.build_accelerator(config.reward.patience_s)
    runs.seed_everything(config.seed)
    policy = load_policy(config.policy, seed=config.seed)
    answered = seva.build_pairs(
        policy.to(accelerator.device),
        rows,
        config.pairs,
        seed=config.seed,
        folder=(config.pairs.folder or config.output_dir / "pairs")
        / seva.digest(config.pairs, config.policy, config.data, seed=config.seed),
        process=Process(accelerator.process_index, accelerator.num_processes),
        barrier=accelerator.wait_for_everyone,
    )
    pairs = [pair for pair in answered if pair.fate == "kept"]
    schedule = Schedule(
        n_rows=len(pairs),
        batch=config.minibatch * config.accumulation,
        epochs=config.epochs,
        max_steps=config.max_steps,
        seed=config.seed,
        rank=accelerator.process_index,
        n_processes=accelerator.num_processes,
    )
    run = runs.Run(
        config, method=config.loss, n_steps=schedule.n_steps, accelerator=accelerator, resume=resume
    )
    with run.tracker, SegmentSource(config.reward, say=run.tracker.say) as source:
        facts = {"n_rows": len(rows), "pairs": seva.counts(answered), "metrics": METRICS}
        run.write_manifest(source.info(), **facts)
        trainer = Trainer(config, run, policy, source, rows=rows, pairs=pairs, schedule=schedule)
        trainer.train()
        run.finish(policy, waited_s=source.waited_s)
