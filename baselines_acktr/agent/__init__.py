"""What a model consists of: networks, policies that act, critics, and the state that they share."""
