"""Features of whole data sets on disk."""
