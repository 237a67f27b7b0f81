"""The folder of a run: what it holds, who writes it, and its copy in object storage. Its writer loads no torch."""
