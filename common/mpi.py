"""The processes that train one agent together: one alone, or the ranks that `mpirun` has started.

MPI itself is imported only where there are several ranks.
"""

from __future__ import annotations

from common.communicator import ALONE, Communicator
from common.errors import UserError
from common.process import num_processes

__all__ = ["ALONE", "Communicator", "connect"]


def connect() -> Communicator:
    """The ranks that were started together with this process, itself alone where it was started on its own.

    Raises:
      UserError: the launcher and MPI do not know of each other.
    """
    started = num_processes()
    if started == 1:
        return ALONE
    try:
        from common.mpi_world import World

        world = World()
    except (ImportError, RuntimeError) as error:
        raise UserError(f"mpirun -n {started}: MPI cannot be used: {error}") from error
    if started != world.size:
        raise UserError(
            f"{started} processes were started, but {world.library} knows of {world.size}: start them with the mpirun "
            "beside this Python, or with srun --mpi=pmix"
        )
    return world
