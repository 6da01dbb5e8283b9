"""Proteus' registries: children of MMEngine's, in the scope ``proteus``.

Our configs set ``default_scope = 'proteus'`` and name a class (``type='ViT'``); configs of other toolboxes write
``type='proteus.ViT'``. Each registry imports its package on first use, so that naming a class is enough and
``import proteus`` stays light.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(name: str, parent: Registry, package: str) -> Registry:
    return Registry(name, parent=parent, scope="proteus", locations=[f"proteus.{package}"])


MODELS = _child("model", root.MODELS, "models")
MODEL_WRAPPERS = _child("model wrapper", root.MODEL_WRAPPERS, "engine")
WEIGHT_INITIALIZERS = _child("weight initializer", root.WEIGHT_INITIALIZERS, "models")
TASK_UTILS = _child("task util", root.TASK_UTILS, "models")

DATASETS = _child("dataset", root.DATASETS, "datasets")
DATA_SAMPLERS = _child("data sampler", root.DATA_SAMPLERS, "datasets")
TRANSFORMS = _child("transform", root.TRANSFORMS, "datasets")
FUNCTIONS = _child("function", root.FUNCTIONS, "datasets")

RUNNERS = _child("runner", root.RUNNERS, "engine")
LOOPS = _child("loop", root.LOOPS, "engine")
HOOKS = _child("hook", root.HOOKS, "engine")
LOG_PROCESSORS = _child("log processor", root.LOG_PROCESSORS, "engine")
OPTIMIZERS = _child("optimizer", root.OPTIMIZERS, "engine")
OPTIM_WRAPPERS = _child("optimizer wrapper", root.OPTIM_WRAPPERS, "engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child("optimizer wrapper constructor", root.OPTIM_WRAPPER_CONSTRUCTORS, "engine")
PARAM_SCHEDULERS = _child("parameter scheduler", root.PARAM_SCHEDULERS, "engine")

METRICS = _child("metric", root.METRICS, "evaluation")
EVALUATOR = _child("evaluator", root.EVALUATOR, "evaluation")
# MMEngine has no registry of evaluation protocols, so this one has no parent.
PROTOCOLS = Registry("protocol", scope="proteus", locations=["proteus.evaluation.protocols"])

VISUALIZERS = _child("visualizer", root.VISUALIZERS, "visualization")
VISBACKENDS = _child("visualization backend", root.VISBACKENDS, "visualization")
INFERENCERS = _child("inferencer", root.INFERENCERS, "apis")
