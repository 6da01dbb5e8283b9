"""Judges of frozen features: extracted once, kept, and classified without touching the backbone."""
