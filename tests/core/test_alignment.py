import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sightline_core.alignment import ASSIGNMENTS, align_rewards
from sightline_core.entities import find_spans, load_vocabulary

CORPUS = [
    "A dog and two cats sit near the traffic light.",
    "An elephant eats a hot dog on the dining table; the giraffe watches.",
    "Caf\u00e9 chairs, d\u00f6gs and a teddy bear \U0001f9f8 on a couch \U0001f6cb\ufe0f.",
    "Skateboards, surfboards, umbrellas and the person's cell phone.",
] * 4
TEXT = (
    "Two hot\ndogs \U0001f32d, a caf\u00e9-chair, an e\u0301le\u0301phant "
    "\U0001f418\u200d\U0001f525 and an ELEPHANT; the dog's teddy-bear \U0001f9f8\U0001f3fd sat "
    "by\u00a0\u72ac traffic  lights\u2026 \u0130stanbul giraffes\U0001f992!"
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=330,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def sentence_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=140, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        ),
    )
    return tokenizer


def byte_fallback() -> Tokenizer:
    pieces = {f"<0x{byte:02X}>": byte for byte in range(256)}
    letters = sorted({mark for text in CORPUS for mark in text if mark.isascii()} | {"\u2581"})
    vocabulary = pieces | {mark: 256 + i for i, mark in enumerate(letters)}
    vocabulary |= {"do": len(vocabulary), "dog": len(vocabulary) + 1}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [("d", "o"), ("do", "g")], byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False),
    )
    return tokenizer


TOKENIZERS = {
    "byte-level BPE": byte_level(),
    "SentencePiece Unigram": sentence_piece(),
    "SentencePiece BPE with byte fallback": byte_fallback(),
    "WordPiece": word_piece(),
}


def slow(
    spans: Sequence[tuple[int, int]],
    rewards: Sequence[float],
    offsets: Sequence[tuple[int, int]],
    assign: str,
) -> list[float]:
    """By sets of characters."""
    out = [0.0] * len(offsets)
    for (start, end), reward in zip(spans, rewards, strict=True):
        marks = set(range(start, end))
        tokens = [i for i, (s, e) in enumerate(offsets) if marks & set(range(s, e))]
        if not tokens:
            continue
        chosen = {"last": tokens[-1:], "first": tokens[:1], "all": tokens, "split": tokens}[assign]
        for token in chosen:
            out[token] += reward / len(tokens) if assign == "split" else reward
    return out


