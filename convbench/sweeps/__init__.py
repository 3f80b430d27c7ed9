"""Sweeps: which job has which folder, what is left to do, and how it all goes."""
