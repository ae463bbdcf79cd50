"""The prompts of SVP's Appendix F, as printed (arXiv 2501.04568). Knows texts alone."""

_ROLE = (
    "You are an AI visual-language assistant that can analyze images and helps writing detailed "
    "descriptions of images."
)
_CONTEXT = (
    "In addition, specific objects and object locations within the image are given, along with "
    "detailed coordinates inside <context></context>. These coordinates are in the form of "
    "bounding boxes, represented as (x1, y1, x2, y2) with floating numbers ranging from 0 to 1. "
    "These values correspond to the top left x, top left y, bottom right x, and bottom right y."
)
_DESCRIBE = (
    "Describe the scene and the objects in the image in details. Describe the object attributes "
    "and positions. Output only the descriptions of objects that are in the image. Use separate "
    "sentence for each object."
)
_DETAILS = (
    "Include details like object counts, position of the objects, relative position between the "
    "objects."
)
_OPENING = 'Start your description with "In the image, ".'

SAMPLING_SYSTEM = f"""\
{_ROLE}

<instruction>

{_DESCRIBE}

{_DETAILS} {_OPENING}

</instruction>"""

GROUNDED_SYSTEM = f"""\
{_ROLE}

{_CONTEXT}
<instruction>

Using the provided objects and bounding boxes inside <context></context>, describe the image.

{_DESCRIBE}

{_DETAILS} Do not mention the bounding box coordinates. Utilize this data to explain the scene \
using natural language.

{_OPENING}
</instruction>"""

BASE = (
    "Please generate a detailed and comprehensive description for the content of this image. "
    "Be precise."
)
GROUNDING = "{grounding}"
"""What the grounding text stands in for."""
GROUNDED = f"<context> {GROUNDING} </context> {BASE}"

SAMPLING_PROMPT = f"{SAMPLING_SYSTEM}\n{BASE}"
GROUNDED_PROMPT = f"{GROUNDED_SYSTEM}\n{GROUNDED}"
