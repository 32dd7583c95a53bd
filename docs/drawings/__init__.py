"""The pictures of the theory pages, a file per part of the theory."""
