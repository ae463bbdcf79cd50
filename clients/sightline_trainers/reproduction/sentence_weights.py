"""How a trained ASPO policy weighs the sentences it learned from. Knows pairs; trains nothing."""

from dataclasses import replace
from itertools import islice

import torch

from sightline import Image
from sightline_trainers import aspo, seva
from sightline_trainers.data import SceneSource, load_image, read_rows
from sightline_trainers.pair_log_probs import Case, pair_log_probs
from sightline_trainers.policy import Policy
from sightline_trainers.rollout import cut
from sightline_trainers.runs import RunConfig
from sightline_trainers.segment_scores import Question, SegmentSource
from sightline_trainers.segments import cut_answer
from sightline_world.captions import mentioned
from sightline_world.scenes import scene

PAIRS = 128
"""How many pairs are looked at, the first of the run."""


@torch.no_grad()
def sentence_weights(
    policy: Policy, config: RunConfig, *, url: str
) -> list[list[tuple[float, bool]]]:
    """w_i (Eq. 10) of each sentence of the chosen answers, and whether it names the scene's alone.

    Args:
        policy: gives the perplexities.
        config: ASPO's, of a run on scenes of the world; its pairs are on the disk.
        url: the reward service, which gives the similarities.
    """
    assert isinstance(config, aspo.Config)
    rows = read_rows(config.data)
    cases: list[Case] = []
    questions: list[Question] = []
    truths: list[list[bool]] = []
    for pair in islice(_kept(config), PAIRS):
        row = rows[pair.row]
        image, data = load_image(row)
        segments = cut_answer(pair.chosen, pair.chosen_offsets, "sentence")
        cases.append(Case(pair, policy.prompts.encode(image, row.prompt), segments))
        questions.append(Question(row.origin, Image(data), row.prompt, pair.chosen, segments))
        assert isinstance(row.image, SceneSource)
        there = scene(row.image.split, row.image.index, seed=row.image.seed).layout.names
        truths.append([set(mentioned(text)) <= set(there) for text in segments.texts])
    weights: list[tuple[float, ...]] = []
    with SegmentSource(replace(config.reward, url=url)) as source:
        for places in cut(range(len(cases)), config.minibatch):
            asked = source.ask_segments(
                [questions[place] for place in places], cosines=True, perplexities=False
            )
            y = pair_log_probs(policy, policy, [cases[place] for place in places])
            weights += [
                aspo.weights(each.cosines, surprising, alpha=config.similarity_share)
                for each, surprising in zip(source.wait(asked), y.perplexities(), strict=True)
            ]
    return [list(zip(*each, strict=True)) for each in zip(weights, truths, strict=True)]


def _kept(config: aspo.Config) -> list[seva.Pair]:
    digest = seva.digest(config.pairs, config.policy, config.data, seed=config.seed)
    folder = (config.pairs.folder or config.output_dir / "pairs") / digest
    found = seva.PairFolder(folder, 0).read()
    return [found[row] for row in sorted(found) if found[row].fate == "kept"]
