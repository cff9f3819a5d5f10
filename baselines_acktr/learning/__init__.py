"""What learners learn with: rollouts, returns, losses, optimizers."""
