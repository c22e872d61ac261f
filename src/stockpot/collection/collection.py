"""Collecting: from a few words to photos with a known origin."""

import asyncio
import shlex
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from stockpot import project as disk
from stockpot.collection.arrivals import Arrivals, encode_anew
from stockpot.collection.fetching import AT_ONCE, Dropped, Fetcher
from stockpot.collection.hits import Engine, Hit, License
from stockpot.collection.known_names import check_known
from stockpot.errors import SearchRefused, WrongUse
from stockpot.progress import Progress, silent

ENGINES = ("duckduckgo", "openverse", "both")
LICENSES = get_args(License)


@dataclass(frozen=True)
class Gathered:
    """What came of one class."""

    label: str
    wanted: int  # photos that the class is to have
    had: int  # photos that were there before
    new: int  # photos that came in
    dropped: Mapping[str, int]  # reasons, and how often
    stopped: str  # why there are fewer than wanted

    @property
    def missing(self) -> int:
        """How many photos it still wants."""
        return max(0, self.wanted - self.had - self.new)


def collect(
    project: Path | str,
    classes: Mapping[str, Sequence[str]] | Sequence[str],
    per_class: int = 330,
    engine: Literal["duckduckgo", "openverse", "both"] = "duckduckgo",
    originals: bool = False,
    license: License = "any",
    strict: bool = False,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Gathered, ...]:
    """Search for photos of some classes and bring them into a project.

    A photo is fetched, decoded, encoded anew as a JPEG of at most 1024 pixels without metadata, and named by its
    bytes; `photos.jsonl` says where it came from. Called again, a class is topped up; what came or was refused is
    not fetched again.

    Args:
        project: a project folder, made if it is not there.
        classes: names of classes, or for each of them further queries beside its name.
        per_class: photos that every class is to have, those included that it has already.
        engine: where to search; with `"both"` Openverse fills up what DuckDuckGo does not give.
        originals: fetch the photos themselves from wherever they are, not the engine's thumbnails.
        license: what the photos' licence must allow. DuckDuckGo's filter is a claim of the engine.
        strict: refuse classes that ready-made models know by name; without it they are warned of.
        progress: told how many photos of a class there are.
        stop: asked before every photo; those that came in stay, and another call goes on.

    Returns:
        For every class how many photos came, what was dropped, and why there are not more.

    Raises:
        WrongUse: a class whose name cannot be that of a folder, another argument out of range, or a known class
            and `strict`.
        SearchRefused: no engine gave a page, and no photo came in.
        ProjectError: `project` is a folder that holds something else.
        Busy, FolderError: the project cannot be written.
    """
    queries = _queries(classes)
    if per_class < 1:
        raise WrongUse(f"per_class is {per_class}; expected 1 or more.")
    for name, value, known in (("engine", engine, ENGINES), ("license", license, LICENSES)):
        if value not in known:
            raise WrongUse(f"{name} is {value!r}; choose one of: {', '.join(known)}.")
    check_known(queries, strict)
    opened = disk.create_project(project)
    with opened.writing():
        asked: dict[str, str | bool] = {"originals": True} if originals else {}
        if license != "any":
            asked["asked_licence"] = license
        arrivals = Arrivals(opened, asked)
        search = _Search(arrivals, engine, originals, license, progress, stop)
        gathered = _run(search.gather(queries, per_class))
    if search.refused and not search.pages and not stop():
        reasons = "; ".join(search.refused.values())
        other = (
            ""
            if engine == "both"
            else f" try --engine {'openverse' if engine == 'duckduckgo' else 'duckduckgo'},"
        )
        raise SearchRefused(
            f"No photo came in: {reasons}. Give the same command again in an hour,{other} or bring photos of "
            f"your own: stockpot collect {shlex.quote(str(project))} --from FOLDER"
        )
    return gathered


def _queries(classes: Mapping[str, Sequence[str]] | Sequence[str]) -> dict[str, list[str]]:
    """Return for every class what to search for, its name first."""
    if isinstance(classes, str):
        raise WrongUse(f"classes is {classes!r}; expected several names, such as [{classes!r}].")
    further = classes if isinstance(classes, Mapping) else dict.fromkeys(classes, ())
    wrong = [label for label, more in further.items() if isinstance(more, str)]
    if wrong:
        raise WrongUse(f"The queries of {wrong[0]!r} are {further[wrong[0]]!r}; expected a list of them.")
    if not further:
        raise WrongUse("No class was given; name at least one, such as 'apple pie'.")
    for label in further:
        disk.check_class_name(label)
    return {label: list(dict.fromkeys([label, *more])) for label, more in further.items()}


