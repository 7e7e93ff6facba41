"""Drives the admin page in headless Chromium, through chromedriver.

usage: admin_page.py URL HOST:PORT DIRECTORY

URL is the admin listener, HOST:PORT the cache server, which this program puts
under load. Screenshots are written to DIRECTORY. Exits with an error unless the
page loads, its figures and charts move under load, nothing is requested from
another origin, the browser's console is empty, hostile keys are shown as text,
and the page fits into windows of 360 and of 1,400 pixels. The keyboard must reach
the values of charts, a hidden tab must not poll, and the page must say that the
server is lost and recover when it is back.
"""

import base64
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HOSTILE = '<img/src=x/onerror=alert(1)>'
DEADLINE = 60


def fail(message):
    sys.exit(f"admin_page.py: {message}")


class Browser:
    """A session of chromedriver."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--hide-scrollbars"],
            "binary": shutil.which("chromium"),
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = self.wait_for_driver(wanted)["sessionId"]

    def wait_for_driver(self, wanted):
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self.request("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            except (urllib.error.URLError, ConnectionError) as error:
                if time.monotonic() > deadline:
                    fail(f"chromedriver does not answer: {error}")
                time.sleep(0.1)

    def request(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
            return json.load(reply)["value"]

    def command(self, path, body):
        return self.request("POST", f"/session/{self.session}{path}", body)

    def run(self, script):
        return self.command("/execute/sync", {"script": f"return {script};", "args": []})

    def wait(self, what, script, wanted=lambda value: value):
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            value = self.run(script)
            if wanted(value):
                return value
            time.sleep(0.2)
        return fail(f"waited in vain: {what}; the last value was {str(value)[:200]!r}")

    def resize(self, width, height):
        # The viewport itself: a window has a least width.
        params = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        body = {"cmd": "Emulation.setDeviceMetricsOverride", "params": params}
        self.command("/goog/cdp/execute", body)

    def theme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        body = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self.command("/goog/cdp/execute", body)

    def offline(self, is_offline):
        params = {"offline": is_offline, "latency": 0, "downloadThroughput": -1,
                  "uploadThroughput": -1}
        body = {"cmd": "Network.emulateNetworkConditions", "params": params}
        self.command("/goog/cdp/execute", body)

    def press(self, key, code):
        for kind in ["rawKeyDown", "keyUp"]:
            params = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            body = {"cmd": "Input.dispatchKeyEvent", "params": params}
            self.command("/goog/cdp/execute", body)

    def picture(self, path):
        shot = self.request("GET", f"/session/{self.session}/screenshot")
        path.write_bytes(base64.b64decode(shot))

    def log(self, kind):
        return self.command("/se/log", {"type": kind})

    def quit(self):
        self.request("DELETE", f"/session/{self.session}")


def load(address, ended):
    """Sends requests until told to end."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as client:
        replies = client.makefile("rb")

        def ask(text, last):
            client.sendall(text.encode())
            while not replies.readline().startswith(last):
                pass

        number = 0
        while not ended.is_set():
            number += 1
            key = HOSTILE if number % 3 else f"key:{number % 500}"
            ask(f"set {key} 0 0 100\r\n{'v' * 100}\r\n", b"STORED")
            ask(f"get {key} missing{number}\r\n", b"END")


def text_of(selector):
    return f"document.querySelector({json.dumps(selector)})?.textContent"


def check_live(browser):
    """The figures and charts move, and all tables have rows."""
    browser.wait("the page is live", text_of("#state"), lambda text: text == "live")
    browser.wait("operations are counted", text_of("#tile-rate"),
                 lambda text: text[0] in "123456789")
    browser.wait("the history is known", "past.t.length", lambda length: length >= 4)
    rate = browser.run(text_of("#tile-rate"))
    browser.wait("the figure moves", text_of("#tile-rate"), lambda text: text != rate)
    for chart in ["operations", "percentiles", "heat"]:
        picture = f"document.querySelector('#chart-{chart} canvas').toDataURL()"
        before = browser.run(picture)
        browser.wait(f"the chart {chart} moves", picture, lambda now, before=before: now != before)
    browser.wait("the hostile key is listed as text", text_of("#table-hotkeys td.key"),
                 lambda text: text == HOSTILE)
    if browser.run("document.querySelectorAll('img').length") != 0:
        fail("a key became an element")
    for table in ["mrc", "prefixes", "classes", "settings", "listeners", "workers", "latency"]:
        browser.wait(f"the table {table} has rows",
                     f"document.querySelectorAll('#table-{table} tbody tr').length")


