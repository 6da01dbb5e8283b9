"""Evaluation of a student during distillation."""
