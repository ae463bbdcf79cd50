"""CSR's sentence-level beam search: grow, score, prune, choose. Pure; knows no model, no service.

A node is one sentence of a response, a path the sentences from the first to a node. Sentences are
kept as the token ids that were sampled, and a path's ids are never tokenised again.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline_core.csr import Mode, combine
from sightline_trainers.schedule import derived_seed

Prune = Literal["calibrated", "lm"]
PathValue = Literal["mean", "sum"]
Dropped = Literal["unfinished", "equal", "margin"]
"""Why a tree gives no pair: fewer than two finished paths, equal texts, values too close."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where one sentence is to be drawn: after these ids of that prompt, with this seed."""

    prompt: int
    ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampled sentence: its ids (the end token included), text, and mean log-probability.

    `ended` says that the end token followed.
    """

    ids: tuple[int, ...]
    text: str
    language: float
    ended: bool


Sampler = Callable[[Sequence[Start]], Sequence[Draw]]
"""Draws one sentence per start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A sentence with its scores.

    Attributes:
        number: its place among the tree's nodes, in the order of drawing.
        parent: the sentence before it.
        round: 0 for first sentences.
        draw: what was sampled.
        seed: with what.
        image: R_I, 100 * cosine cut at 0.
        language_scaled: R_T on the siblings' common scale.
        image_scaled: R_I on the siblings' common scale.
        score: the calibrated R of both.
    """

    number: int
    parent: "Node | None"
    round: int
    draw: Draw
    seed: int
    image: float
    language_scaled: float
    image_scaled: float
    score: float

    @property
    def path(self) -> tuple["Node", ...]:
        """The sentences from the first to this one."""
        return (*(self.parent.path if self.parent else ()), self)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the path."""
        return tuple(token for node in self.path for token in node.draw.ids)


def path_value(node: Node, how: PathValue) -> float:
    """R(y): the mean of the path's calibrated scores, or their sum as the paper prints it."""
    scores = [each.score for each in node.path]
    return sum(scores) / (len(scores) if how == "mean" else 1)


@dataclass(frozen=True, kw_only=True)
class SearchRules:
    """How a tree grows, is cut back, and what is chosen of it."""

    candidates: int = 5
    """Sentences drawn per prefix."""
    top: int = 1
    """Prefixes kept per round from the best."""
    bottom: int = 2
    """And from the worst."""
    weight: float = 0.9
    """lambda, the image's share; 0: only R_T, 1: only R_I."""
    scale: Mode = "rank"
    """How R_T and R_I of siblings are brought together: rank, minmax, or raw (Eq. 3 as printed)."""
    prune: Prune = "calibrated"
    """What decides which prefixes are kept: the calibrated score, or lm: the path's summed R_T."""
    path_value: PathValue = "mean"
    """How the scores of a path's sentences become one."""
    max_rounds: int = 16
    """Sentences of a response at most."""
    max_tokens: int = 1024
    """A prefix of so many tokens grows no more."""
    min_margin: float = 0.0
    """The values of chosen and rejected must differ by more than this."""


@dataclass(slots=True)
class Tree:
    """One prompt's search: all scored sentences, and which still grow or have ended."""

    seed: int
    nodes: list[Node] = field(default_factory=list[Node])
    active: list[Node | None] = field(default_factory=lambda: [None])
    finished: list[Node] = field(default_factory=list[Node])


Question = tuple[int, tuple[str, ...]]
"""A prompt's number and the sentences whose R_I is wanted."""


def search(
    seeds: Sequence[int], sample: Sampler, rules: SearchRules
) -> Generator[list[Question], list[tuple[float, ...]], list[Tree]]:
    """Grows one tree per seed, all in step, so that sentences are drawn in large batches.

    Yields each round's questions and is sent R_I per question and sentence; returns the trees.
    What a tree becomes follows from its seed and the draws alone, not from the other trees.
    """
    trees = [Tree(seed) for seed in seeds]
    for number in range(rules.max_rounds):
        starts = [
            Start(prompt, parent.ids if parent else (), derived_seed(tree.seed, number, place, n))
            for prompt, tree in enumerate(trees)
            for place, parent in enumerate(tree.active)
            for n in range(rules.candidates)
        ]
        if not starts:
            break
        drawn = iter(zip(sample(starts), starts, strict=True))
        families = [
            [_distinct(parent, drawn, rules.candidates) for parent in tree.active] for tree in trees
        ]
        questions = [
            (prompt, tuple(draw.text for family in each for draw, _ in family))
            for prompt, each in enumerate(families)
        ]
        asked = [question for question in questions if question[1]]
        answers = yield asked
        scores = {prompt: iter(given) for (prompt, _), given in zip(asked, answers, strict=True)}
        for prompt, (tree, each) in enumerate(zip(trees, families, strict=True)):
            _grow(tree, each, scores.get(prompt, iter(())), rules, number)
    return trees


