# Runtime of distillation runs, without online evaluation.
_base_ = "./default_runtime.py"

default_hooks = dict(
    # Logs the composition of the proxy set, and writes the list of a subset's images next to the checkpoints.
    proxy_set=dict(type="ProxySetHook"),
    # Stops the run if more than 1 % of the images cannot be read.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
    export=dict(type="ExportStudentHook"),
)
