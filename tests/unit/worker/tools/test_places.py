"""worker/tools/places.py: users get places in turn, and none is lost."""

import asyncio
import random

import pytest

from tokenwire.worker.tools.places import ThreadPlaces


class Crowd:
    """Calls of users that wait for places. `got`: who got one, in order."""

    def __init__(self, count: int) -> None:
        self.places = ThreadPlaces(count)
        self.got = list[str]()

    def asks(self, user: str, times: int = 1) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._take(user)) for _ in range(times)]

    async def _take(self, user: str) -> None:
        await self.places.take(user)
        self.got.append(user)

    async def frees(self, user: str) -> list[str]:
        """A call of this user ends; who gets its place."""
        before = len(self.got)
        self.places.give_back(user)
        await settled()
        return self.got[before:]


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_users_get_places_in_turn() -> None:
    """However many calls of one wait, and in whatever order they came."""
    crowd = Crowd(1)
    tasks = crowd.asks("loud", 4) + crowd.asks("ada", 2) + crowd.asks("bob")
    await settled()
    assert crowd.got == ["loud"]
    for holder in ("loud", "loud", "ada", "bob", "loud", "ada"):
        await crowd.frees(holder)
    assert crowd.got == ["loud", "loud", "ada", "bob", "loud", "ada", "loud"]
    assert all(task.done() for task in tasks)
    assert await crowd.frees("loud") == []
    assert crowd.places.free == 1


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (32, 24)])
async def test_one_user_leaves_room(count: int, most: int) -> None:
    crowd = Crowd(count)
    waiting = crowd.asks("loud", count + 1)
    await settled()
    assert (len(crowd.got), crowd.places.free) == (most, count - most)
    if most < count:
        crowd.asks("bob")
        await settled()
        assert crowd.got[-1] == "bob"
    assert await crowd.frees("loud") == ["loud"]
    for task in waiting:
        task.cancel()


async def test_calls_of_one_user_keep_their_order() -> None:
    crowd = Crowd(1)
    done = list[int]()
    tasks = crowd.asks("ada", 5)
    for number, task in enumerate(tasks):
        task.add_done_callback(lambda _, number=number: done.append(number))
    for _ in tasks[1:]:
        await settled()
        crowd.places.give_back("ada")
    await settled()
    assert done == [0, 1, 2, 3, 4]


async def test_who_leaves_passes_the_place_on() -> None:
    """Also in the moment in which it comes, and just before."""
    crowd = Crowd(1)
    first, second, third, fourth = crowd.asks("ada", 4)
    await settled()
    second.cancel()
    assert await crowd.frees("ada") == ["ada"]
    third_has = third.done()
    crowd.places.give_back("ada")  # the fourth gets it, and is cancelled before it knows
    fourth.cancel()
    await settled()
    assert (third_has, first.done(), second.cancelled(), fourth.cancelled()) == (True,) * 4
    assert crowd.places.free == 1


async def test_no_place_is_lost() -> None:
    """Users ask, leave and free in any order; at the end everything is free."""
    for seed in range(200):
        dice, crowd = random.Random(seed), Crowd(3)
        tasks, returned = list[asyncio.Task[None]](), 0
        for _ in range(60):
            match dice.randrange(4):
                case 0 | 1:
                    tasks += crowd.asks(dice.choice("abc"))
                case 2 if tasks:
                    dice.choice(tasks).cancel()
                case 3 if returned < len(crowd.got):
                    crowd.places.give_back(crowd.got[returned])
                    returned += 1
            if dice.random() < 0.5:
                await settled()
        await settled()
        while returned < len(crowd.got):
            await crowd.frees(crowd.got[returned])
            returned += 1
        assert all(task.done() for task in tasks), seed
        assert (crowd.places.free, crowd.places._held, crowd.places._waiting) == (3, {}, {}), seed
