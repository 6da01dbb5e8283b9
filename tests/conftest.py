"""Before any test module: ``proteus`` mends what importing timm or torchvision first would trip over."""

import proteus  # noqa: F401
