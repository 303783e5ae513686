"""What a policy would have done: a simulation of an archive, event by event. Pure and deterministic."""
