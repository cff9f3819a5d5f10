"""What a network of your own may need: `register` names it, `find_network` finds one, `split` parts what it sees."""

from baselines_acktr.agent.networks import find_network, register, split

__all__ = ["find_network", "register", "split"]
