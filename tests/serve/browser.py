"""A headless Chromium, driven over a pair of pipes by the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def found():
    """Where one is; None: nowhere."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def _high(pipe):
    """The same pipe by numbers that are not 3 or 4."""
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in pipe]
    for one in pipe:
        os.close(one)
    return moved


class Page:
    """One page, and what it did: requests by address, and what its console said.

    Args:
        binary: of the browser.
        profile: a folder for it alone.
        size: of the window, in pixels.
    """

    def __init__(self, binary, profile, size=(1120, 760)):
        to, self._to = _high(os.pipe())
        self._from, back = _high(os.pipe())
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        # What the browser itself would ask the network for.
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
        ]
        flags += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--disable-dev-shm-usage"]
        # The protocol is spoken on 3 and 4, whatever numbers the pipes have here.
        script = f'exec "$@" 3<&{to} 4>&{back}'
        command = ["bash", "-c", script, "bash", binary, *flags, "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to)
        os.close(back)
        self._rest, self._number, self._session = b"", 0, None
        self.requests, self.complaints = [], []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends the browser."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(pipe)

    def call(self, method, **parameters):
        """A command of the protocol; its result."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while True:
            message = self._next(60)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def _next(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            part = os.read(self._from, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(one)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, said):
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"].get("exception", {}).get("description") or str(said))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url')}")

    def go(self, address):
        """Opens an address, and waits until its page is there."""
        self.call("Page.navigate", url=address)
        self.until(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def value(self, script):
        """What a script gives; it may be a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script, seconds=30):
        """Waits until it gives something true, and returns that."""
        end = time.monotonic() + seconds
        while not (value := self.value(script)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.05)
        return value

    def picture(self, path):
        """Writes the window as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
