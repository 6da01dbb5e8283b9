"""Licences of weights: their identifiers on the Hugging Face hub, and what they mean for a distilled student."""

from __future__ import annotations

import re

_HUB = {
    "apache20": "apache-2.0",
    "apachelicense20": "apache-2.0",
    "mit": "mit",
    "mitlicense": "mit",
    "bsd3clause": "bsd-3-clause",
    "bsd2clause": "bsd-2-clause",
    "cc010": "cc0-1.0",
    "ccby40": "cc-by-4.0",
    "ccbysa40": "cc-by-sa-4.0",
    "ccbync40": "cc-by-nc-4.0",
    "ccbyncsa40": "cc-by-nc-sa-4.0",
    "ccbyncnd40": "cc-by-nc-nd-4.0",
    "openrail": "openrail",
}
_PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0")


def hub_licence(licence: str) -> str:
    """Return the identifier of a licence on the hub; ``other`` for a licence without one.

    Args:
        licence: Name as people write it, such as ``CC-BY-NC 4.0``.
    """
    return _HUB.get(re.sub(r"[^a-z0-9]", "", licence.lower()), "other")


def consequence(licence: str) -> str:
    """Say what a teacher's licence means for its student; empty for an unknown licence.

    Args:
        licence: Name as people write it.
    """
    if not licence:
        return ""
    hub = hub_licence(licence)
    if hub in _PERMISSIVE:
        return "It allows commercial use. Keep its copyright notice and name the teacher when you publish the student."
    if "-nc" in hub:
        return (
            "It forbids commercial use. Whether a distilled student is a derived work is not settled; use this student "
            "for non-commercial purposes only, unless the owner of the teacher permits more."
        )
    return (
        "Read it before you use or publish this student: licences of this kind may set terms for models that were "
        "trained with the outputs of the teacher."
    )
