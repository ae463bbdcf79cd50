from hypothesis import given
from hypothesis import strategies as st

from sightline_core.words import Word, words


def test_words_are_runs_with_folded_keys_and_their_places():
    assert words("A DOG_s caf\u00e9, x2") == (
        Word("a", 0, 1),
        Word("dog", 2, 5),
        Word("s", 6, 7),
        Word("cafe\u0301", 8, 12),
        Word("x2", 14, 16),
    )
    assert words("") == words("_ -") == ()


@given(text=st.text(st.characters(max_codepoint=0x7F), max_size=40))
def test_plain_text_has_the_words_that_it_has_beside_a_letter_beyond_ascii(text):
    assert words(text) == words(f"{text} \u00e9")[:-1]
