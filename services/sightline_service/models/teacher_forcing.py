"""Log-probabilities of answers under a model that reads them. Knows torch and transformers' caches.

Answers may share an opening, an image and a prompt. A pass over the openings alone then gives each
answer's first token, and the keys and values that a second pass needs, over the answers alone.
"""

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from sightline_service.models.dialogue import Dialogue, Opening
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.rectangles import rectangles
from sightline_service.models.tensors import right_padded

log = logging.getLogger(__name__)

LogProbs = NDArray[np.float64]
_PASS = 128
"""What a forward pass costs besides its tokens, in tokens."""
_LOGITS = 1 << 24
"""Logits that are turned into probabilities at a time: 64 MiB in float32."""
_ROUNDING = {torch.float32: 1e-3}
_COARSE_ROUNDING = 0.25
"""Nats by which both ways may differ, for float32 and for the half types."""


class TeacherForcing:
    """A model that reads answers, each token given all before it.

    Args:
        model: the model, on its device.
        placement: device and arithmetic.

    `shares` says whether answers to one opening share the forward pass over it, which not every
    architecture can; `try_sharing` finds out.
    """

    def __init__(self, model: Any, placement: Placement) -> None:  # noqa: ANN401 - a class per architecture
        self.shares = False
        self._model = model
        self._placement = placement
        self._known = frozenset(inspect.signature(model.forward).parameters)
        # Models that see in several dimensions keep how far an image moved its text.
        self._positioned = [each for each in model.modules() if "rope_deltas" in vars(each)]

    def try_sharing(self, dialogues: Sequence[Dialogue]) -> None:
        """Shares from now on, if `dialogues` then have the scores of whole sequences.

        Args:
            dialogues: of at least two openings of equal length, one of which has two answers.
        """
        whole = np.concatenate(self.whole(dialogues))
        if "past_key_values" not in self._known:
            return
        try:
            shared = np.concatenate(self.shared(dialogues))
        except Exception as error:  # noqa: BLE001 - an architecture may fail at it in any way
            log.info("answers do not share their opening's forward pass: %s", error)
            return
        apart = float(np.abs(whole - shared).max())
        self.shares = apart <= _ROUNDING.get(self._placement.dtype, _COARSE_ROUNDING)
        if not self.shares:
            log.info("answers do not share their opening's forward pass: off by %.3g nats", apart)

    def gains(self, opening: Opening, n_answers: int) -> bool:
        """Whether an item's answers share its opening: by itself, whatever its neighbours.

        The two ways round differently, and a score must not depend on who is in the batch.
        """
        return self.shares and (n_answers - 1) * len(opening.ids) > _PASS

    def log_probs(self, dialogues: Sequence[Dialogue]) -> list[LogProbs]:
        """Returns the log-probabilities of each answer's tokens, in nats, in float32 arithmetic.

        The openings' image tensors have equal shapes.

        Raises:
            OutOfDeviceMemoryError: the device has no room for them together.
        """
        together = _sharing(dialogues)
        found: dict[int, LogProbs] = {}
        for places in together:
            found.update(self._placed(self.shared, dialogues, places))
        if rest := [place for place in range(len(dialogues)) if place not in found]:
            found.update(self._placed(self.whole, dialogues, rest))
        return [found[place] for place in range(len(dialogues))]

    def _placed(
        self,
        score: Callable[[Sequence[Dialogue]], list[LogProbs]],
        dialogues: Sequence[Dialogue],
        places: Sequence[int],
    ) -> dict[int, LogProbs]:
        return dict(zip(places, score([dialogues[place] for place in places]), strict=True))

    def whole(self, dialogues: Sequence[Dialogue]) -> list[LogProbs]:
        """As `log_probs`, with a row for each whole sequence."""
        found: dict[int, LogProbs] = {}
        with forward_pass():
            for places in rectangles([len(each.ids) for each in dialogues], overhead=_PASS):
                found.update(self._placed(self._whole_rows, dialogues, places))
        return [found[place] for place in range(len(dialogues))]

    def _whole_rows(self, dialogues: Sequence[Dialogue]) -> list[LogProbs]:
        ids, mask = right_padded([dialogue.ids for dialogue in dialogues], pad_id=0)
        # The vocabulary is wide: only the positions that predict answers get logits.
        first = min(dialogue.start for dialogue in dialogues) - 1
        logits = self._logits(
            ids,
            first,
            attention_mask=mask.to(self._placement.device),
            use_cache=False,
            **self._images([dialogue.opening for dialogue in dialogues]),
            **self._types([dialogue.types for dialogue in dialogues]),
        )
        first = ids.shape[1] - logits.shape[1]
        starts = [dialogue.start - 1 - first for dialogue in dialogues]
        return _chosen(logits, starts, [dialogue.answer for dialogue in dialogues])

    def shared(self, dialogues: Sequence[Dialogue]) -> list[LogProbs]:
        """As `log_probs`, with a row for each opening, which are all as long, and each answer."""
        openings = {id(dialogue.opening): dialogue.opening for dialogue in dialogues}
        place_of = {key: place for place, key in enumerate(openings)}
        rows = [place_of[id(dialogue.opening)] for dialogue in dialogues]
        with forward_pass():
            logits, cache = self._read([*openings.values()])
            of_first = logits[torch.tensor(rows, device=logits.device), -1:]
            firsts = _chosen(of_first, [0] * len(rows), [each.answer[:1] for each in dialogues])
            moved = [module.rope_deltas for module in self._positioned]
            rests: dict[int, LogProbs] = {}
            long = [place for place, each in enumerate(dialogues) if len(each.answer) > 1]
            answers = [dialogues[place].answer for place in long]
            for part in rectangles([len(each) for each in answers], overhead=_PASS) if long else []:
                of_row = torch.tensor([rows[long[n]] for n in part], device=self._placement.device)
                self._move(moved, of_row)
                found = self._continued(cache, of_row, [answers[n] for n in part])
                rests.update(zip((long[n] for n in part), found, strict=True))
        return [
            np.concatenate([first, rests[place]]) if place in rests else first
            for place, first in enumerate(firsts)
        ]

    def _read(self, openings: Sequence[Opening]) -> tuple[torch.Tensor, Cache]:
        """Returns the logits after each opening [openings, 1 or more, vocabulary], and a cache."""
        for module in self._positioned:
            module.rope_deltas = None  # of another batch
        cache = DynamicCache()
        ids = torch.tensor([opening.ids for opening in openings])
        logits = self._logits(
            ids,
            ids.shape[1] - 1,
            past_key_values=cache,
            use_cache=True,
            **self._images(openings),
            **self._types([opening.types for opening in openings]),
        )
        return logits, cache

    def _move(self, moved: Sequence[torch.Tensor | None], of_row: torch.Tensor) -> None:
        """Tells the model for each row how far its opening's image moved the text's positions."""
        for module, deltas in zip(self._positioned, moved, strict=True):
            module.rope_deltas = None if deltas is None else deltas[of_row]

    def _continued(
        self, cache: Cache, of_row: torch.Tensor, answers: Sequence[tuple[int, ...]]
    ) -> list[LogProbs]:
        """Scores the answers' second and later tokens; padding comes last, where nobody looks."""
        ids, _ = right_padded([answer[:-1] for answer in answers], pad_id=0)
        logits = self._logits(
            ids,
            0,
            past_key_values=Cache(layers=[_OpeningLayer(layer, of_row) for layer in cache.layers]),
            use_cache=True,
        )
        return _chosen(logits, [0] * len(answers), [answer[1:] for answer in answers])

    def _logits(self, ids: torch.Tensor, first: int, **inputs: Any) -> torch.Tensor:  # noqa: ANN401 - a class per architecture
        """Returns [rows, positions, vocabulary], from place `first` on where the model can."""
        if "logits_to_keep" in self._known:
            inputs["logits_to_keep"] = torch.arange(first, ids.shape[1])
        logits: torch.Tensor = self._model(
            input_ids=ids.to(self._placement.device), **inputs
        ).logits
        return logits

    def _images(self, openings: Sequence[Opening]) -> Mapping[str, torch.Tensor]:
        joined: dict[str, torch.Tensor] = {}
        for name in openings[0].images:
            value = torch.cat([opening.images[name] for opening in openings])
            dtype = self._placement.dtype if value.is_floating_point() else value.dtype
            joined[name] = value.to(self._placement.device, dtype)
        return joined

    def _types(self, types: Sequence[Mapping[str, tuple[int, ...]]]) -> Mapping[str, torch.Tensor]:
        """What tells tokens of images, prompts and answers apart, where the model asks for it."""
        joined: dict[str, torch.Tensor] = {}
        for name in self._known.intersection(types[0]):
            rows = [each[name] for each in types]
            joined[name] = right_padded(rows, pad_id=rows[0][-1])[0].to(self._placement.device)
        return joined


