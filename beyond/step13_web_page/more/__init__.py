"""Tests and programs that a server for production needs, and the lesson does not."""
