"""The student is the exponential moving average of the last 100 or so steps."""

_base_ = "./common.py"

custom_hooks = [dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.01)]