def check_keyboard(browser):
    """Arrow keys read values off a chart."""
    browser.press("Tab", 9)
    browser.run("document.querySelector('#chart-operations canvas').focus()")
    value = "document.getElementById('tip').textContent"
    last = browser.wait("the focus shows the last values", value, lambda text: "get hits" in text)
    browser.press("ArrowLeft", 37)
    browser.wait("an arrow key shows others", value, lambda text: text != last)
    browser.press("Escape", 27)
    browser.wait("Escape hides them", "document.getElementById('tip').hidden")


def check_controls(browser):
    """Tables are filtered and sorted, and say how features are turned on."""
    rows = "[...document.querySelectorAll('#table-settings tbody tr')]"
    browser.run("(() => { tables.settings.input.value = 'MAXCONNS_F';"
                " tables.settings.input.dispatchEvent(new Event('input')) })()")
    browser.wait("settings are filtered", f"{rows}.map((row) => row.cells[0].textContent)",
                 lambda names: names == ["maxconns_fast"])
    browser.run("(() => { tables.settings.input.value = '';"
                " tables.settings.input.dispatchEvent(new Event('input')) })()")
    names = f"{rows}.map((row) => row.cells[0].textContent)"
    before = browser.wait("all settings are back", names, lambda names: len(names) > 10)
    browser.run("document.querySelector('#table-settings th button').click()")
    browser.wait("settings are sorted", names,
                 lambda names: names != before and sorted(names) == sorted(before))
    for table in ["latency", "mrc", "hotkeys", "prefixes", "slowlog"]:
        browser.run(f"tables.{table}.update({{ enabled: false }})")
        option = browser.run(text_of(f"#table-{table} .empty code"))
        if not option or not option.startswith("-"):
            fail(f"the table {table} does not name the option that turns it on")


def check_layout(browser, pictures):
    """The page fits into its window in both schemes."""
    for width, theme in [(1400, "light"), (1400, "dark"), (360, "light"), (360, "dark")]:
        browser.theme(theme)
        browser.resize(width, 1000)
        height = browser.wait("there is a layout", "document.documentElement.scrollHeight")
        browser.resize(width, height)
        browser.wait("the theme is applied", "document.documentElement.dataset.theme",
                     lambda name, theme=theme: name == theme)
        over = browser.run("document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            fail(f"the page is {over} pixels wider than {width}")
        browser.picture(pictures / f"admin-{width}-{theme}.png")


def check_hidden(browser):
    """A hidden tab does not poll, and catches up when it is shown."""
    hide = ("(() => { Object.defineProperty(document, 'hidden', { configurable: true, value: %s });"
            " document.dispatchEvent(new Event('visibilitychange')) })()")
    browser.run(hide % "true")
    browser.wait("the last poll ends", "isPolling", lambda is_polling: not is_polling)
    requests = "performance.getEntriesByType('resource').length"
    before = browser.run(f"[{requests}, performance.now()]")
    browser.wait("time passes", "performance.now()", lambda now: now > before[1] + 2500)
    if browser.run(requests) != before[0]:
        fail("a hidden tab polls")
    length = browser.run("past.t.length")
    browser.run(hide % "false")
    browser.wait("the page catches up", "past.t.length", lambda now: now >= length + 2)


def check_lost(browser, pictures):
    """The page says that the server is lost, and recovers."""
    browser.offline(True)
    browser.wait("the page says that the server is lost", text_of("#state"),
                 lambda text: text == "unreachable")
    browser.wait("the banner says it", "document.getElementById('banner').checkVisibility()")
    browser.picture(pictures / "admin-lost.png")
    browser.offline(False)
    browser.wait("the page recovers", text_of("#state"), lambda text: text == "live")
    if browser.run("document.getElementById('banner').checkVisibility()"):
        fail("the banner stays")


def check(browser, url, pictures):
    browser.resize(1400, 1000)
    browser.command("/url", {"url": url})
    check_live(browser)
    check_layout(browser, pictures)
    check_keyboard(browser)
    check_controls(browser)
    check_hidden(browser)
    for entry in browser.log("browser"):
        fail(f"the console has: {entry['message']}")
    # From here on, the browser reports failed requests.
    check_lost(browser, pictures)
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked = message["params"]["request"]["url"]
            if not asked.startswith((url, "data:")):
                fail(f"{asked} was requested")


def main():
    url, address, directory = sys.argv[1:]
    pictures = pathlib.Path(directory)
    pictures.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    ended = threading.Event()
    loader = threading.Thread(target=load, args=(address, ended))
    loader.start()
    try:
        browser = Browser(port)
        try:
            check(browser, url, pictures)
        finally:
            # chromedriver alone would leave the browser behind.
            browser.quit()
    finally:
        ended.set()
        loader.join()
        driver.terminate()
        driver.wait()
    print("the page works")


if __name__ == "__main__":
    main()
