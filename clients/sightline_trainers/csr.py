"""CSR: calibrated self-rewards and iterated DPO (its Algorithm 1). Knows the method, no HTTP.

    symbol              variable                 shape  meaning
    x, v                Case.prompt, .image             question and image
    s                   beam.Node                       one sentence, as the ids that were sampled
    R_T (Eq. 1)         Draw.language                   mean log pi(token) of s, nats
    R_I (Eq. 2)         Node.image                      max(100 cos(v, s), 0), from the service
    R (Eq. 3)           Node.score                      lambda R_I + (1 - lambda) R_T, on one scale
    R(y)                beam.path_value                 the mean of R over the sentences of y
    lambda              search.weight                   the image's share
    y_w, y_l            Preference.chosen, .rejected    the best and the worst finished path
    log pi_theta        chosen_N, rejected_N     (N,)   summed over y, under the trained policy
    log pi_theta_(t-1)  reference_chosen_N, ..   (N,)   the same under the last iteration's
    alpha (Eq. 4)       beta

Departures from the paper:

 1. Eq. 1 prints a product of probabilities, which vanishes beside R_I; the default is the mean
    log-probability, as in the released code, and without its diversity penalty.
 2. R_T and R_I have different units. The default ranks each among the siblings of one prefix
    (the code does too; here 1 is the best, ties share their mean rank, an only child has 0.5);
    `search.scale` "minmax" scales them, "raw" is Eq. 3 as printed.
 3. Siblings are drawn by temperature sampling, each from its own seed, instead of by group beam
    search; equal ones count once, empty ones and sentences that their path holds are left out.
 4. A sentence ends at . ? ! or a line's end where a next sentence begins (numbers, abbreviations
    and initials do not end one), at the end token, or after `max_sentence_tokens`.
 5. The calibrated score prunes, as in Algorithm 1; the released code prunes by the summed R_T
    alone: `search.prune` "lm". One best and two worst prefixes are kept, as there.
 6. R(y) is the mean over sentences, as in the code; the printed sum (`search.path_value` "sum")
    favours length.
 7. A row gives no pair if fewer than two paths finish, if both texts are equal, or if their values
    differ by no more than `min_margin`.
 8. Eq. 4 closes sigma's parenthesis too early: Eq. 5 with pi_theta_(t-1) is meant. The reference's
    log-probabilities are taken when an iteration's pairs are built, before its first step; the
    adapter goes on from iteration to iteration, and AdamW and the learning rate begin anew. The
    projector stays as it is.
 9. TRL's DPOTrainer is an oracle in the tests and not the base: pairs are sampled token ids, which
    it would tokenise again, and a killed run must go on exactly where it was.
10. Not in the paper, so ours: temperature, batch sizes, gradient norm.
11. `preference` "judge" is the self-rewarding baseline, see `judge`.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

import copy
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline_trainers import runs
from sightline_trainers.beam import SearchRules
from sightline_trainers.data import Row, load_image, read_rows
from sightline_trainers.descent import descend
from sightline_trainers.journal import Journal
from sightline_trainers.learning_rate import warm_cosine
from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.pair_building import (
    BeamBuilder,
    JudgeBuilder,
    PairBuilder,
    Record,
    add_references,
    prepare,
)
from sightline_trainers.policy import Policy, Sampling, export_adapter, load_policy
from sightline_trainers.preferences import Preference, summarise
from sightline_trainers.relevance import RelevanceSource
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import Schedule, derived_seed

METRICS = {
    "iteration": "1 to T",
    "loss": "mean over the step's pairs of the DPO loss",
    "accuracy": "share of the pairs whose chosen_reward exceeds the rejected_reward",
    "chosen_reward": "mean over pairs of beta * (log pi_theta - log pi_theta_(t-1)) of y_w",
    "rejected_reward": "the same of y_l",
    "grad_norm": "norm of the gradient before it is cut",
    "learning_rate": "AdamW's at this step",
    "reward_wait_s": "seconds that the run stood still for rewards since the last step",
    "pairs": "pairs of the iteration (this and all below on its first step only)",
    "dropped": "share of its rows that gave no pair",
    "chosen_value": "mean R(y_w) over pairs",
    "rejected_value": "mean R(y_l)",
    "chosen_image": "mean over pairs of the mean R_I of y_w's sentences (not with the judge)",
    "rejected_image": "the same of y_l",
    "chosen_tokens": "mean tokens of y_w",
    "rejected_tokens": "mean tokens of y_l",
    "search_s": "seconds that building the pairs took in this process",
}
"""What each metric is; means run over all processes."""

_LANES = 2  # one lane's sentences are scored while the other's are drawn


@dataclass(frozen=True, kw_only=True)
class Config(runs.RunConfig):
    """What decides a CSR run. The defaults are the paper's for LLaVA-1.5-7B where it gives any.

    Raises:
        ValueError: a number is out of range.
    """

    iterations: int = 3
    """T: search and DPO, over the same rows each time."""
    preference: Literal["search", "judge"] = "search"
    """Where pairs come from: the calibrated search, or the self-rewarding baseline."""
    search: SearchRules = field(default_factory=SearchRules)
    """The beam search; weight 0 and 1 are the ablations "only R_T" and "only R_I"."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_sentence_tokens: int = 74
    search_batch: int = 8
    """Prompts searched together; as many more are under way while these are scored."""
    generation_batch: int = 128
    """Sentences drawn together at most."""
    beta: float = 0.1
    """alpha of Eq. 4."""
    learning_rate: float = 1e-7
    """The peak; it rises over `warmup` and falls as a cosine, in each iteration."""
    warmup: float = 0.03
    """Share of an iteration's steps."""
    epochs: int = 1
    """Passes over the pairs of an iteration."""
    minibatch: int = 1
    """Pairs per backward pass."""
    accumulation: int = 1
    """Minibatches per optimiser step."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        super().__post_init__()
        sizes = ("iterations", "max_sentence_tokens", "search_batch", "generation_batch")
        runs.require(self, *sizes, "epochs", "minibatch", "accumulation", least=1)
        runs.require(self, "temperature", "beta", "learning_rate", "max_grad_norm", above=0)
        runs.require(self, "warmup", least=0, most=1)
        runs.require(self, "top_p", above=0, most=1)
        search = self.search
        runs.require(search, "candidates", "top", "bottom", "max_rounds", "max_tokens", least=1)
        runs.require(search, "weight", least=0, most=1)
        runs.require(search, "min_margin", least=0)


def dpo_loss(
    chosen_N: Tensor,
    rejected_N: Tensor,
    reference_chosen_N: Tensor,
    reference_rejected_N: Tensor,
    *,
    beta: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum over pairs of Eq. 5 and the sums of its parts, from summed log-probabilities."""
    chosen_reward_N = beta * (chosen_N - reference_chosen_N)
    rejected_reward_N = beta * (rejected_N - reference_rejected_N)
    loss = -logsigmoid(chosen_reward_N - rejected_reward_N).sum()
    metrics = {
        "loss": loss,
        "accuracy": (chosen_reward_N > rejected_reward_N).float().sum(),
        "chosen_reward": chosen_reward_N.sum(),
        "rejected_reward": rejected_reward_N.sum(),
    }
    return loss, {name: value.detach() for name, value in metrics.items()}


