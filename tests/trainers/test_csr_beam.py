"""CSR's search against brute force and a slow reference."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_core.csr import combine
from sightline_trainers.beam import (
    Draw,
    Node,
    SearchRules,
    choose,
    kept,
    path_value,
    search,
    tree_record,
)
from sightline_trainers.schedule import derived_seed

SENTENCES = ("A cat.", "A dog.", "A cup.")
END = 9


def language(path, sentence, ended):
    """log-probabilities of a tiny language model, different for every sentence and history."""
    return -0.1 * (1 + derived_seed(*(ord(c) for c in "|".join((*path, sentence))), ended) % 97)


def relevance(prompt, sentence):
    return float(derived_seed(prompt, *map(ord, sentence)) % 31)


def sampler(starts):
    """Enumerates: the n-th draw after a prefix is the n-th sentence, ending or not."""
    draws = []
    for n, start in enumerate(starts):
        path = [SENTENCES[token] for token in start.ids]
        number = n % (2 * len(SENTENCES))
        place, ended = number // 2, number % 2 == 1
        ids = (place, END) if ended else (place,)
        draws.append(Draw(ids, SENTENCES[place], language(path, SENTENCES[place], ended), ended))
    return draws


def grown(rules, seeds=(1, 2), sample=sampler):
    job = search(seeds, sample, rules)
    try:
        asked = next(job)
        while True:
            asked = job.send([tuple(relevance(p, t) for t in texts) for p, texts in asked])
    except StopIteration as end:
        return end.value


def brute_force(prompt, rules):
    """Every path of distinct sentences, with the mean of its calibrated scores."""
    values = {}
    for length in (1, 2, 3):
        for path in itertools.permutations(SENTENCES, length):
            scores = []
            for depth, sentence in enumerate(path):
                family = [
                    (text, ended)
                    for text in SENTENCES
                    if text not in path[:depth]
                    for ended in (False, True)
                ]
                languages = [language(path[:depth], *each) for each in family]
                images = [relevance(prompt, text) for text, _ in family]
                combined = combine(languages, images, weight=rules.weight, mode=rules.scale)
                scores.append(combined[family.index((sentence, depth == length - 1))])
            values[path] = sum(scores) / length
    return values


def texts(node):
    return tuple(each.draw.text for each in node.path)


@pytest.mark.parametrize("scale", ["rank", "minmax", "raw"])
@pytest.mark.parametrize("weight", [0.0, 0.4, 0.9, 1.0])
def test_without_pruning_the_search_finds_what_brute_force_finds(scale, weight):
    rules = SearchRules(candidates=6, top=50, bottom=50, scale=scale, weight=weight)
    for prompt, tree in enumerate(grown(rules)):
        expected = brute_force(prompt, rules)
        found = {texts(node): path_value(node, "mean") for node in tree.finished}
        assert found == pytest.approx(expected)
        best, worst = choose(tree.finished, rules)
        assert found[texts(best)] == max(found.values())
        assert found[texts(worst)] == min(found.values())
        assert best.ids == (*(SENTENCES.index(text) for text in texts(best)), END)


def slow_search(prompt, rules):
    """The same rules written out plainly over tuples: (path, calibrated scores, mean R_T sum)."""
    active, finished = [((), (), 0.0)], []
    for _ in range(rules.max_rounds):
        new = []
        for path, scores, total in active:
            family = [
                (text, ended) for text in SENTENCES if text not in path for ended in (False, True)
            ]
            languages = [language(path, *each) for each in family]
            images = [relevance(prompt, text) for text, _ in family]
            if family:
                combined = combine(languages, images, weight=rules.weight, mode=rules.scale)
                for (text, ended), score, r_t in zip(family, combined, languages, strict=True):
                    new.append(((*path, text), (*scores, score), total + r_t, ended))
        finished += [each[:3] for each in new if each[3]]
        growing = [each[:3] for each in new if not each[3]]
        if len(growing) > rules.top + rules.bottom:
            if rules.prune == "lm":
                by_score = sorted(growing, key=lambda each: -each[2])
            else:
                by_score = sorted(
                    growing, key=lambda each: (-each[1][-1], -sum(each[1]) / len(each[1]))
                )
            survivors = by_score[: rules.top] + by_score[-rules.bottom :]
            growing = [each for each in growing if each in survivors]
        active = growing
    return {path: sum(scores) / len(scores) for path, scores, _ in finished}


@pytest.mark.parametrize("prune", ["calibrated", "lm"])
@pytest.mark.parametrize(("top", "bottom"), [(1, 2), (2, 1), (1, 1)])
def test_the_pruned_search_equals_a_slow_reference(prune, top, bottom):
    rules = SearchRules(candidates=6, top=top, bottom=bottom, prune=prune, max_rounds=4)
    for prompt, tree in enumerate(grown(rules, seeds=range(5))):
        found = {texts(node): path_value(node, "mean") for node in tree.finished}
        assert found == pytest.approx(slow_search(prompt, rules))


def node(number, score, *, language=-1.0, parent=None, text=None, ended=False, image=1.0):
    return Node(
        number=number,
        parent=parent,
        round=0 if parent is None else parent.round + 1,
        draw=Draw((number,), text or f"Sentence {number}.", language, ended),
        seed=number,
        image=image,
        language_scaled=0.0,
        image_scaled=0.0,
        score=score,
    )


def numbers(nodes):
    return [each.number for each in nodes]


def test_one_best_and_two_worst_prefixes_are_kept():
    nodes = [node(n, score) for n, score in enumerate((0.3, 0.9, 0.1, 0.5, 0.2, 0.8))]
    assert numbers(kept(nodes, SearchRules())) == [1, 2, 4]


def test_few_prefixes_are_all_kept_and_none_twice():
    nodes = [node(n, n) for n in range(3)]
    assert numbers(kept(nodes, SearchRules())) == [0, 1, 2]
    assert numbers(kept(nodes[:2], SearchRules(top=2, bottom=2))) == [0, 1]


def test_of_equal_sentences_the_better_path_comes_first_then_the_earlier_draw():
    good, bad = node(0, 1.0), node(1, 0.0)
    nodes = [node(2, 0.5, parent=bad), node(3, 0.5, parent=good), node(4, 0.5, parent=good)]
    assert numbers(kept(nodes, SearchRules(top=1, bottom=1))) == [2, 3]


def test_pruning_by_the_language_model_ignores_the_image():
    first = node(0, 0.0, language=-5.0)
    nodes = [
        node(1, 0.5, language=-1.0, parent=first),
        node(2, 0.9, language=-2.0),
        node(3, 0.0, language=-3.0),
    ]
    by_language = SearchRules(prune="lm", top=1, bottom=1)
    assert numbers(kept(nodes, by_language)) == [1, 2]  # sums of -6, -2 and -3
    assert numbers(kept(nodes, SearchRules(top=1, bottom=1))) == [2, 3]


def test_of_equal_paths_the_first_is_chosen():
    nodes = [node(n, score, ended=True) for n, score in enumerate((0.2, 0.7, 0.7, 0.2))]
    best, worst = choose(nodes, SearchRules())
    assert (best.number, worst.number) == (1, 0)


def test_degenerate_trees_give_no_pair():
    one = node(0, 1.0, text="A cat.", ended=True)
    same = node(1, 0.0, text=" A  cat. ", ended=True)
    other = node(2, 0.8, text="A dog.", ended=True)
    assert choose([], SearchRules()) == "unfinished"
    assert choose([one], SearchRules()) == "unfinished"
    assert choose([one, same], SearchRules()) == "equal"
    assert choose([one, node(3, 1.0, ended=True)], SearchRules()) == "equal"
    assert choose([one, other], SearchRules(min_margin=0.3)) == "margin"
    assert choose([one, other], SearchRules(min_margin=0.1)) == (one, other)


def test_a_path_is_worth_the_mean_or_the_sum_of_its_sentences():
    last = node(1, 0.2, parent=node(0, 1.0))
    assert path_value(last, "mean") == 0.6
    assert path_value(last, "sum") == 1.2


def test_repeated_empty_and_already_said_sentences_are_no_candidates():
    script = {
        0: ["A cat.", "A cat.", " A  cat. ", "", "A dog."],
        1: ["A cat.", "A cup.", "A dog.", "A hat.", "A hat."],
    }
    asked = []

    def sample(starts):
        depth = len(starts[0].ids)
        return [
            Draw((n % 5,), script[min(depth, 1)][n % 5], -1.0, ended=False)
            for n in range(len(starts))
        ]

    job = search([0], sample, SearchRules(max_rounds=2))
    asked.append(next(job))
    asked.append(job.send([(3.0, 1.0)]))
    assert asked[0] == [(0, ("A cat.", "A dog."))]
    # after "A cat." its own sentence is left out, after "A dog." that one
    assert asked[1] == [(0, ("A cup.", "A dog.", "A hat.", "A cat.", "A cup.", "A hat."))]


def test_the_same_text_that_ends_and_that_goes_on_are_two_candidates():
    def sample(starts):
        return [Draw((1, END) if n % 2 else (1,), "A cat.", -1.0, n % 2 == 1) for n in range(5)]

    job = search([0], sample, SearchRules(max_rounds=1))
    assert next(job) == [(0, ("A cat.", "A cat."))]
    with pytest.raises(StopIteration) as end:
        job.send([(1.0, 1.0)])
    (tree,) = end.value.value
    assert [each.score for each in tree.nodes] == [0.5, 0.5]
    assert numbers(tree.finished) == [1]


def test_an_only_child_is_neutral():
    (tree,) = grown(SearchRules(candidates=1, max_rounds=1), seeds=[3])
    assert [each.score for each in tree.nodes] == [0.5]


def test_a_long_prefix_grows_no_more():
    (tree,) = grown(SearchRules(candidates=6, max_tokens=1), seeds=[3])
    assert {each.round for each in tree.nodes} == {0}


def test_the_search_stops_after_max_rounds():
    (tree,) = grown(SearchRules(candidates=6, top=9, bottom=9, max_rounds=2), seeds=[3])
    assert {each.round for each in tree.nodes} == {0, 1}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=2, max_size=4, unique=True))
def test_a_tree_depends_on_its_seed_alone(seeds):
    def sample(starts):
        draws = []
        for start in starts:
            place, ended = start.seed % 3, start.seed % 7 == 0
            draws.append(Draw((place,), SENTENCES[place], -(start.seed % 11) / 10, ended))
        return draws

    def shape(tree):
        return [(n.number, n.seed, n.draw, n.parent and n.parent.number) for n in tree.nodes]

    rules = SearchRules(weight=0.0)
    together = grown(rules, seeds=seeds, sample=sample)
    for seed, tree in zip(seeds, together, strict=True):
        (alone,) = grown(rules, seeds=[seed], sample=sample)
        assert shape(alone) == shape(tree)


def test_all_scores_and_seeds_are_recorded():
    rules = SearchRules(candidates=6, top=1, bottom=1, max_rounds=2)
    tree = grown(rules)[0]
    record = tree_record(tree, rules)
    assert [each["number"] for each in record["nodes"]] == list(range(len(tree.nodes)))
    assert len({each["seed"] for each in record["nodes"]}) == len(tree.nodes)
    for each in record["nodes"]:
        mixed = 0.9 * each["image_scaled"] + 0.1 * each["language_scaled"]
        assert math.isclose(each["score"], mixed)
        assert each["image"] == relevance(0, each["text"])
    by_number = {each["number"]: each for each in record["nodes"]}
    for finished in record["finished"]:
        scores, number = [], finished["node"]
        while number is not None:
            scores.append(by_number[number]["score"])
            number = by_number[number]["parent"]
        assert math.isclose(finished["value"], sum(scores) / len(scores))
