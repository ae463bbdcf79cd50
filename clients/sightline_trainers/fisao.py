"""FiSAO: token-level rewards and clipped PPO (arXiv 2410.14148). Knows the method, no HTTP.

    symbol          variable            shape   meaning
    x, v            prompts             B       question and image
    y               ids_BT, mask_BT     (B, T)  sampled tokens; 1 on them, the end token included
    pi_theta        logp_BT             (B, T)  log-probabilities under the policy being updated
    pi_old          old_BT              (B, T)  the same under the policy that sampled y
    pi_ref          ref_BT              (B, T)  the same with the adapter off
    r_t (Eq. 14)    ratio_BT            (B, T)  pi_theta / pi_old
    N(S, ..)        reward_BT           (B, T)  Eq. 12 without its KL term, in [-1, 1]; mostly 0
    D_KL            kl_BT               (B, T)  the penalty of `kl_scope`
    R (Eq. 12)      advantage_BT        (B, T)  reward_BT - xi * kl_BT
    xi, epsilon     kl_coefficient, clip

Completions are padded on the right. Departures from the paper:

 1. Objects are words and phrases of the decoded text, not single sub-words; the last token of each
    is rewarded, where the word is complete. The service finds and scores them.
 2. Eq. 13 as printed, min(r, clip(r)) * R, has no floor where R < 0 and pulls further there once
    r > 1 + epsilon; the default is PPO's min(r R, clip(r) R), `literal_clip` the printed form.
 3. Eq. 14's denominator "before the update" is pi_old; pi_ref occurs in the KL alone.
 4. The KL is a constant of the rollout, without gradient. `kl_scope` "paper" is
    KL(pi_ref || pi_old) over the vocabulary at rewarded tokens; "all" is log pi_old - log pi_ref
    at every token.
 5. "R_t is the advantage estimate": the reward itself, without critic. `advantage` "gae" adds one.
 6. The sum over t is divided by the response tokens of the whole optimiser step, on all processes.
 7. Not in the paper, so ours: epsilon, batch sizes, sampling, AdamW without decay, gradient norm.
 8. `reward_level` "sentence" and "response" are the baselines: the score of each sentence, or of
    the whole, standardised over the rollout, halved and cut to [-1, 1], on its last token.
"""
# ruff: noqa: N803, N806, N815 - a tensor's name ends in its shape

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sightline_trainers import runs
from sightline_trainers.data import Row, read_rows
from sightline_trainers.descent import descend
from sightline_trainers.examples import write_rollouts
from sightline_trainers.gae import generalised_advantages, value_loss
from sightline_trainers.logprobs import masked_mean, token_log_probs
from sightline_trainers.policy import Policy, Sampling, load_policy
from sightline_trainers.rewards import Grades, RewardSource
from sightline_trainers.rollout import (
    Batch,
    Completions,
    Scores,
    aligned,
    complete,
    cut,
    join,
    score,
    take,
)
from sightline_trainers.schedule import Schedule, derived_seed, shuffled

KlScope = Literal["paper", "all"]

METRICS = {
    "reward": "sum of reward_BT / responses",
    "supported": "tokens with reward > 0 / responses",
    "hallucinated": "tokens with reward < 0 / responses",
    "graded": "graded tokens / responses: objects named, sentences, or 1",
    "tokens": "response tokens / responses",
    "finished": "responses with an end token / responses",
    "kl": "mean over response tokens of log pi_old - log pi_ref, nats",
    "entropy": "mean over response tokens of the entropy of pi_old, nats",
    "loss": "the mean over the step's minibatches of the PPO loss (and value loss)",
    "clip_share": "share of response tokens with |r - 1| > epsilon",
    "change": "mean over response tokens of r - 1 - log r (KL(pi_old || pi_theta), k3), nats",
    "grad_norm": "norm of the gradient before it is cut, mean over optimiser steps",
    "reward_wait_s": "seconds that this step stood still for rewards",
}
"""What each metric is; sums and counts run over all processes, one step's rollout."""


