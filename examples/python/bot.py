"""A bot that answers each "ping" of a direct chat with "pong", once, whatever happens to it, to the network or to the server.

It speaks Protobuf over a WebSocket. ../README.md says why it is built as it is.
"""

import asyncio
import hashlib
import os
import random
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from parley.v1 import chat_pb2, frame_pb2, record_pb2

CALL_S = 30
FIRST_HEARTBEAT_MS = 30_000
# gRPC's numbers: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED. The same again would be refused again.
FINAL = {3, 5, 7, 12}


class Refused(Exception):
    """The server's Failure as the answer to a call."""

    def __init__(self, failure: frame_pb2.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Farewell(Exception):
    """The server's Goodbye."""

    def __init__(self, goodbye: chat_pb2.Goodbye) -> None:
        super().__init__(chat_pb2.CloseReason.Name(goodbye.reason))
        self.goodbye = goodbye


class Calls:
    """The calls of one connection: each has a number, and its answer carries it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future] = {}
        self._last = 0

    async def send(self, frame: frame_pb2.ClientFrame) -> None:
        await self._socket.send(frame_pb2.ClientBatch(frames=[frame]).SerializeToString())

    async def call(self, name: str, request):
        """The answer to the request, which is ClientFrame's field of that name; raises Refused, or TimeoutError."""
        self._last += 1
        number = self._last
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self.send(frame_pb2.ClientFrame(request_id=number, **{name: request}))
            return await asyncio.wait_for(answer, CALL_S)
        finally:
            del self._waiting[number]

    def answered(self, frame: frame_pb2.ServerFrame) -> None:
        waiting = self._waiting.get(frame.request_id)
        if waiting is None or waiting.done():
            return
        if frame.WhichOneof("frame") == "failure":
            waiting.set_exception(Refused(frame.failure))
        else:
            waiting.set_result(getattr(frame, frame.WhichOneof("frame")))


def may_follow(configured: str, url: str) -> bool:
    """Never from TLS to none."""
    return url.startswith(("https:", "wss:")) or (
        url.startswith(("http:", "ws:")) and configured.startswith(("http:", "ws:"))
    )


class Bot:
    def __init__(self, url: str, token: str, device: str) -> None:
        self.url, self.token, self.device = url, token, device
        self.user = ""
        self.sync_token = b""
        self.must_sync = False
        self.welcomed = False
        self.news = asyncio.Event()
        # By conversation: the last seq that there is, up to which all is answered, and up to which an answer may have been sent.
        self.heads: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self.tried: dict[str, int] = {}

    async def run(self) -> str:
        """Stays connected; returns why coming back makes no sense."""
        url, failures = self.url, 0
        while True:
            self.welcomed, goodbye = False, None
            try:
                socket_url = url.replace("http", "ws", 1).rstrip("/") + "/ws"
                headers = {"Authorization": f"Bearer {self.token}"}
                async with connect(socket_url, subprotocols=["parley.v1"], additional_headers=headers) as socket:
                    async with asyncio.TaskGroup() as tasks:
                        calls = Calls(socket)
                        tasks.create_task(self.listen(socket, calls))
                        tasks.create_task(self.work(calls))
            except* Farewell as group:
                goodbye = group.exceptions[0].goodbye
            except* (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, Refused) as group:
                print(f"disconnected: {group.exceptions[0]!r}", flush=True)
            failures = 0 if self.welcomed else failures + 1
            url, wait_s = self.url, random.uniform(0, min(30, 0.5 * 2**failures))
            if goodbye is not None:
                if goodbye.reason >= chat_pb2.CLOSE_REASON_UNAUTHENTICATED:
                    return chat_pb2.CloseReason.Name(goodbye.reason)
                url = goodbye.url if may_follow(self.url, goodbye.url) else url
                wait_s = goodbye.reconnect_after_ms / 1000
            await asyncio.sleep(wait_s)

    async def listen(self, socket: ClientConnection, calls: Calls) -> None:
        """Takes what the server sends, as fast as it comes: what is to be done about it is only noted."""
        hello = frame_pb2.Hello(device_id=self.device, sync_token=self.sync_token, records_per_conversation=1)
        await calls.send(frame_pb2.ClientFrame(hello=hello))
        heartbeat_ms = FIRST_HEARTBEAT_MS
        while True:
            message = await asyncio.wait_for(socket.recv(decode=False), 2.5 * heartbeat_ms / 1000)
            for frame in frame_pb2.ServerBatch.FromString(message).frames:
                match frame.WhichOneof("frame"):
                    case _ if frame.request_id:
                        calls.answered(frame)
                    case "welcome":
                        self.welcomed, self.user = True, frame.welcome.user_id
                        heartbeat_ms = frame.welcome.heartbeat_ms
                        print(f"connected as {self.user}", flush=True)
                    case "sync":
                        self.note_sync(frame.sync)
                    case "pushed":
                        for record in frame.pushed.records:
                            self.note(record.conversation_id, record.seq)
                        self.must_sync |= frame.pushed.resync
                    case "heartbeat":
                        await calls.send(frame_pb2.ClientFrame(heartbeat_reply={}))
                        self.must_sync |= frame.heartbeat.head_sum > sum(self.heads.values())
                    case "goodbye":
                        raise Farewell(frame.goodbye)
            self.news.set()

    def note(self, conversation: str, seq: int) -> None:
        self.heads[conversation] = max(seq, self.heads.get(conversation, 0))

    def note_sync(self, sync: chat_pb2.SyncResponse) -> None:
        for delta in sync.conversations:
            self.note(delta.conversation.conversation_id, delta.conversation.head_seq)
        self.sync_token = sync.token

    async def work(self, calls: Calls) -> None:
        """Does what there is to do, whenever there is news."""
        while True:
            await self.news.wait()
            self.news.clear()
            try:
                while self.must_sync:
                    sync = await calls.call("sync", chat_pb2.SyncRequest(token=self.sync_token))
                    self.note_sync(sync)
                    self.must_sync = not sync.complete
                for conversation, head in list(self.heads.items()):
                    if conversation.startswith("d:") and self.answered.get(conversation, 0) < head:
                        await self.catch_up(calls, conversation)
            except Refused as refused:
                await asyncio.sleep((refused.failure.retry_after_ms or 1_000) / 1000)
                self.news.set()

    async def catch_up(self, calls: Calls, conversation: str) -> None:
        head = self.heads[conversation]
        try:
            await self.answer_all(calls, conversation)
        except Refused as refused:
            if refused.failure.code not in FINAL:
                raise
            print(f"no answers in {conversation}: {refused}", flush=True)
            self.answered[conversation] = head

    async def answer_all(self, calls: Calls, conversation: str) -> None:
        """Answers what is not answered yet, oldest first."""
        if conversation not in self.answered:
            self.tried[conversation] = self.heads[conversation]  # by an earlier life of this bot, maybe
            self.answered[conversation] = await self.last_answered(calls, conversation)
        while self.answered[conversation] < self.heads[conversation]:
            after = self.answered[conversation]
            page = await calls.call("history", chat_pb2.HistoryRequest(conversation_id=conversation, after_seq=after))
            if not page.records:
                return
            for record in page.records:
                await self.answer(calls, record)
                self.answered[conversation] = record.seq
            cursor = {"conversation_id": conversation, "delivered_seq": record.seq, "read_seq": record.seq}
            await calls.call("move_cursor", chat_pb2.MoveCursorRequest(**cursor))

    async def last_answered(self, calls: Calls, conversation: str) -> int:
        """The log itself says how far an earlier life of this bot came: answers are made in order, and name what they answer."""
        before = 0
        while True:
            request = chat_pb2.HistoryRequest(conversation_id=conversation, before_seq=before, limit=200)
            page = await calls.call("history", request)
            for record in reversed(page.records):
                if record.sender_id == self.user and record.message.reply_to_seq:
                    return record.message.reply_to_seq
            if not page.records or page.records[0].seq <= max(page.floor_seq, 1):
                return 0
            before = page.records[0].seq

    async def answer(self, calls: Calls, record: record_pb2.Record) -> None:
        conversation, seq, text = record.conversation_id, record.seq, record.message.text
        if record.sender_id == self.user or not text.startswith("ping"):
            return
        retry = seq <= self.tried[conversation]
        self.tried[conversation] = max(seq, self.tried[conversation])
        request = chat_pb2.SendRequest(
            conversation_id=conversation,
            # The same at every try, in every life of this bot: never a second answer.
            client_id=hashlib.sha256(f"{conversation}#{seq}".encode()).digest()[:16],
            content=record_pb2.Content(text="pong" + text.removeprefix("ping"), reply_to_seq=seq),
            known_head_seq=seq,
            retry=retry,
        )
        sent = await calls.call("send", request)
        print(f"answered {conversation} #{seq} with #{sent.seq}", flush=True)


if __name__ == "__main__":
    bot = Bot(os.environ["PARLEY_URL"], os.environ["PARLEY_TOKEN"], os.environ.get("PARLEY_DEVICE", "pong"))
    try:
        sys.exit(asyncio.run(bot.run()))
    except KeyboardInterrupt:
        pass
