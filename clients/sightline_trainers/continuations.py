"""Draws single sentences that continue a response. Knows transformers' generate; no reward.

Shapes: B rows, V words. All rows are drawn in one call, prompts padded on the left; the KV cache
of a prefix that several rows continue is computed once.
"""
# ruff: noqa: N806 - a tensor's name ends in its shape

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sightline_core.sentences import split_sentences
from sightline_trainers.beam import Draw
from sightline_trainers.policy import Policy, RowNoise, Sampling
from sightline_trainers.prompts import Prompt, collate, continued

_STOPS = frozenset(".!?…。！？｡．।؟۔\n\r\x85\u2028\u2029\ufffd")
"""What can end a sentence; the last stands for a part of a character."""


class SentenceSampler:
    """Draws a sentence after each of many prefixes, each row from its own seed.

    A sentence is complete when the text goes on with the next one: "3." is followed by a digit or
    not, "Mr." by a name. The tokens that show this are drawn and given up; because they were not
    the end token, a later continuation does not begin with it.

    Args:
        policy: the model.
        sampling: temperature, nucleus mass, and the most tokens of a sentence.
    """

    def __init__(self, policy: Policy, sampling: Sampling) -> None:
        self._policy = policy
        self._sampling = sampling

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[Prompt], prefixes: Sequence[Sequence[int]], seeds: Sequence[int]
    ) -> list[Draw]:
        """One sentence per row: its ids, its text and its mean log-probability.

        The mean is the policy's own (temperature 1, nothing suppressed) over the ids without the
        end token, given the prompt and the prefix.
        """
        policy = self._policy
        device = next(policy.model.parameters()).device
        inputs = self._inputs(prompts, [tuple(ids) for ids in prefixes], device)
        length: int = inputs["input_ids"].shape[1]
        chooser = _Chooser(seeds, self._warpers(), policy.end_ids, policy.never_sampled, device)
        ends = frozenset(policy.end_ids)
        stop = _NextSentence(length, len(seeds), policy.prompts.decode, self._stopping, ends)
        whole = self._generate(
            inputs,
            self._sampling.max_new_tokens + 1,
            logits_processor=LogitsProcessorList([chooser]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )
        log_probs = torch.stack(chooser.log_probs, dim=1).tolist()
        ids = whole.sequences[:, length:].tolist()
        return [self._draw(*row) for row in zip(ids, log_probs, stop.lengths, strict=True)]

    def _inputs(
        self, prompts: Sequence[Prompt], prefixes: Sequence[tuple[int, ...]], device: torch.device
    ) -> dict[str, Any]:
        """The rows' inputs; rows after the same prefix share what the model computes of it."""
        places: dict[Hashable, int] = {}
        rows: list[Prompt] = []
        index: list[int] = []
        for row, (prompt, ids) in enumerate(zip(prompts, prefixes, strict=True)):
            index.append(
                places.setdefault((id(prompt), ids) if self._can_share else row, len(rows))
            )
            if len(places) > len(rows):
                rows.append(self._after(prompt, ids))
        once = collate(rows, self._policy.prompts.pad_id, device)
        if len(rows) == len(index):
            return dict(once)
        cache = self._generate(once, 1).past_key_values
        cache.crop(-1)  # the last token is fed again, row by row
        cache.batch_select_indices(torch.tensor(index, device=device))
        repeated = {name: once[name][index] for name in ("input_ids", "attention_mask")}
        return {**repeated, "past_key_values": cache}

    def _after(self, prompt: Prompt, ids: Sequence[int]) -> Prompt:
        """The prompt with the beginning of its response."""
        if not ids:
            return prompt
        more = torch.tensor([ids], dtype=torch.long)
        answer_type = self._policy.prompts.family.answer_type
        return continued(prompt, more, torch.ones_like(more), answer_type=answer_type)

    def _generate(self, inputs: Mapping[str, Any], n_tokens: int, **options: Any) -> Any:  # noqa: ANN401 - untyped in transformers
        config = cast(Any, GenerationConfig)(
            do_sample=False,  # the chooser draws
            max_new_tokens=n_tokens,
            eos_token_id=list(self._policy.end_ids),
            pad_token_id=self._policy.prompts.pad_id,
            return_dict_in_generate=True,
        )
        return cast(Any, self._policy.model).generate(**inputs, generation_config=config, **options)

    @cached_property
    def _can_share(self) -> bool:
        """Whether generate goes on from a cut cache.

        Not where a model has its own generate or positions, which need the image again; nor where
        it attends to a window, whose cache forgets.
        """
        inner: Any = self._policy.model.get_base_model()
        positions = hasattr(getattr(inner, "model", inner), "get_rope_index")
        own = type(inner).generate is not cast(Any, GenerationMixin).generate
        forgets = any(cast(Any, DynamicCache)(config=inner.config.get_text_config()).is_sliding)
        return not (own or positions or forgets)

    def _draw(self, ids: Sequence[int], log_probs: Sequence[float], stopped: int | None) -> Draw:
        end = next((n for n, each in enumerate(ids) if each in self._policy.end_ids), None)
        n_text = min(stopped or self._sampling.max_new_tokens, len(ids))
        ended = stopped is None and end is not None and end <= n_text
        if ended:
            assert end is not None
            n_text = end
        text = self._policy.prompts.decode(list(ids[:n_text])).strip()
        mean = sum(log_probs[:n_text]) / max(n_text, 1)
        return Draw(tuple(ids[: n_text + ended]), text, mean, ended)

    def _warpers(self) -> LogitsProcessorList:
        warpers = LogitsProcessorList()
        if self._sampling.temperature != 1.0:
            warpers.append(TemperatureLogitsWarper(self._sampling.temperature))
        if self._sampling.top_p < 1.0:
            warpers.append(TopPLogitsWarper(self._sampling.top_p))
        return warpers

    @cached_property
    def _stopping(self) -> frozenset[int]:
        """The ids whose text can end a sentence."""
        prompts = self._policy.prompts
        count = len(prompts.tokenizer)
        return frozenset(n for n in range(count) if not _STOPS.isdisjoint(prompts.decode([n])))


class _Chooser(LogitsProcessor):
    """Leaves of each row's scores what is to be chosen from, and notes the choice's probability.

    The noise comes last, so that the largest score is the draw (see `RowNoise`).
    """

    def __init__(
        self,
        seeds: Sequence[int],
        warpers: LogitsProcessorList,
        end_ids: Sequence[int],
        never_sampled: Sequence[int],
        device: torch.device,
    ) -> None:
        self._warpers = warpers
        self._noise = RowNoise(seeds, device)
        self._end_ids, self._never_sampled = list(end_ids), list(never_sampled)
        self.log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The noisy scores, (B, V)."""
        log_p_BV = scores.float().log_softmax(-1)
        never = self._never_sampled + ([] if self.log_probs else self._end_ids)
        left_BV = scores.float().clone()
        left_BV[:, never] = -torch.inf
        warped_BV = self._warpers(cast(Any, input_ids), cast(Any, left_BV))
        noisy_BV = self._noise(input_ids, warped_BV)
        chosen_B1 = noisy_BV.argmax(-1, keepdim=True)
        self.log_probs.append(log_p_BV.gather(-1, chosen_B1)[:, 0])
        return noisy_BV


class _NextSentence(StoppingCriteria):
    """Ends a row when its text has gone on to a second sentence; notes the first's tokens."""

    def __init__(
        self,
        start: int,
        n_rows: int,
        decode: Callable[[list[int]], str],
        stopping: frozenset[int],
        end_ids: frozenset[int],
    ) -> None:
        self._start = start
        self._decode = decode
        self._stopping = stopping
        self._end_ids = end_ids
        self._open = dict.fromkeys(range(n_rows), False)  # with whether a stop was seen
        self.lengths: list[int | None] = [None] * n_rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:  # noqa: ANN401 - transformers' own
        """Which rows are complete, (B,)."""
        del scores, kwargs
        ids_BT = input_ids[:, self._start :].tolist()
        for row, seen_stop in list(self._open.items()):
            ids = ids_BT[row]
            if seen_stop:
                self.lengths[row] = self._first_sentence(ids)
            if self.lengths[row] is not None or ids[-1] in self._end_ids:
                del self._open[row]
            else:
                self._open[row] = seen_stop or ids[-1] in self._stopping
        done = [length is not None for length in self.lengths]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))

    def _first_sentence(self, ids: list[int]) -> int | None:
        """The tokens of the first sentence if there is a second."""
        pieces = split_sentences(self._decode(ids))
        if len(pieces) < 2:
            return None
        first = len(pieces[0].text.rstrip())
        length = len(ids) - 1
        while length > 1 and len(self._decode(ids[:length]).rstrip()) > first:
            length -= 1
        return length
