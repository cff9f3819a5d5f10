"""Ready-made agents: how they are added, and the table that shows them. `session.ready_made` finds them."""
