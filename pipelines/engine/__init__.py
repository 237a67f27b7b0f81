"""The engine of the batch verbs: work is handed out, resumed, isolated and committed."""
