"""A WebSocket server by the ``websockets`` library, which does by the path what a test asks for.

``python -m tests.live.sockets PORT``.  ``/echo`` sends messages back, ``/fragments`` each fragment as soon as it has
come, ``/close/CODE/REASON`` closes, ``/ping`` pings until the client has answered and says so, ``/told`` says with what
code and reason the last client left, ``/refused`` is no WebSocket, ``/cut`` breaks the connection off.
"""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from urllib.parse import unquote

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response

MEBIBYTE = 1 << 20
MAX_MESSAGE = 32 * MEBIBYTE


class Sockets:
    """What connections do.

    :ivar left: code and reason with which the last client left.
    """

    def __init__(self) -> None:
        self.left: tuple[int | None, str | None] = (None, None)

    async def serve(self, socket: ServerConnection) -> None:
        """One connection."""
        assert socket.request is not None
        what, *more = socket.request.path.strip("/").split("/")
        try:
            match what:
                case "echo":
                    async for message in socket:
                        await socket.send(message)
                case "fragments":
                    while True:
                        await socket.send(socket.recv_streaming())
                case "close":
                    await socket.close(int(more[0]), unquote(more[1]) if len(more) > 1 else "")
                case "ping":
                    answered = await socket.ping(b"are you there?")
                    await answered
                    await socket.send("answered")
                case "told":
                    await socket.send(json.dumps(self.left))
                case "cut":
                    socket.transport.abort()
        except ConnectionClosed:
            pass
        await socket.wait_closed()
        if what != "told":
            self.left = socket.close_code, socket.close_reason


async def refuse(socket: ServerConnection, request: Request) -> Response | None:
    """Answer what is no WebSocket."""
    if request.path != "/refused":
        return None
    fields = Headers([("Content-Length", "8"), ("X-Why", "full moon"), ("Set-Cookie", "refused=1")])
    return Response(HTTPStatus.IM_A_TEAPOT.value, "Teapot", fields, b"no, sir!")


async def greet(socket: ServerConnection, request: Request, response: Response) -> None:
    """Set two cookies with the handshake."""
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        return
    response.headers["Set-Cookie"] = "first=1; Path=/"
    response.headers["Set-Cookie"] = "second=2; HttpOnly"


def begin(port: int) -> serve:
    """The server."""
    return serve(
        Sockets().serve,
        "127.0.0.1",
        port,
        process_request=refuse,
        process_response=greet,
        select_subprotocol=lambda socket, offered: "chat.v2" if "chat.v2" in offered else None,  # type: ignore[arg-type]
        extensions=[ServerPerMessageDeflateFactory(server_max_window_bits=11, client_max_window_bits=12)],
        max_size=MAX_MESSAGE,
    )


async def main() -> None:
    """Serve until killed."""
    server: Server
    async with begin(int(sys.argv[1])) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
