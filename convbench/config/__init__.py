"""Configurations before anything is built: options, names and hashes, and the validation of every key."""