@dataclass(frozen=True, kw_only=True)
class Config(runs.RunConfig):
    """What decides a FiSAO run. The defaults are the paper's for LLaVA-1.5-7B where it gives any.

    Raises:
        ValueError: a number is out of range.
    """

    learning_rate: float = 5e-7
    epochs: int = 1
    """Passes over the data."""
    rollout_size: int = 32
    """Prompts per step and process; each gets one completion."""
    generation_batch: int = 8
    """Prompts generated together; their rewards are asked for while the next are generated."""
    minibatch: int = 4
    """Completions per backward pass."""
    accumulation: int = 2
    """Minibatches per optimiser step."""
    ppo_epochs: int = 4
    """Passes over each rollout."""
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    clip: float = 0.2
    """epsilon of Eq. 13."""
    literal_clip: bool = False
    """Eq. 13 as printed."""
    kl_coefficient: float = 0.2
    """xi of Eq. 12."""
    kl_scope: KlScope = "paper"
    """Penalise rewarded tokens only, or every token (steadier in long runs)."""
    reward_level: Literal["token", "sentence", "response"] = "token"
    advantage: Literal["reward", "gae"] = "reward"
    scale_advantages: bool = False
    """Divide by the root mean square over the tokens that have one; the sign is kept."""
    gae_lambda: float = 0.95
    value_coefficient: float = 0.1
    """Weight of the value loss with "gae"."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        super().__post_init__()
        counts = ("epochs", "rollout_size", "generation_batch", "minibatch", "accumulation")
        runs.require(self, *counts, "ppo_epochs", "max_new_tokens", least=1)
        runs.require(self, "learning_rate", "temperature", "clip", "max_grad_norm", above=0)
        runs.require(self, "kl_coefficient", "value_coefficient", least=0)
        runs.require(self, "top_p", "gae_lambda", above=0, most=1)


def penalised(
    reward_BT: Tensor, scores: Scores, mask_BT: Tensor, *, xi: float, scope: KlScope
) -> Tensor:
    """R of Eq. 12, (B, T): the reward minus xi times the KL of `scope`, 0 on padding."""
    if scope == "paper":
        return torch.where(reward_BT != 0, reward_BT - xi * scores.forward_kl_BT, 0) * mask_BT
    return (reward_BT - xi * (scores.old_BT - scores.ref_BT)) * mask_BT


def ppo_loss(
    logp_BT: Tensor,
    old_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    literal_clip: bool,
    n_tokens: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Minus the objective of Eq. 13, divided by `n_tokens`, and the metrics of `METRICS`."""
    log_ratio_BT = (logp_BT - old_BT) * mask_BT
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    if literal_clip:
        objective_BT = torch.minimum(ratio_BT, clipped_BT) * advantage_BT
    else:
        objective_BT = torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)
    loss = -(objective_BT * mask_BT).sum() / n_tokens
    with torch.no_grad():
        metrics = {
            "loss": loss.detach(),
            "clip_share": masked_mean(((ratio_BT - 1).abs() > clip).float(), mask_BT),
            "change": masked_mean(ratio_BT - 1 - log_ratio_BT, mask_BT),
        }
    return loss, metrics


