"""What the conv doctor looks at: each examination takes a conv type and gives findings."""
