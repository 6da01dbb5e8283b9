"""Proteus' registries: children of MMEngine's, in the scope ``proteus``.

A config of ours sets ``default_scope = 'proteus'`` and names a part by its class (``type='ViT'``); another
toolbox reaches the same part as ``type='proteus.ViT'``. Each registry imports its package when first asked,
so naming a part is enough, and ``import proteus`` stays light.
"""

from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import LOG_PROCESSORS as ROOT_LOG_PROCESSORS
from mmengine.registry import LOOPS as ROOT_LOOPS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as ROOT_PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import VISUALIZERS as ROOT_VISUALIZERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, package: str) -> Registry:
    return Registry(name, parent=parent, scope="proteus", locations=[f"proteus.{package}"])


MODELS = _child("model", ROOT_MODELS, "models")
DATASETS = _child("dataset", ROOT_DATASETS, "datasets")
DATA_SAMPLERS = _child("data sampler", ROOT_DATA_SAMPLERS, "datasets")
TRANSFORMS = _child("transform", ROOT_TRANSFORMS, "datasets")
FUNCTIONS = _child("function", ROOT_FUNCTIONS, "datasets")
HOOKS = _child("hook", ROOT_HOOKS, "engine")
LOOPS = _child("loop", ROOT_LOOPS, "engine")
LOG_PROCESSORS = _child("log processor", ROOT_LOG_PROCESSORS, "engine")
OPTIM_WRAPPERS = _child("optimizer wrapper", ROOT_OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", ROOT_OPTIM_WRAPPER_CONSTRUCTORS, "engine"
)
PARAM_SCHEDULERS = _child("parameter scheduler", ROOT_PARAM_SCHEDULERS, "engine")
METRICS = _child("metric", ROOT_METRICS, "evaluation")
VISUALIZERS = _child("visualizer", ROOT_VISUALIZERS, "visualization")
