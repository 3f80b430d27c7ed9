"""Run folders: layout, locking, writing, reading, and the provenance of their results."""
