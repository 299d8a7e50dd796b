"""Tests that a server needs, and the lesson does not."""
