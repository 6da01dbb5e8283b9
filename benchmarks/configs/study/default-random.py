"""From random weights, with the objectives and augmentation that `proteus distill` uses. Also the row
"token, feature, patch" of table 2 from a random start.
"""

_base_ = "./common.py"
