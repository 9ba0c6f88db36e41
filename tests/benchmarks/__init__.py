"""What is fast and what is small, measured beside a peer that does the same work; nothing here fails on a time."""