class Trainer:
    """Algorithm 1 in one process of a run.

    Args:
        config: what decides the run.
        run: its folder, processes and log.
        policy: the policy that is trained.
        source: where R_I comes from.
        rows: all images and prompts.
    """

    def __init__(
        self,
        config: Config,
        *,
        run: runs.Run,
        policy: Policy,
        source: RelevanceSource,
        rows: Sequence[Row],
    ) -> None:
        self.config, self.run, self.source = config, run, source
        self.rows, self.policy = rows, policy
        self.trained = {n: each for n, each in policy.named_parameters() if each.requires_grad}
        optimiser = torch.optim.AdamW(
            self.trained.values(), lr=config.learning_rate, weight_decay=0.0
        )
        self.model, self.optimiser = run.accelerator.prepare(policy, optimiser)
        self.fresh = copy.deepcopy(self.optimiser.state_dict())
        self.builder = self._builder()
        self.step = 0
        self.logged_wait_s = 0.0

    def train(self) -> None:
        """Goes through the iterations that are left; saves as it goes.

        Raises:
            ValueError: an iteration gave too few pairs.
            RewardOutageError, RewardRefusedError: no rewards came; what was done is saved.
            DivergedError: a loss or gradient was not finite.
        """
        self.step = self.run.load(self.trained, self.optimiser)
        self.save()  # so that journals are never continued by a run with another configuration
        first = 0
        for iteration in range(1, self.config.iterations + 1):
            if self.step == self.config.max_steps:
                break
            pairs, facts = self.collect(iteration, may_build=self.step == first)
            schedule = self._schedule(pairs, iteration)
            if self.step == first:
                self.optimiser.load_state_dict(copy.deepcopy(self.fresh))
            self.learn(iteration, pairs, schedule, first, facts)
            first += schedule.n_steps

    def collect(
        self, iteration: int, *, may_build: bool
    ) -> tuple[list[Preference], dict[str, float]]:
        """Lines 2-14: the iteration's pairs, in the order of rows, and their metrics.

        What the journals of the iteration hold is read, what they lack is built by the policy as
        it is.
        """
        started, process = time.monotonic(), self.run.process
        own = range(process.rank, len(self.rows), process.n_processes)
        journal = Journal(self._journal(iteration, process.rank))
        group = _LANES * self.config.search_batch
        n_done = journal.trim(group, len(own)) if may_build else len(own)
        n_most = -(-len(self.rows) // process.n_processes)
        self.policy.eval()
        for start in range(0, n_most, group):
            left = own[max(start, n_done) : start + group]
            records = self.run.agree(
                partial(self._built, iteration, left), before_raising=self.save
            )
            journal.append(records)
        self.run.accelerator.wait_for_everyone()
        parts = [
            Journal(self._journal(iteration, rank)).read() for rank in range(process.n_processes)
        ]
        pairs, facts = summarise(chain.from_iterable(parts), len(self.rows))
        return pairs, {**facts, "search_s": time.monotonic() - started}

    def learn(
        self,
        iteration: int,
        pairs: Sequence[Preference],
        schedule: Schedule,
        first: int,
        facts: dict[str, float],
    ) -> None:
        """Line 15: the iteration's steps of DPO that are left, and its adapter."""
        config = self.config
        self.policy.train()
        for number in range(self.step - first, schedule.n_steps):
            if self.step == config.max_steps:
                return
            share = warm_cosine(number, schedule.n_steps, warmup=config.warmup)
            rate = config.learning_rate * share
            taken = [pairs[schedule.row(place)] for place in schedule.places(number)]
            metrics = {"iteration": float(iteration), **self._update(taken, rate)}
            metrics["learning_rate"] = rate
            metrics["reward_wait_s"] = self.source.waited_s - self.logged_wait_s
            self.logged_wait_s = self.source.waited_s
            self.step += 1
            metrics |= facts if number == 0 else {}
            self.run.tracker.log(self.step, metrics, shown=("iteration", "loss", "accuracy"))
            last = number + 1 == schedule.n_steps
            if last and self.run.process.leads:
                export_adapter(self.policy, self._folder(iteration) / "adapter")
            if last or self.step % config.save_every == 0 or self.step == config.max_steps:
                self.save()

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        self.run.save(self.step, self.trained, self.optimiser)

    def _builder(self) -> PairBuilder:
        config = self.config
        whole = Sampling(config.search.max_tokens, config.temperature, config.top_p)
        if config.preference == "judge":
            return JudgeBuilder(self.policy, whole, min_margin=config.search.min_margin)
        sentence = Sampling(config.max_sentence_tokens, config.temperature, config.top_p)
        return BeamBuilder(
            self.policy,
            self.source,
            config.search,
            sentence,
            generation_batch=config.generation_batch,
        )

    def _built(self, iteration: int, numbers: Sequence[int]) -> list[Record]:
        if not numbers:
            return []
        seed = self.config.seed
        cases = [
            prepare(self.policy, n, self.rows[n], derived_seed(seed, iteration, n)) for n in numbers
        ]
        records = self.builder.build(list(cut(cases, self.config.search_batch)))
        add_references(self.policy, cases, records, minibatch=self.config.minibatch)
        tenths = [10 * (n + 1) // len(self.rows) for n in (numbers[0] - 1, numbers[-1])]
        if tenths[0] != tenths[1]:
            self.run.tracker.say(f"iteration {iteration}: {tenths[1]}0 % of the rows searched")
        return records

    def _schedule(self, pairs: Sequence[Preference], iteration: int) -> Schedule:
        process, batch = self.run.process, self.config.minibatch * self.config.accumulation
        if len(pairs) < batch * process.n_processes:
            raise ValueError(
                f"iteration {iteration} gave {len(pairs)} pairs of {len(self.rows)} rows, fewer "
                f'than the {batch * process.n_processes} of one step: see "dropped" in '
                f"{self._journal(iteration, 0)}, give more rows or a higher temperature"
            )
        return Schedule(
            n_rows=len(pairs),
            batch=batch,
            epochs=self.config.epochs,
            max_steps=None,
            seed=derived_seed(self.config.seed, iteration),
            rank=process.rank,
            n_processes=process.n_processes,
        )

    def _update(self, pairs: Sequence[Preference], rate: float) -> dict[str, float]:
        """One optimiser step over this process's pairs."""
        config = self.config
        sums: Counter[str] = Counter()
        batches = list(cut(pairs, config.minibatch))
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            with nullcontext() if last else self.run.accelerator.no_sync(self.model):
                loss, metrics = self._loss(batch)
                self.run.accelerator.backward(loss / len(pairs))
            sums.update({name: value.item() for name, value in metrics.items()})
        norm = descend(
            self.run,
            self.optimiser,
            self.trained,
            losses=torch.tensor(sums["loss"]),
            rate=rate,
            max_norm=config.max_grad_norm,
            step=self.step + 1,
        )
        totals = self.run.total(torch.tensor(list(sums.values()), dtype=torch.float64))
        n_pairs = len(pairs) * self.run.process.n_processes
        means = dict(zip(sums, (totals / n_pairs).tolist(), strict=True))
        return {**means, "grad_norm": norm}

    def _loss(self, pairs: Sequence[Preference]) -> tuple[Tensor, dict[str, Tensor]]:
        rows = [self.rows[pair.row] for pair in pairs]
        prompts = [self.policy.prompts.encode(load_image(row)[0], row.prompt) for row in rows]
        responses = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        log_probs = completion_log_probs(self.policy, prompts * 2, responses, model=self.model)
        references = [[p.chosen_reference, p.rejected_reference] for p in pairs]
        reference_N2 = torch.tensor(references, device=log_probs.device)
        chosen_N, rejected_N = log_probs.chunk(2)
        return dpo_loss(chosen_N, rejected_N, *reference_N2.T, beta=self.config.beta)

    def _folder(self, iteration: int) -> Path:
        return self.config.output_dir / f"iteration-{iteration}"

    def _journal(self, iteration: int, rank: int) -> Path:
        return self._folder(iteration) / f"pairs-{rank}.jsonl"


def train(config: Config, *, resume: bool = False) -> None:
    """One run in this process, from the data to the exported adapters.

    Raises:
        ValueError: the configuration, the data or the run's folder cannot be used, or too few pairs
            were found.
        RewardOutageError, RewardRefusedError: no rewards came.
        DivergedError: a loss or gradient was not finite.
    """
    rows = read_rows(config.data)
    accelerator = runs.build_accelerator(config.reward.patience_s)
    per_step = config.minibatch * config.accumulation * accelerator.num_processes
    most = config.iterations * config.epochs * (len(rows) // per_step)
    n_steps = min(most, config.max_steps or most)
    run = runs.Run(config, method="csr", n_steps=n_steps, accelerator=accelerator, resume=resume)
    with run.tracker, RelevanceSource(config.reward, say=run.tracker.say) as source:
        runs.seed_everything(config.seed)
        policy = load_policy(config.policy, seed=config.seed)
        run.write_manifest(source.info(), n_rows=len(rows), metrics=METRICS)
        Trainer(config, run=run, policy=policy, source=source, rows=rows).train()
        run.finish(policy, waited_s=source.waited_s)
