"""WebDataset shards: their index and how to pack them."""
