"""Sweeps: job folders, the jobs that remain to be run, progress, failures, and GPUs for parallel jobs."""
