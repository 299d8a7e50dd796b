"""What maintainers need, and readers do not."""
