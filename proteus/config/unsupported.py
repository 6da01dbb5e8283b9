"""Parts of the Monocular-Depth-Estimation-Toolbox that Proteus does not have."""

from __future__ import annotations

_DATA = "of its data sets there is NYU-Depth V2: type='NYUDepth'"
_METHODS = "of its methods there is DPT: model.type='DepthEstimator', model.decode_head.type='DPTDepthHead'"
_MISSING = {
    "kitti": _DATA,
    "sunrgbd": _DATA,
    "customdepth": _DATA,
    "cityscapesdepth": _DATA,
    "bts": _METHODS,
    "adabins": _METHODS,
    "binsformer": _METHODS,
    "depthformer": _METHODS,
    "simipu": _METHODS,
    "densedepth": _METHODS,
    "hahi": _METHODS,
    "efficientawarehead": _METHODS,
}


def not_available(name: str) -> str | None:
    """Return a message that a name of the toolbox is not available, with what to write instead.

    Args:
        name: The unknown ``type``, with or without a scope.

    Returns:
        The sentence; None if it is not one of the toolbox's names.
    """
    bare = name.rpartition(".")[2]
    remedy = next((text for start, text in _MISSING.items() if bare.lower().startswith(start)), None)
    return None if remedy is None else f"'{bare}' is not available in Proteus: {remedy}"
