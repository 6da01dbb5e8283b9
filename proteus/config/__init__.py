"""Config files: load, override and check them before anything is built.

Loading:
    ``load``: read a file and its bases, merge ``--cfg-options``, check the result.
    ``yaml_json``: YAML and JSON configs are data; refuse names that would run code.
    ``overrides``: check dotted keys of ``--cfg-options``.

Keys and values of each dict, with ``validate`` as the entry:
    ``schema``: which part, or which keys, each position of a config takes.
    ``registry_lookup``: find the class that a ``type`` names.
    ``signatures``: find the keys that a class or function takes.
    ``annotations``: compare values with type annotations.
    ``range_table``: allowed values by type and key, built from ``ranges``.
    ``contradictions``: keys that are valid alone and contradict each other.
    ``suggestions``: "did you mean ...?"

Checks of a whole config before models and data are built:
    ``check_consistency``: batches, masks, image sizes and classes that must match.
    ``check_dense``: windows and crops of segmentors and depth estimators.
    ``check_files``: weights and data that are missing.
    ``build_errors``: report constructor errors with their config key.
"""
