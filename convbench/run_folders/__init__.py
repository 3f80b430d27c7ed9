"""Run folders: layout, locking, writing and reading."""
