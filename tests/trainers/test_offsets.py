from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from sightline_core.alignment import align_rewards
from sightline_trainers.offsets import decode_with_offsets


def decoder_of(tokenizer):
    def decode(ids):
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    return decode


def sentencepiece_like():
    """Words with a leading mark, single bytes for the rest, as LLaMA's tokeniser has them."""
    words = ["<unk>", "\u2581A", "\u2581cat", "\u2581hot", "\u2581dog", "s", ".", "\u2581"]
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary |= {f"<0x{byte:02X}>": len(words) + byte for byte in range(256)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    inner.normalizer = normalizers.Prepend("\u2581")
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return inner, vocabulary


def test_all_pieces_of_an_emoji_share_its_one_character(tokenizer):
    ids = [
        tokenizer.encode(piece, add_special_tokens=False) for piece in ("A ", "\U0001f600", " cat")
    ]
    assert len(ids[1]) > 1
    text, offsets = decode_with_offsets(decoder_of(tokenizer), sum(ids, []))
    assert text == "A \U0001f600 cat"
    emoji = offsets[len(ids[0]) : len(ids[0]) + len(ids[1])]
    assert set(emoji) == {(2, 3)}
    rewarded = align_rewards([(2, 3)], [0.5], offsets)
    assert [index for index, reward in enumerate(rewarded) if reward] == [len(ids[0] + ids[1]) - 1]


def test_the_end_token_writes_nothing(tokenizer):
    ids = tokenizer.encode("A cat.", add_special_tokens=False)
    text, offsets = decode_with_offsets(decoder_of(tokenizer), [*ids, tokenizer.eos_token_id])
    assert text == "A cat."
    assert offsets[-1] == (6, 6)


def test_pieces_that_the_tokeniser_would_not_have_chosen_keep_their_places(tokenizer):
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "table"]
    assert letters != tokenizer.encode("table", add_special_tokens=False)
    text, offsets = decode_with_offsets(decoder_of(tokenizer), letters)
    assert (text, offsets) == ("table", ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)))


def test_a_stripped_leading_space_shifts_no_later_token():
    inner, of = sentencepiece_like()
    pieces = ["\u2581A", "\u2581hot", "\u2581dog", "s", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "."]
    text, offsets = decode_with_offsets(inner.decode, [of[piece] for piece in pieces])
    assert text == "A hot dogs\U0001f600."
    words = ((0, 1), (1, 5), (5, 9), (9, 10))
    assert offsets == (*words, (10, 11), (10, 11), (10, 11), (10, 11), (11, 12))


def test_a_first_piece_that_is_only_a_stripped_space_writes_nothing():
    inner, of = sentencepiece_like()
    text, offsets = decode_with_offsets(inner.decode, [of["\u2581"], of["\u2581cat"]])
    assert text == " cat"
    assert offsets == ((0, 0), (0, 4))


@given(data=st.data())
def test_ranges_lie_in_order_inside_the_text_and_leave_no_character_out(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    text, offsets = decode_with_offsets(decoder_of(tokenizer), ids)
    assert len(offsets) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    covered = {place for start, end in offsets for place in range(start, end)}
    assert covered == set(range(len(text)))
