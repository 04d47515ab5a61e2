"""Look-ahead: a function mapped over items by a pool of workers, in order and within bounds."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from ser_jax.common import interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: float,
    n_threads: int = 1,
    executor: Executor | None = None,
    cost: Callable[[Item], float] = lambda item: 1,
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed ahead of the consumer.

    An exception of `function` is raised in its item's turn, and a signal deferred by `interrupts`
    before the next result. Closing the generator cancels the calls that have not started; it does
    not wait for those that have.

    Args:
      function: for a process pool, one that can be pickled.
      items: taken one by one, as they are submitted.
      ahead: the most items in flight, the one that the consumer is working on included; with
        `cost`, the most that they may cost together. One is always in flight.
      n_threads: threads of the map's own pool.
      executor: used in place of such a pool, and left running.
      cost: of an item.
    """
    pool = executor or ThreadPoolExecutor(n_threads)
    in_flight: collections.deque[tuple[Future[Result], float]] = collections.deque()
    total = 0.0
    try:
        for item in items:
            item_cost = cost(item)
            while in_flight and total + item_cost > ahead:
                yield result_of(in_flight[0][0])
                total -= in_flight.popleft()[1]
            in_flight.append((pool.submit(function, item), item_cost))
            total += item_cost
        while in_flight:
            yield result_of(in_flight[0][0])
            in_flight.popleft()
    finally:
        for future, _ in in_flight:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=False)


def result_of(future: Future[Result]) -> Result:
    """Wait for a result; Ctrl-C ends the wait at once or, if deferred, within half a second."""
    interrupts.check()
    while not future.done():  # `wait` alone does not return for one cancelled before it started
        wait([future], timeout=0.5)
        interrupts.check()
    return future.result()
