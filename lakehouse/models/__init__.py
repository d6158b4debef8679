"""Models of risk: features as known at an instant, training, evaluation, registry, gate and scores of history."""
