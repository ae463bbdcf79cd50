"""Lets a policy answer an exam. Knows policies, adapters and the verifier; measures nothing."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

from peft import set_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights

from sightline import Image, RewardClient
from sightline_eval.world_captions import encode_png
from sightline_proto import TokenRewardItem, TokenRewardRequest
from sightline_trainers.policy import SHIPPED, Policy, PolicyConfig, Sampling, load_policy
from sightline_trainers.prompts import Prompt
from sightline_trainers.reproduction.exam import Answers, Exam
from sightline_trainers.rollout import cut
from sightline_trainers.schedule import derived_seed
from sightline_world import weights
from sightline_world.captions import DESCRIBE

CAPTION_TOKENS = 96
_GREEDY = Sampling(max_new_tokens=CAPTION_TOKENS, temperature=0.0)
_SAMPLED = Sampling(max_new_tokens=CAPTION_TOKENS, temperature=1.0)
_YES_OR_NO = Sampling(max_new_tokens=4, temperature=0.0)
_BATCH = 50
_SCENES_PER_REQUEST = 20

Advance = Callable[[int], None]


def load_adapted(config: PolicyConfig, adapter: Path | None) -> Policy:
    """The policy as it is, or with an adapter that a run of this configuration exported.

    The adapter is added into the weights, which makes generation of a small model much faster.

    Raises:
        ValueError: the adapter is of another shape.
    """
    policy = load_policy(config, seed=0)
    if adapter is not None:
        found: Any = set_peft_model_state_dict(policy.model, load_peft_weights(str(adapter)))
        if found.unexpected_keys:
            raise ValueError(f"{adapter} does not fit the policy {config.model}")
    cast(Any, policy.model).merge_adapter()
    return policy.eval()


def answer(policy: Policy, exam: Exam, *, advance: Advance = lambda _: None) -> Answers:
    """All captions and answers; `advance` is told of each finished caption or answer."""
    described = [policy.prompts.encode(scene.image, DESCRIBE) for scene in exam.scenes]
    seeds = [derived_seed(scene.index) for scene in exam.scenes]
    return Answers(
        greedy=tuple(_said(policy, described, _GREEDY, seeds, advance)),
        sampled=tuple(_said(policy, described, _SAMPLED, seeds, advance)),
        pope=_pope(policy, exam, advance),
    )


def n_answers(exam: Exam) -> int:
    """How many captions and answers an exam takes."""
    return 2 * len(exam.scenes) + len(_asked(exam))


def score_objects(
    client: RewardClient, exam: Exam, captions: Sequence[str]
) -> tuple[tuple[float, ...], ...]:
    """100 * cosine of each object that a scene's caption names, by /token_reward.

    Raises:
        ValueError: the service could not score a scene.
        SightlineError: the service could not be asked.
    """
    scores: list[tuple[float, ...]] = []
    pairs = list(zip(exam.scenes, captions, strict=True))
    for some in cut(pairs, _SCENES_PER_REQUEST):
        items = tuple(
            TokenRewardItem(image=Image(encode_png(scene.image)), texts=(caption or ".",))
            for scene, caption in some
        )
        reply = client.send(TokenRewardRequest(items=items))
        for (scene, _), item in zip(some, reply.items, strict=True):
            if item.results is None:
                reason = item.error.message if item.error else "no result"
                raise ValueError(f"scene {scene.index} was not scored: {reason}")
            scores.append(tuple(span.score for span in item.results[0].spans))
    return tuple(scores)


def weights_digest(model: str | Path) -> str:
    """A hash of the weights in a model's folder; of the name where it is one of the hub."""
    shipped = SHIPPED.get(str(model))
    folder = Path(model) if shipped is None else weights.path(shipped)
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    for file in files:
        digest.update(file.read_bytes())
    if not files:
        digest.update(str(model).encode())
    return digest.hexdigest()[:16]


def _pope(policy: Policy, exam: Exam, advance: Advance) -> dict[str, dict[int, str]]:
    asked = _asked(exam)
    prompts = [policy.prompts.encode(exam.scenes[n].image, text) for n, text in asked]
    said = dict(zip(asked, _said(policy, prompts, _YES_OR_NO, [], advance), strict=True))
    return {
        split: {each.id: said[int(each.image), each.text] for each in questions}
        for split, questions in exam.questions.items()
    }


def _asked(exam: Exam) -> list[tuple[int, str]]:
    """Scene and question, once each; a scene's place is its index, because exams begin at 0."""
    questions = chain.from_iterable(exam.questions.values())
    return list(dict.fromkeys((int(each.image), each.text) for each in questions))


def _said(
    policy: Policy,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seeds: Sequence[int],
    advance: Advance,
) -> list[str]:
    texts: list[str] = []
    for places in cut(range(len(prompts)), _BATCH):
        some = [prompts[place] for place in places]
        drawn = [seeds[place] for place in places] if sampling.temperature > 0 else []
        ids_BT, mask_BT = policy.sample(some, sampling, drawn)  # noqa: N806 - shapes
        for ids, mask in zip(ids_BT, mask_BT, strict=True):
            texts.append(policy.prompts.decode(ids[mask == 1].tolist()).strip())
        advance(len(some))
    return texts
