"""A page in headless Chromium, over the DevTools protocol: what it asks for, complains about, measures and shows."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds after which something never comes; a loaded machine takes its time
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"]


class Page:
    """
    A local file, or an address, opened. `requests`: addresses that it asked for. `complaints`: errors and warnings of
    the console.

        with Page(path, width=390) as page:
            page.evaluate("document.documentElement.scrollWidth")
    """

    def __init__(self, path: Path | str, width: int, dark: bool = False):
        self.path, self.width, self.dark = path, width, dark
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._answers: dict[int, dict] = {}
        self._sent = 0
        self._loaded = False

    def __enter__(self) -> "Page":
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [str(CHROMIUM), *FLAGS, *QUIET, f"--user-data-dir={self._profile.name}", "about:blank"]
        # Chromium reads commands from descriptor 3 and answers on 4
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._messages = open(self._in, "rb")
        self._open()
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        self._messages.close()
        os.close(self._out)
        self._profile.cleanup()

    def _open(self):
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.resize(self.width)
        url = self.path if isinstance(self.path, str) else self.path.resolve().as_uri()
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._read()

    def resize(self, width: int, height: int = 900):
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def call(self, method: str, **parameters) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while self._sent not in self._answers:
            self._read()
        answer = self._answers.pop(self._sent)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self):
        """One message of the browser; they end with a zero byte."""
        text = bytearray()
        while (byte := self._messages.read(1)) != b"\0":
            assert byte, "Chromium ended before the page was there"
            text += byte
        message = json.loads(text)
        if "id" in message:
            self._answers[message["id"]] = message
            return
        told = message.get("params", {})
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif message["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(told["args"]))
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif message["method"] == "Page.loadEventFired":
            self._loaded = True

    def evaluate(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str):
        """Returns as soon as an expression is true."""
        until = time.monotonic() + LIMIT
        while not self.evaluate(f"!!({script})"):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)

    def fill(self, selector: str, text: str):
        """Writes into a box, as far as frameworks can tell, by hand."""
        self.evaluate(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}); box.value = {json.dumps(text)};"
            " box.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def upload(self, selector: str, file: Path):
        """Chooses a file in an input of that kind."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def screenshot(self, path: Path):
        """The whole page as PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(image["data"]))

    def pdf(self, path: Path):
        """What would be printed, on paper of the page's own size."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(found["data"]))
