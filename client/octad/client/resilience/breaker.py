"""`octad.Breaker`: a circuit breaker for any call of an application's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from random import random
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from octad.client.errors import BreakerOpen
from octad.client.resilience.breaker_state import BreakerState, State

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Fallback = TypeVar("Fallback")
Function = Callable[Arguments, Result]
AsyncFunction = Callable[Arguments, Coroutine[Any, Any, Result]]


class Breaker(Generic[Fallback]):
    """Calls a dependency while it works, and fails at once while it does not.

    It opens after five failures in a row, or when half of the last 20 calls failed; lets one call
    through after a second to see, and after twice as long each time that one fails, up to 30 s.

        prices = Breaker("prices", fallback=None)

        @prices
        def price(item): ...          # or async def

        with prices: ...              # or async with; raises BreakerOpen, a fallback is of no use

    `failures`: what counts as one. Other exceptions are answers: they are raised, and say that the
    dependency works. With a `fallback` a decorated function returns that instead of raising a
    failure or BreakerOpen. Give the calls a timeout of their own: a breaker does not end them.
    One breaker may be used by several threads, tasks and functions.
    """

    @overload
    def __init__(
        self: Breaker[Result],
        name: str,
        *,
        fallback: Result,
        failures: tuple[type[Exception], ...] = (Exception,),
    ) -> None: ...

    @overload
    def __init__(
        self: Breaker[Any], name: str, *, failures: tuple[type[Exception], ...] = (Exception,)
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        fallback: object = ...,
        failures: tuple[type[Exception], ...] = (Exception,),
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random,
    ) -> None:
        self.name = name
        self._state = BreakerState()
        self._fallback = fallback
        self._failures = failures
        self._handled: tuple[type[Exception], ...] = (BreakerOpen, *failures)
        self._clock = clock
        self._chance = chance

    @property
    def state(self) -> State:
        """closed, open or half-open."""
        return self._state.state(self._clock())

    @property
    def opened(self) -> int:
        """How often it has opened so far."""
        return self._state.opened

    @overload
    def __call__(
        self, function: AsyncFunction[Arguments, Result]
    ) -> AsyncFunction[Arguments, Result | Fallback]: ...

    @overload
    def __call__(
        self, function: Function[Arguments, Result]
    ) -> Function[Arguments, Result | Fallback]: ...

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(function):

            @wraps(function)
            async def guarded_coroutine(*given: Any, **named: Any) -> object:
                try:
                    async with self:
                        return await function(*given, **named)
                except self._handled:
                    return self._instead()

            return guarded_coroutine

        @wraps(function)
        def guarded(*given: Any, **named: Any) -> object:
            try:
                with self:
                    return function(*given, **named)
            except self._handled:
                return self._instead()

        return guarded

    def __enter__(self) -> None:
        now = self._clock()
        if not self._state.admits(now):
            raise BreakerOpen(self.name, self._state.admits_in(now))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._state.on_success()
        elif isinstance(error, self._failures):
            self._state.on_failure(self._clock(), self._chance())
        elif isinstance(error, Exception):
            self._state.on_success()
        else:
            self._state.on_nothing()  # Cancelled or interrupted.

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _instead(self) -> Fallback:
        """The fallback; without one, raises what is being handled."""
        if self._fallback is ...:
            raise
        return cast(Fallback, self._fallback)
