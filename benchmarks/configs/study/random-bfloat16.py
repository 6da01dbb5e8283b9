"""The teacher in bfloat16, as `proteus distill` chooses on a CPU with instructions for it."""

_base_ = "./common.py"

model = dict(teacher=dict(dtype="bfloat16"))