Family = list[tuple[Draw, Start]]


def _distinct(parent: Node | None, drawn: Iterator[tuple[Draw, Start]], candidates: int) -> Family:
    """A parent's draws without the empty, the repeated, and those that its path holds already."""
    said = {_plain(node.draw.text) for node in parent.path} if parent else set[str]()
    family: dict[tuple[str, bool], tuple[Draw, Start]] = {}
    for _ in range(candidates):
        draw, start = next(drawn)
        text = _plain(draw.text)
        if text and text not in said:
            family.setdefault((text, draw.ended), (draw, start))
    return list(family.values())


def _grow(
    tree: Tree, families: Sequence[Family], images: Iterator[float], rules: SearchRules, number: int
) -> None:
    new: list[Node] = []
    for parent, family in zip(tree.active, families, strict=True):
        scores = [next(images) for _ in family]
        new += _scored(tree, parent, family, scores, rules, number)
    tree.finished += [node for node in new if node.draw.ended]
    growing = [n for n in new if not n.draw.ended and len(n.ids) < rules.max_tokens]
    tree.active = list(kept(growing, rules))


def _scored(
    tree: Tree,
    parent: Node | None,
    family: Family,
    images: Sequence[float],
    rules: SearchRules,
    number: int,
) -> list[Node]:
    """Siblings with their calibrated scores (Eq. 3)."""
    languages = [draw.language for draw, _ in family]
    scaled = [
        combine(languages, images, weight=weight, mode=rules.scale)
        for weight in (0.0, 1.0, rules.weight)
    ]
    for (draw, start), image, *scores in zip(family, images, *scaled, strict=True):
        node = Node(
            number=len(tree.nodes),
            parent=parent,
            round=number,
            draw=draw,
            seed=start.seed,
            image=image,
            language_scaled=scores[0],
            image_scaled=scores[1],
            score=scores[2],
        )
        tree.nodes.append(node)
    return tree.nodes[len(tree.nodes) - len(family) :]


def kept(nodes: Sequence[Node], rules: SearchRules) -> list[Node]:
    """The `top` best and `bottom` worst of a round, in the order of drawing; all if they are few.

    Of equal sentences the one on the better path counts as better, then the one drawn first.
    """
    if len(nodes) <= rules.top + rules.bottom:
        return list(nodes)

    def rank(node: Node) -> tuple[float, float, int]:
        if rules.prune == "lm":
            return (sum(each.draw.language for each in node.path), 0.0, -node.number)
        return (node.score, path_value(node, rules.path_value), -node.number)

    ordered = sorted(nodes, key=rank, reverse=True)
    chosen = ordered[: rules.top] + ordered[len(ordered) - rules.bottom :]
    return sorted(chosen, key=lambda node: node.number)


def choose(finished: Sequence[Node], rules: SearchRules) -> tuple[Node, Node] | Dropped:
    """The best and the worst finished path, of equal ones the first; or why there is no pair."""
    if len(finished) < 2:
        return "unfinished"
    values = [path_value(node, rules.path_value) for node in finished]
    best, worst = values.index(max(values)), values.index(min(values))
    if _response(finished[best]) == _response(finished[worst]):
        return "equal"
    if not values[best] - values[worst] > rules.min_margin:
        return "margin"
    return finished[best], finished[worst]


def _response(node: Node) -> str:
    return " ".join(_plain(each.draw.text) for each in node.path)


def _plain(text: str) -> str:
    return " ".join(text.split())


def tree_record(tree: Tree, rules: SearchRules) -> dict[str, Any]:
    """All sentences of a tree with their scores, as JSON values; `parent` is a node's number."""
    return {
        "seed": tree.seed,
        "nodes": [
            {
                "number": node.number,
                "parent": None if node.parent is None else node.parent.number,
                "round": node.round,
                "seed": node.seed,
                "text": node.draw.text,
                "ids": list(node.draw.ids),
                "ended": node.draw.ended,
                "language": node.draw.language,
                "image": node.image,
                "language_scaled": node.language_scaled,
                "image_scaled": node.image_scaled,
                "score": node.score,
            }
            for node in tree.nodes
        ],
        "finished": [
            {"node": node.number, "value": path_value(node, rules.path_value)}
            for node in tree.finished
        ],
    }
