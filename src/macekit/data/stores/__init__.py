"""Structures on disk, in shards: for data that are larger than memory."""

from macekit.data.stores.manifest import is_store
from macekit.data.stores.reading import Store, StoredStructures, open_store
from macekit.data.stores.statistics import StoreStatistics
from macekit.data.stores.writing import StoreWriter

__all__ = ["Store", "StoreStatistics", "StoreWriter", "StoredStructures", "is_store", "open_store"]
