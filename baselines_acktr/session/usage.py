"""What `run.py` says of itself: its usage, and the answers to `--help`."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from baselines_acktr.session.learners import ALGORITHMS, LEARNERS
from baselines_acktr.session.options import FLAGS, group_title
from common.errors import UserError, brief, closest
from common.flag_help import terminal_width

COMMAND = "acktr"  # what setup.cfg installs
_DESCRIPTION = "Trains and replays agents."
_FLAGS = "--env=ID [--flag=value ...]"


def program() -> str:
    """Returns what the user calls this program by: `acktr` where that is how it was started."""
    return COMMAND if speaker() == COMMAND else "python run.py"


def speaker() -> str:
    """Returns what stands before this program's messages: the name of the command, or of the file."""
    return COMMAND if Path(sys.argv[0]).name == COMMAND else "run.py"


def usage() -> str:
    """Returns what is said to somebody who gives no flags."""
    return f"""usage: {program()} {_FLAGS}

Train ACKTR on CartPole, which takes a minute, and keep the result:
  {program()} --env=CartPole-v1 --num_timesteps=1e5 --log_path=logs/cartpole --save_path=models/cartpole
Watch it:
  {program()} --load_path=models/cartpole --play --video=cartpole.mp4
Watch an agent that is trained already:
  {program()} --load_path=zoo:CartPole-v1 --play --video=ready.mp4
The flags:
  {program()} --help"""


def help_text(argv: Sequence[str], topic: str) -> str:
    """Returns the answer to `--help`, `--help=all` or `--help=FLAG`.

    Args:
      argv: the command line, whose `--alg` chooses the hyperparameters that are shown.
      topic: as `common.cli.help_topic` returns it.

    Raises:
      UserError: there is no such flag or algorithm.
    """
    if topic == "all":
        return FLAGS.help(program(), _FLAGS, _DESCRIPTION)
    if topic:
        return FLAGS.help(program(), _FLAGS, _DESCRIPTION, topic)

    alg = _algorithm(argv)
    titles = [group_title(*key) for key in LEARNERS if key[0] == alg]
    others = " or ".join(f"--alg={other}" for other in ALGORITHMS if other != alg)
    more = (
        "--help=FLAG explains a flag with its unit, limits and source, --help=all explains all of them, and --help "
        f"with {others} shows the hyperparameters of that algorithm. --version names the versions of the packages."
    )
    return f"{FLAGS.overview(program(), _FLAGS, titles)}\n\n{textwrap.fill(more, terminal_width())}"


def _algorithm(argv: Sequence[str]) -> str:
    """Returns the algorithm that was typed, else the default one."""
    typed = re.findall(r"--alg[= ]([^ ]+)", " ".join(argv))
    alg = typed[-1] if typed else ALGORITHMS[0]
    if alg not in ALGORITHMS:
        raise UserError(f"--alg={brief(alg)}: must be one of {', '.join(ALGORITHMS)}.{closest(alg, ALGORITHMS)}")
    return alg
