"""File systems, local and in object storage."""
