# The linear probe on features that are extracted once: minutes instead of hours, but not the paper's protocol.
_base_ = "./protocol.py"

protocol = dict(cached=True)
