"""Stems against the output of the published stemmer (snowballstemmer 3.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_eval.stems import stem

WORDS = """
consign consign consigned consign consigning consign consignment consign consist consist
consistency consist consistently consist consolation consol consolingly consol console consol
knack knack knackeries knackeri knaves knave knavish knavish kneaded knead kneeling kneel knees knee
knightly knight knitting knit knocked knock sitting sit sits sit skateboarding skateboard
caresses caress ponies poni ties tie cries cri gas gas this this gaps gap kiwis kiwi
agreed agre feed feed hopping hop hoping hope hoped hope falling fall bled bled sing sing
luxuriated luxuri
cry cri by by say say happy happi enjoying enjoy
relational relat conditional condit rationally ration digitizer digit operator oper feudalism feudal
decisiveness decis hopefulness hope formality formal sensitivity sensit sensibility sensibl
triplicate triplic formative format electrical electr goodness good geology geolog
revival reviv allowance allow inference infer airliner airlin adjustable adjust replacement replac
adoption adopt communism communism activate activ effective effect bowdlerize bowdler
generate generat generously generous community communiti arsenal arsenal
controlling control roll roll rate rate probate probat cease ceas
skis ski skies sky dying die news news inning inning innings inning succeed succeed early earli
yes yes youth youth boyish boyish flying fli at at o o
"""


PAIRS = list(zip(WORDS.split()[::2], WORDS.split()[1::2], strict=True))


@pytest.mark.parametrize(("word", "expected"), PAIRS)
def test_a_stem_is_the_published_one(word, expected):
    assert stem(word) == expected


@given(st.text("abeilmnorstuy'", max_size=12))
def test_any_word_has_a_stem_that_is_at_most_one_letter_longer(word):
    assert len(stem(word)) <= len(word) + 1
