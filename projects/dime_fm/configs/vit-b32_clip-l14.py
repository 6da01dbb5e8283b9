# As released: only the image tower is trained, and the student shares the teacher's text tower.
_base_ = "./recipe.py"
