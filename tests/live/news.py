"""An aiohttp application with news: as a stream of events, and by long polls.

``python -m tests.live.news PORT``.  ``GET /events`` streams what is said from now on, ``GET /poll?after=N`` waits for
news after number N, ``POST /say`` says something, ``GET /listeners`` counts who listens to the stream.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


class News:
    """What was said, and who waits for more."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.more = asyncio.Condition()
        self.listeners = 0

    async def after(self, number: int) -> list[str]:
        """What came after *number* pieces; waits until there is some."""
        async with self.more:
            await self.more.wait_for(lambda: len(self.said) > number)
            return self.said[number:]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A stream of events."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        number = len(self.said)
        self.listeners += 1
        try:
            await response.prepare(request)
            await response.write(b": welcome\n\n")
            while True:
                for text in await self.after(number):
                    number += 1
                    await response.write(f"id: {number}\ndata: {text}\n\n".encode())
        finally:
            self.listeners -= 1

    async def poll(self, request: web.Request) -> web.Response:
        """News as soon as there are any."""
        number = int(request.query["after"])
        news = await self.after(number)
        return web.json_response({"news": news, "after": number + len(news)})

    async def say(self, request: web.Request) -> web.Response:
        """One more piece of news."""
        async with self.more:
            self.said.append(await request.text())
            self.more.notify_all()
        return web.Response(status=204)

    async def count(self, request: web.Request) -> web.Response:
        """Who listens."""
        return web.json_response(self.listeners)


async def make() -> web.Application:
    """The application."""
    news, application = News(), web.Application()
    application.add_routes(
        [
            web.get("/events", news.events),
            web.get("/poll", news.poll),
            web.post("/say", news.say),
            web.get("/listeners", news.count),
        ]
    )
    return application


if __name__ == "__main__":
    # Whoever goes is missed at once, not when something is next written to them.
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
