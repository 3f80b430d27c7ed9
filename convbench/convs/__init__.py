"""Convolutions, one type per file, and the swap that puts them into any network."""
