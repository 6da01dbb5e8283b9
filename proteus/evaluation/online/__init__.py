"""Looking at a student while it is distilled."""
