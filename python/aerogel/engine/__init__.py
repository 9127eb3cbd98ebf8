"""Running models: weights packed for this CPU, whole models, single layers, the choice of the next token."""
