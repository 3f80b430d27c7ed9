"""The command line: words, Hydra, messages and exit codes."""
