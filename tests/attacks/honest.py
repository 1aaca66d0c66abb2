#!/usr/bin/python3
"""The honest client of the attacks, and the next hop that its mail goes to: how long does one message take?

honest.py ADDRESS PORT HOP-PORT FILE: from ADDRESS, one connection and one message after the other to the listener at
127.0.0.1:PORT, for n@honest.test, which is relayed to HOP-PORT, where this program listens, too.  One line a message in FILE: when it
began, the seconds until it had arrived there, and "ok", or what went wrong.  Ends when it is killed.
"""
import asyncio
import sys
import time

PAUSE = 0.05
PATIENCE = 20   # of one message


class Hop:
    """Takes everything; wakes whoever waits for the recipient."""

    def __init__(self):
        self.waiting = {}

    async def serve(self, reader, writer):
        try:
            writer.write(b"220 honest.test\r\n")
            to = []
            while line := await reader.readline():
                word = line[:4].upper()
                if word == b"EHLO":
                    writer.write(b"250-honest.test\r\n250 PIPELINING\r\n")
                elif word == b"RCPT":
                    to.append(line[9:line.rindex(b">")].decode())
                    writer.write(b"250 ok\r\n")
                elif word == b"DATA":
                    writer.write(b"354 go\r\n")
                    while await reader.readline() not in (b".\r\n", b""):
                        pass
                    writer.write(b"250 taken\r\n")
                    for t in to:
                        if t in self.waiting and not self.waiting[t].done():
                            self.waiting[t].set_result(None)
                    to = []
                elif word == b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 ok\r\n")
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        writer.close()


async def one(hop, address, port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        to = f"n{number}@honest.test"
        arrived = hop.waiting[to] = asyncio.get_running_loop().create_future()

        async def expect(code):
            while True:
                line = await reader.readuntil(b"\r\n")
                if line[3:4] != b"-":
                    break
            if not line.startswith(code):
                raise ValueError(line.decode(errors="replace").strip())

        await expect(b"220")
        for command, code in ((b"EHLO honest.test", b"250"), (b"MAIL FROM:<h@honest.test>", b"250"), (b"RCPT TO:<" + to.encode() + b">", b"250"),
                              (b"DATA", b"354"), (b"Subject: honest\r\n\r\nhello\r\n.", b"250")):
            writer.write(command + b"\r\n")
            await expect(code)
        writer.write(b"QUIT\r\n")
        await arrived
    finally:
        hop.waiting.pop(to, None)
        writer.close()


async def main(address, port, hop_port, path):
    hop = Hop()
    server = await asyncio.start_server(hop.serve, "127.0.0.1", hop_port, backlog=256)
    out = open(path, "w", buffering=1)
    print("ready", flush=True)
    number = 0
    async with server:
        while True:
            number += 1
            began, why = time.time(), "ok"
            try:
                await asyncio.wait_for(one(hop, address, port, number), PATIENCE)
            except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
                why = f"{type(e).__name__} {e}".strip()
            out.write(f"{began:.3f} {time.time() - began:.4f} {why}\n")
            await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