class _OpeningLayer(DynamicLayer):  # type: ignore[no-untyped-call] # transformers is untyped
    """Keys and values of openings, of which each row sees its own; nothing is kept of the rows."""

    def __init__(self, layer: Any, of_row: torch.Tensor) -> None:  # noqa: ANN401 - kinds of layers
        super().__init__()  # type: ignore[no-untyped-call] # transformers is untyped
        self.keys: torch.Tensor = layer.keys
        self.values: torch.Tensor = layer.values
        self.is_initialized = True
        self._of_row = of_row

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ANN401 - transformers' signature
        **kwargs: Any,  # noqa: ANN401 - transformers' signature
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns each row's opening and the row itself."""
        del args, kwargs
        keys = torch.cat([self.keys[self._of_row], key_states], dim=-2)
        return keys, torch.cat([self.values[self._of_row], value_states], dim=-2)


def _sharing(dialogues: Sequence[Dialogue]) -> list[list[int]]:
    """Returns the places of those that share, openings of one length together."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for place, dialogue in enumerate(dialogues):
        if dialogue.opening.is_shared:
            by_length[dialogue.start].append(place)
    return [*by_length.values()]


def _chosen(
    logits: torch.Tensor, starts: Sequence[int], ids: Sequence[tuple[int, ...]]
) -> list[LogProbs]:
    """Returns the log-probabilities of each row's ids, which its logits predict from a place on.

    Args:
        logits: [rows, positions, vocabulary].
        starts: of each row, the position that predicts its first id.
        ids: of each row, at least one.
    """
    counts = torch.tensor([len(row) for row in ids])
    rows = torch.arange(len(ids)).repeat_interleave(counts).to(logits.device)
    places = torch.cat(
        [torch.arange(start, start + len(row)) for start, row in zip(starts, ids, strict=True)]
    ).to(logits.device)
    wanted = torch.tensor([*chain.from_iterable(ids)], device=logits.device)
    step = max(_LOGITS // logits.shape[-1], 1)
    found = [
        torch.log_softmax(
            logits[rows[at : at + step], places[at : at + step]].float(), dim=-1
        ).gather(1, wanted[at : at + step, None])[:, 0]
        for at in range(0, len(wanted), step)
    ]
    flat = torch.cat(found).cpu().numpy().astype(np.float64)
    return np.split(flat, np.cumsum([len(row) for row in ids])[:-1])
