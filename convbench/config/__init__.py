"""Configurations before anything is built: options, names, and the check of every key."""