def _run(work: Coroutine[Any, Any, tuple[Gathered, ...]]) -> tuple[Gathered, ...]:
    """Run to the end; in a notebook, whose loop runs already, on a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass
class _Class:
    """A class while it is being filled."""

    label: str
    wanted: int
    had: int
    new: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        return max(0, self.wanted - self.had - self.new)


class _Search:
    """One call: which engines are asked, and which of them have refused."""

    def __init__(
        self,
        arrivals: Arrivals,
        engine: str,
        originals: bool,
        license: License,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> None:
        self.arrivals, self.engine, self.progress, self.stop = arrivals, engine, progress, stop
        self.originals, self.license = originals, license
        self.refused: dict[str, str] = {}  # engines by name, and why
        self.pages = 0  # that engines gave
        self.decoding = asyncio.Semaphore(2)  # large photos need much memory

    async def gather(self, queries: Mapping[str, Sequence[str]], wanted: int) -> tuple[Gathered, ...]:
        """Fill every class as far as the engines go; one that refuses is not asked again."""
        found = []
        async with Fetcher() as fetcher:
            engines = self._engines(fetcher)
            for label, asked in queries.items():
                one, reasons = _Class(label, wanted, self.arrivals.count(label)), []
                for engine in engines:
                    if one.missing and engine.name not in self.refused and not self.stop():
                        try:
                            await self._fill(one, engine, asked, fetcher)
                        except SearchRefused as error:
                            self.refused[engine.name] = str(error)
                    reasons.append(self.refused.get(engine.name, f"{engine.name} has no more"))
                why = ["it was stopped"] if self.stop() else reasons
                stopped = "; ".join(why) if one.missing else ""
                found.append(
                    Gathered(label, wanted, one.had, one.new, dict(one.dropped.most_common()), stopped)
                )
        return tuple(found)

    def _engines(self, fetcher: Fetcher) -> list[Engine]:
        from stockpot.collection.duckduckgo import DuckDuckGo
        from stockpot.collection.openverse import Openverse

        engines: list[Engine] = []
        if self.engine in ("duckduckgo", "both"):
            engines.append(DuckDuckGo(self.originals, self.license))
        if self.engine in ("openverse", "both"):
            engines.append(Openverse(fetcher, self.originals, self.license))
        return engines

    async def _fill(self, one: _Class, engine: Engine, queries: Sequence[str], fetcher: Fetcher) -> None:
        """Take from one engine, query by query and page by page, until a class is full."""
        for query in queries:
            async for page in engine.pages(query):
                self.pages += 1
                for hit in page:
                    if other := self.arrivals.elsewhere(one.label, hit):
                        one.dropped[f"here already, as {other}"] += 1
                hits = {hit.url: hit for hit in page if hit.url not in self.arrivals.urls}
                await self._fetch(one, list(hits.values()), fetcher)
                if not one.missing or self.stop():
                    return

    async def _fetch(self, one: _Class, hits: list[Hit], fetcher: Fetcher) -> None:
        """Fetch the photos of a page, several at once but never more than are missing."""
        waiting, running = iter(hits), set[asyncio.Task[None]]()
        try:
            while True:
                free = 0 if self.stop() else max(0, min(AT_ONCE, one.missing) - len(running))
                running |= {
                    asyncio.create_task(self._bring(one, hit, fetcher)) for hit in islice(waiting, free)
                }
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for failure in await asyncio.gather(*done, return_exceptions=True):
                    if failure is not None:
                        raise failure
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _bring(self, one: _Class, hit: Hit, fetcher: Fetcher) -> None:
        """Bring one photo in, or count why not."""
        try:
            data = await fetcher.fetch(hit.url)
            self.arrivals.check(one.label, data)
            async with self.decoding:
                jpeg, size = await asyncio.to_thread(encode_anew, data)
            self.arrivals.add(one.label, hit, data, jpeg, size)
            one.new += 1
        except Dropped as error:
            one.dropped[str(error)] += 1
            if not error.again:
                self.arrivals.refuse(hit, str(error))
        self.progress(f"collecting {one.label}", one.had + one.new, one.wanted)
