"""Who may sign what: the offline keys, and the signature that a release carries."""
