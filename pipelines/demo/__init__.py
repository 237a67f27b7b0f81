"""The generated world of the demo, and the CNN that sees it."""
