"""Words as Stanford's PTBTokenizer has them: expectations are what its Java program printed."""

import pytest

from sightline_eval.penn_words import penn_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's dog doesn't like it.", "a man 's dog does n't like it"),
        ("it’s a well-known fact -- really...", "it 's a well-known fact really"),
        ("the cat (or cats), [two] {three}",
         "the cat -lrb- or cats -rrb- -lsb- two -rsb- -lcb- three -rcb-"),
        ("Mr. Smith can't go to the U.S. at 5 p.m. with 3.5 kg",
         "mr. smith ca n't go to the u.s. at 5 p.m. with 3.5 kg"),
        ("$10 and 50% of 1/2 cup; he cannot!", "$ 10 and 50 % of 1/2 cup he can not"),
        ("The children's toys' colour: the theatre & centre",
         "the children 's toys colour the theatre & centre"),
        ("I'd gonna go, we're 1,000 O'Clock", "i 'd gon na go we 're 1,000 o'clock"),
        ("two-year-old twins… “quoted” – dash — em", "two-year-old twins quoted dash em"),
        ("http://a.b/c a@b.c #tag @name *star* and/or",
         "http://a.b/c a@b.c #tag @name * star * and/or"),
        ('he said:"hi"ok hello,world end.Next', "he said hi ok hello world end.next"),
        ("10:30 10th 20-30 café naïve 日本", "10:30 10th 20-30 café naïve 日本"),
        (" \n", ""),
    ],
)  # fmt: skip
def test_words_are_those_of_the_java_tokeniser(text, words):
    assert penn_words(text) == tuple(words.split())
