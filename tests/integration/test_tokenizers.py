"""Token rewards on real tokenisers' offsets, over HTTP: one number each, on the right token."""

import base64
from collections.abc import Callable

import PIL.Image
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sightline_world.scenes import scenes

pytestmark = pytest.mark.anyio

TEXTS = (
    "A dog \U0001f415 and a hot dog, cre\u0300me br\u00fbl\u00e9e; two traffic lights!",
    "\u26f7\ufe0f Skis\u2026 the giraffe's na\u00efve umbrellas \U0001f468\u200d\U0001f469.",
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@pytest.mark.parametrize("build", [byte_level, sentence_piece, word_piece])
async def test_each_span_rewards_the_last_token_that_touches_it(
    serve, png: Callable[[PIL.Image.Image], bytes], build: Callable[[], Tokenizer]
):
    tokenizer = build()
    offsets = [tokenizer.encode(text).offsets for text in TEXTS]
    images = [base64.b64encode(png(s.image)).decode() for s in scenes("validation", 4)]
    items = [{"image": i, "texts": list(TEXTS), "token_offsets": offsets} for i in images]
    async with serve() as http:
        reply = await http.post("/token_reward", json={"items": items})
    assert reply.status_code == 200, reply.text
    rewarded = 0
    for item in reply.json()["items"]:
        for text, of_text, result in zip(TEXTS, offsets, item["results"], strict=True):
            assert len(result["token_rewards"]) == len(of_text)
            expected = [0.0] * len(of_text)
            for span in result["spans"]:
                assert text[span["start"] : span["end"]] == span["text"]
                touching = [
                    n
                    for n, (start, end) in enumerate(of_text)
                    if set(range(start, end)) & set(range(span["start"], span["end"]))
                ]
                expected[touching[-1]] += span["reward"]
                rewarded += span["reward"] != 0
            assert result["token_rewards"] == pytest.approx(expected)
    names = {span["entity"] for span in result["spans"]}
    assert {"skis", "giraffe", "umbrella"} <= names
    assert rewarded > 0