def standardised(score_BT: Tensor, graded_BT: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """Sentence scores on the rewards' scale, (B, T): half their z-score, cut to [-1, 1]."""
    moments = torch.stack([(score_BT**power * graded_BT).sum() for power in (0, 1, 2)])
    count, first, second = total(moments.double()).unbind()
    mean = first / count.clamp(min=1)
    deviation = (second / count.clamp(min=1) - mean**2).clamp(min=1e-12).sqrt()
    return ((score_BT - mean) / (2 * deviation)).clamp(-1, 1).float() * graded_BT


@dataclass(frozen=True, slots=True)
class Rollout:
    """One step's experience in this process: what was sampled, and what each token earned."""

    completions: Completions
    old_BT: Tensor
    advantage_BT: Tensor
    return_BT: Tensor | None
    metrics: dict[str, float]


class Trainer:
    """Algorithm 1 in one process of a run.

    Args:
        config: what decides the run.
        run: its folder, processes and log.
        policy: the policy that is trained.
        source: where rewards come from.
        rows: all images and prompts.
        schedule: which of them each step takes.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: runs.Run,
        policy: Policy,
        source: RewardSource,
        rows: Sequence[Row],
        schedule: Schedule,
    ) -> None:
        self.config, self.run, self.source = config, run, source
        self.rows, self.schedule = rows, schedule
        self.policy, self.pad_id = policy, policy.prompts.pad_id
        self.trained = {n: each for n, each in policy.named_parameters() if each.requires_grad}
        optimiser = torch.optim.AdamW(
            self.trained.values(), lr=config.learning_rate, weight_decay=0.0
        )
        self.model, self.optimiser = run.accelerator.prepare(policy, optimiser)
        self.step = 0

    def train(self) -> None:
        """Takes the steps that are left; saves as it goes, and at the end.

        Raises:
            RewardOutageError, RewardRefusedError: a step got no rewards; what was done is saved.
            DivergedError: a loss or gradient was not finite.
        """
        self.step = self.run.load(self.trained, self.optimiser)
        total = self.schedule.n_steps
        while self.step < total:
            waited_s = self.source.waited_s
            rollout = self.collect()
            metrics = {**rollout.metrics, **self.update(rollout)}
            metrics["reward_wait_s"] = self.source.waited_s - waited_s
            self.step += 1
            self.run.tracker.log(self.step, metrics, shown=("reward", "hallucinated", "kl"))
            if self.step % self.config.save_every == 0 or self.step == total:
                self.save()

    def collect(self) -> Rollout:
        """Lines 2-4: samples y, and scores it while the service does."""
        config, source = self.config, self.source
        self.policy.eval()
        sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p)
        ask = {
            "token": source.ask_tokens,
            "sentence": source.ask_sentences,
            "response": source.ask_responses,
        }[config.reward_level]
        parts: list[Completions] = []
        answers: list[Future[list[Grades]]] = []
        for places in cut(self.schedule.places(self.step), config.generation_batch):
            seeds = [derived_seed(config.seed, place) for place in places]
            rows = [self.rows[self.schedule.row(place)] for place in places]
            parts.append(complete(self.policy, rows, sampling, seeds))
            answers.append(ask(parts[-1].responses))
        y = join(parts, self.pad_id)
        scores = score(self.policy, y, minibatch=config.minibatch, temperature=config.temperature)
        grades = self.run.agree(
            lambda: [grade for answer in answers for grade in source.wait(answer)],
            before_raising=self.save,
        )
        reward_BT = aligned([grade.values for grade in grades], y)
        graded_BT = aligned([grade.graded for grade in grades], y)
        if config.reward_level != "token":
            reward_BT = standardised(reward_BT, graded_BT, self.run.total)
        advantage_BT = penalised(
            reward_BT, scores, y.mask_BT, xi=config.kl_coefficient, scope=config.kl_scope
        )
        return_BT = None
        if config.advantage == "gae":
            advantage_BT, return_BT = generalised_advantages(
                advantage_BT, scores.value_BT, y.mask_BT, gae_lambda=config.gae_lambda
            )
        if config.scale_advantages:
            sums = torch.stack([(advantage_BT**2).sum(), (advantage_BT != 0).sum()])
            squares, count = self.run.total(sums).unbind()
            advantage_BT = advantage_BT / (squares / count.clamp(min=1)).sqrt().clamp(min=1e-6)
        if self.run.shows(self.step + 1):
            numbers = [self.schedule.row(place) for place in self.schedule.places(self.step)]
            write_rollouts(config.output_dir, self.step + 1, numbers, y.responses, grades)
        metrics = self._rollout_metrics(y, reward_BT, graded_BT, scores)
        return Rollout(y, scores.old_BT, advantage_BT, return_BT, metrics)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Lines 5-7: `ppo_epochs` passes of Eq. 13 over the rollout, in optimiser steps."""
        config, y = self.config, rollout.completions
        self.policy.train()
        found: list[dict[str, Tensor]] = []
        for epoch in range(config.ppo_epochs):
            order = shuffled(len(y.responses), config.seed, self.step, epoch)
            for rows in cut(order, config.minibatch * config.accumulation):
                # DDP averages the gradients of the processes, so each divides by its share
                n_tokens = (
                    self.run.total(y.mask_BT[list(rows)].sum()) / self.run.process.n_processes
                )
                batches = [take(y, part, self.pad_id) for part in cut(rows, config.minibatch)]
                for number, batch in enumerate(batches, start=1):
                    last = number == len(batches)
                    with nullcontext() if last else self.run.accelerator.no_sync(self.model):
                        loss, metrics = self._loss(rollout, batch, n_tokens)
                        self.run.accelerator.backward(loss)
                    found.append({**metrics, "loss": metrics["loss"] * len(batches)})
                norm = descend(
                    self.run,
                    self.optimiser,
                    self.trained,
                    losses=torch.stack([each["loss"] for each in found]),
                    rate=config.learning_rate,
                    max_norm=config.max_grad_norm,
                    step=self.step + 1,
                )
                found[-1]["grad_norm"] = n_tokens.new_tensor(norm)
        return self._update_metrics(found)

    def _loss(
        self, rollout: Rollout, batch: Batch, n_tokens: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        logits_BTV, value_BT = self.model(batch.inputs, batch.ids_BT, batch.mask_BT)
        loss, metrics = ppo_loss(
            token_log_probs(logits_BTV / config.temperature, batch.ids_BT),
            batch.of(rollout.old_BT),
            batch.of(rollout.advantage_BT),
            batch.mask_BT,
            clip=config.clip,
            literal_clip=config.literal_clip,
            n_tokens=n_tokens,
        )
        if rollout.return_BT is not None:
            critic = value_loss(
                value_BT, batch.of(rollout.return_BT), batch.mask_BT, n_tokens=n_tokens
            )
            loss = loss + config.value_coefficient * critic
        return loss, {**metrics, "loss": loss.detach()}

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        self.run.save(self.step, self.trained, self.optimiser)

    def _rollout_metrics(
        self, y: Completions, reward_BT: Tensor, graded_BT: Tensor, scores: Scores
    ) -> dict[str, float]:
        ends = torch.isin(y.ids_BT, torch.tensor(self.policy.end_ids, device=y.ids_BT.device))
        sums = {
            "reward": reward_BT,
            "supported": reward_BT > 0,
            "hallucinated": reward_BT < 0,
            "graded": graded_BT,
            "tokens": y.mask_BT,
            "finished": ends * y.mask_BT,
            "kl": (scores.old_BT - scores.ref_BT) * y.mask_BT,
            "entropy": scores.entropy_BT * y.mask_BT,
        }
        counted = torch.stack([each.sum().double() for each in sums.values()])
        totals = dict(zip(sums, self.run.total(counted).tolist(), strict=True))
        n_responses = len(y.responses) * self.run.process.n_processes
        per_token = {name: totals.pop(name) / totals["tokens"] for name in ("kl", "entropy")}
        return {name: value / n_responses for name, value in totals.items()} | per_token

    def _update_metrics(self, found: Sequence[dict[str, Tensor]]) -> dict[str, float]:
        names = ("loss", "clip_share", "change", "grad_norm")
        means = [torch.stack([m[n] for m in found if n in m]).mean().double() for n in names]
        totals = self.run.total(torch.stack(means)) / self.run.process.n_processes
        return dict(zip(names, totals.tolist(), strict=True))


def train(config: Config, *, resume: bool = False) -> None:
    """One run in this process, from the data to the exported adapter.

    Raises:
        ValueError: the configuration, the data or the run's folder cannot be used.
        RewardOutageError, RewardRefusedError: a step got no rewards.
        DivergedError: a loss or gradient was not finite.
    """
    rows = read_rows(config.data)
    accelerator = runs.build_accelerator(config.reward.patience_s)
    schedule = Schedule(
        n_rows=len(rows),
        batch=config.rollout_size,
        epochs=config.epochs,
        max_steps=config.max_steps,
        seed=config.seed,
        rank=accelerator.process_index,
        n_processes=accelerator.num_processes,
    )
    run = runs.Run(
        config, method="fisao", n_steps=schedule.n_steps, accelerator=accelerator, resume=resume
    )
    with run.tracker, RewardSource(config.reward, say=run.tracker.say) as source:
        runs.seed_everything(config.seed)
        policy = load_policy(config.policy, seed=config.seed, value_head=config.advantage == "gae")
        run.write_manifest(source.info(), n_rows=len(rows), metrics=METRICS)
        trainer = Trainer(
            config, run=run, policy=policy, source=source, rows=rows, schedule=schedule
        )
        trainer.train()
        run.finish(policy, waited_s=source.waited_s)