@pytest.mark.parametrize("assign", ASSIGNMENTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_real_tokenisers_offsets_agree_with_the_slow_reference(name, assign):
    encoding = TOKENIZERS[name].encode(TEXT)
    vocabulary = load_vocabulary().with_extra(["\u72ac"])
    found = find_spans(TEXT, vocabulary)
    spans = [(span.start, span.end) for span in found]
    assert [span.entity for span in found] == [
        "hot dog", "chair", "elephant", "dog", "teddy bear", "\u72ac", "traffic light", "giraffe",
    ]  # fmt: skip
    rewards = [0.5, -1.0, 0.25, -0.125, 1.0, 0.75, -0.5, 0.1]
    aligned = align_rewards(spans, rewards, encoding.offsets, assign=assign)
    assert len(aligned) == len(encoding.offsets) == len(encoding.ids)
    assert aligned == pytest.approx(slow(spans, rewards, encoding.offsets, assign))
    if assign in ("last", "first", "split"):
        assert math.fsum(aligned) == pytest.approx(math.fsum(rewards))
    for (start, end), value in zip(encoding.offsets, aligned, strict=True):
        assert value == 0.0 or any(s < end and start < e for s, e in spans)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_rewarded_token_is_the_one_that_completes_the_word(name):
    encoding = TOKENIZERS[name].encode(TEXT)
    for span in find_spans(TEXT, load_vocabulary()):
        aligned = align_rewards([(span.start, span.end)], [1.0], encoding.offsets)
        assert sorted(aligned)[-2:] == [0.0, 1.0]
        start, end = encoding.offsets[aligned.index(1.0)]
        assert start < span.end <= end


def test_byte_pieces_of_one_character_share_it():
    tokenizer = TOKENIZERS["SentencePiece BPE with byte fallback"]
    text = "dog \U0001f418"
    offsets = tokenizer.encode(text).offsets
    pieces = [i for i, (start, end) in enumerate(offsets) if (start, end) == (4, 5)]
    assert len(pieces) == 4
    spread = align_rewards([(4, 5)], [1.0], offsets, assign="split")
    assert [spread[i] for i in pieces] == [0.25] * 4
    assert align_rewards([(4, 5)], [1.0], offsets)[pieces[-1]] == 1.0
    assert align_rewards([(4, 5)], [1.0], offsets, assign="first")[pieces[0]] == 1.0


OFFSETS = [(0, 1), (1, 5), (5, 5), (5, 8), (8, 9), (8, 9), (9, 12)]  # "A| hot||dog|s|s|, .."


@pytest.mark.parametrize(
    ("assign", "expected"),
    [
        ("last", (0, 0, 0, 0, 0, 0.6, 0)),
        ("first", (0, 0.6, 0, 0, 0, 0, 0)),
        ("all", (0, 0.6, 0, 0.6, 0.6, 0.6, 0)),
        ("split", (0, 0.15, 0, 0.15, 0.15, 0.15, 0)),
    ],
)
def test_the_four_assignments_by_hand(assign, expected):
    assert align_rewards([(2, 9)], [0.6], OFFSETS, assign=assign) == pytest.approx(expected)


def test_a_token_of_two_spans_gets_both_shares():
    assert align_rewards([(0, 3), (4, 7)], [0.5, -0.2], [(0, 2), (2, 7)]) == pytest.approx((0, 0.3))


def test_no_spans_no_tokens_and_spans_beyond_the_tokens():
    assert align_rewards([], [], [(0, 1), (1, 2)]) == (0.0, 0.0)
    assert align_rewards([(0, 3)], [1.0], []) == ()
    assert align_rewards([(5, 8)], [1.0], [(0, 1), (0, 0)]) == (0.0, 0.0)


@st.composite
def cases(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    rewards = draw(st.lists(st.floats(-1, 1), min_size=len(spans), max_size=len(spans)))
    place = st.integers(0, 45)
    offsets = [tuple(sorted(p)) for p in draw(st.lists(st.tuples(place, place), max_size=30))]
    return spans, rewards, offsets


@settings(max_examples=300)
@given(cases(), st.sampled_from(ASSIGNMENTS))
def test_any_ranges_agree_with_the_slow_reference(case, assign):
    spans, rewards, offsets = case
    aligned = align_rewards(spans, rewards, offsets, assign=assign)
    assert len(aligned) == len(offsets)
    assert aligned == pytest.approx(slow(spans, rewards, offsets, assign))
    touched = sum(
        reward
        for (start, end), reward in zip(spans, rewards, strict=True)
        if any(max(s, start) < min(e, end) for s, e in offsets)
    )
    if assign != "all":
        assert math.fsum(aligned) == pytest.approx(touched)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(0, 1)], [], [(0, 1)]), "0 rewards for 1 spans"),
        (([(1, 1)], [1.0], [(0, 1)]), r"spans holds \[1, 1\]"),
        (([(0, 3), (2, 4)], [1.0, 1.0], [(0, 1)]), "one starts at 2 before 3"),
        (([(0, 1)], [math.nan], [(0, 1)]), "rewards holds nan"),
        (([(0, 1)], [1.0], [(2, 1)]), r"token_offsets holds \[2, 1\]"),
        (([(0, 1)], [1.0], [(-1, 1)]), r"token_offsets holds \[-1, 1\]"),
    ],
)
def test_what_cannot_be_aligned_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        align_rewards(*arguments)


def test_an_unknown_assignment_is_refused():
    with pytest.raises(ValueError, match="assign is 'mean': choose one of last, first, all, split"):
        align_rewards([], [], [], assign="mean")
