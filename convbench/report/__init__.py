"""What is read out of finished runs."""
