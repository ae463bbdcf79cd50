"""How families of vision-language models differ, as data. Knows their names; knows no model.

Most families want the same: a rendered chat template with the image's marker in it, positions that
count from 0, and an answer whose tokens are of type 0. The table holds the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """What sets a family apart; the defaults are what most do.

    Attributes:
        own_layout: the processor itself writes the begin token and all that surrounds a question.
        marked: the text that goes to the processor holds the image's marker.
        ending: what an own layout writes after the question.
        needs_image: there is no forward pass without an image.
        answer_type: `token_type_ids` of an answer's tokens; the prompt's are 0.
        first_position: the position of the first token.
        language_model: what the language model is called among the model's modules.
    """

    own_layout: bool = False
    marked: bool = True
    ending: str = ""
    needs_image: bool = False
    answer_type: int = 0
    first_position: int = 0
    language_model: str = "language_model"


_TEXT_MODEL = Family(language_model="text_model")
_FAMILIES: Mapping[str, Family] = {
    "idefics2": _TEXT_MODEL,
    "idefics3": _TEXT_MODEL,
    "smolvlm": _TEXT_MODEL,
    # The image's tokens stand before the begin token; the question also goes to the Q-Former, in
    # the words of its own tokeniser.
    "instructblip": Family(own_layout=True, marked=False, needs_image=True),
    # Image, begin token, question and line break are a prefix that attends both ways.
    "paligemma": Family(
        own_layout=True, ending="\n", needs_image=True, answer_type=1, first_position=1
    ),
}


def family_of(model_type: str) -> Family:
    """The family of a configuration's `model_type`."""
    return _FAMILIES.get(model_type, Family())
