"""Ray clusters: connection, resources, storage that all nodes see, jobs, metrics."""
