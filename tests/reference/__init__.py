"""What PyTorch made of the same cases, and the scripts that wrote it down."""
