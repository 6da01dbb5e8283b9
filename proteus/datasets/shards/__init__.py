"""WebDataset shards: packing and indexing."""
