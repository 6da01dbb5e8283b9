"""Cache of a teacher's tokens of fixed views on disk; independent of models."""

from proteus.datasets.teacher_cache.encodings import Encoding, Float16, Int8PCA, load_encoding
from proteus.datasets.teacher_cache.fingerprint import StaleCacheError, dataset_fingerprint, differences, plain
from proteus.datasets.teacher_cache.index import CacheError, CacheIndex, Shard, read_index, write_index
from proteus.datasets.teacher_cache.reader import TeacherCache, Tokens
from proteus.datasets.teacher_cache.shards import ShardBuilder, is_whole, pixels_of

__all__ = [
    "CacheError",
    "CacheIndex",
    "Encoding",
    "Float16",
    "Int8PCA",
    "Shard",
    "ShardBuilder",
    "StaleCacheError",
    "TeacherCache",
    "Tokens",
    "dataset_fingerprint",
    "differences",
    "is_whole",
    "load_encoding",
    "pixels_of",
    "plain",
    "read_index",
    "write_index",
]
