# As released: the image tower alone is trained, and the student reads sentences with the teacher's text tower.
_base_ = "./recipe.py"
