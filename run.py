"""Trains and replays agents from the command line.

python run.py --alg=acktr --env=SeaquestNoFrameskip-v4 --num_timesteps=1e7 --save_path=models/seaquest
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from baselines_acktr.session import environments, log_folder, ready_made
from baselines_acktr.session.next_steps import next_steps
from baselines_acktr.session.setup import set_up
from baselines_acktr.session.showing import after_update, deploy, evaluation, replay
from baselines_acktr.session.usage import help_text, program, speaker, usage
from common import cli
from common.errors import RunFailedError, UserError, one_line
from common.mpi import ALONE, Communicator, connect
from common.process import Interruption, end_at_signals, output_closed, tolerant_output


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0 done, 1 stopped by a bad number or a failed environment, 2 a
    mistake of the user, 128 + signal interrupted, or read no more (SIGPIPE)."""
    with tolerant_output():
        try:
            return _main(argv)
        except BrokenPipeError:  # of the help, which head or less has read enough of
            return output_closed()


def _main(argv: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        print(usage(), file=sys.stderr)
        return 2
    try:
        if (topic := cli.help_topic(argv)) is not None:
            print(help_text(argv, topic), flush=True)
            return 0
        if ready_made.wants_listing(argv):
            print(ready_made.listing(program()), flush=True)
            return 0
        if "--version" in argv:
            from baselines_acktr.session import run_info  # late: NumPy

            print(run_info.versions(), flush=True)
            return 0
        comm = connect()
    except UserError as error:
        return explain(error, 0)
    with Interruption(quiet=comm.rank > 0) as interruption:
        try:
            return run(argv, interruption, comm)
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            if isinstance(error, BrokenPipeError) and comm.size == 1:
                return output_closed()
            if comm.size > 1:
                return explain_to_ranks(error, interruption.signal, comm)
            return explain(error, interruption.signal)


def explain(error: BaseException, number: int, rank: str = "") -> int:
    """Prints in one line why a run ended, and returns its exit code; raises what is no mistake but a bug.

    What fails after a signal, of which `number` tells, is taken for its consequence: it may have gone to other
    processes, too. `rank` names the rank where it has to be told apart, as in ": rank 1".
    """
    name = f"{speaker()}{rank}"
    known = isinstance(error, UserError | RunFailedError)
    reason = f": {error}" if known else ""
    if number or isinstance(error, KeyboardInterrupt):
        print(f"{name}: interrupted{reason}", file=sys.stderr)
        return 128 + (number or signal.SIGINT)
    if isinstance(error, OSError):  # such as a full disk, or too many open files
        print(f"{name}: stopped: {one_line(error)}", file=sys.stderr)
        return 1
    if not known:
        raise error
    if isinstance(error, UserError):
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"{name}: stopped{reason}", file=sys.stderr)
    return 1


def explain_to_ranks(error: BaseException, number: int, comm: Communicator) -> int:
    """As `explain`, for what ends all ranks: rank 0 speaks where all know of it, else this one, and ends the others."""
    if getattr(error, "agreed", False):
        return explain(error, number) if comm.rank == 0 else 2 if isinstance(error, UserError) else 1
    rank = f": rank {comm.rank}"
    try:
        code = explain(error, number, rank)
    except BaseException as bug:
        traceback.print_exception(bug)
        print(f"{speaker()}{rank}: failed: {type(bug).__name__}", file=sys.stderr)
        code = 1
    sys.stderr.flush()
    comm.abort(code)
    return code


def run(argv: Sequence[str], interruption: Interruption, comm: Communicator = ALONE) -> int:
    """Settles the flags, builds model and environments, learns and saves, plays; returns the exit code."""
    with contextlib.ExitStack() as stack:
        settings, locked, model = set_up(argv, comm, stack)
        options = settings.options
        stack.callback(model.close)

        comm.on_root(lambda: log_folder.take(settings, stack, locked))
        env = stack.enter_context(comm.everywhere(lambda: environments.training_env(settings, comm.rank)))
        logger = stack.enter_context(log_folder.open_logger(argv, settings, comm))
        keeper = stack.enter_context(log_folder.open_keeper(settings, comm.rank))

        from baselines_acktr.session import loop  # late: TensorFlow

        plan = loop.Training(
            options.num_timesteps,
            logger,
            options.log_interval,
            options.save_path,
            keeper,
            [evaluation(settings), after_update(settings, interruption, comm.rank)],
            options.sync_check_interval,
            resumed=Path(settings.load_path) if options.resume else None,
        )
        stack.callback(setattr, interruption, "closing", True)
        interruption.deferred = True
        loop.start(model, env, plan)
        number = comm.max(interruption.signal)
        interruption.deferred = False

    interruption.closing = False
    if number := number or interruption.signal:
        if comm.rank == 0:
            where = f", saved to {keeper.folder}: go on with --resume" if keeper else ""
            print(f"{speaker()}: interrupted after {model.timesteps} timesteps{where}", file=sys.stderr)
        return 128 + number
    if options.num_timesteps and comm.rank == 0:
        print(*next_steps(settings), sep="\n", file=sys.stderr, flush=True)
    if options.export and comm.rank == 0:
        deploy(model, settings)
    if options.play and comm.rank == 0:
        replay(model, settings)
    return 0


def command() -> int:
    """Runs the command line of this process, as the installed command `acktr` does; returns the exit code."""
    end_at_signals()
    return main()


if __name__ == "__main__":
    sys.exit(command())
