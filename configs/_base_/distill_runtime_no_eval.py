# The run of a distillation, without online evaluation.
_base_ = "./default_runtime.py"

default_hooks = dict(
    # Logs what the proxy set is made of, and lists the images of a subset next to the checkpoints.
    proxy_set=dict(type="ProxySetHook"),
    # A run in which more than this share of the images cannot be read is stopped.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
    export=dict(type="ExportStudentHook"),
)
