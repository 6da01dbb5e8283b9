"""Proxy sets (the images that a student is distilled on), and how they are sampled and batched."""
