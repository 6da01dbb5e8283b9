# On features that are extracted once: minutes instead of hours, and not the paper's protocol.
_base_ = "./protocol.py"

protocol = dict(cached=True)
