"""A high job that comes while a low one runs, seen by one client."""
import statistics
import time


class Duel:
    """A low job and then a high one, both waited for with events on one connection: what came in zitd's own order."""

    def __init__(self, daemon, low, high, delay_s=0.0):
        self.connection = daemon.connect()
        self.lines = []
        requests = [self.connection.send("submit", wait=True, events=True, priority="low", **low)]
        self.read(lambda: any(e["step"] >= 2 for e in self.events()))
        self.low = self.events()[0]["job"]
        time.sleep(delay_s)
        begin = time.perf_counter()
        requests.append(self.connection.send("submit", wait=True, events=True, priority="high", **high))
        self.read(lambda: any(e["job"] != self.low and e["step"] >= 1 for e in self.events()))
        self.first_step_s = time.perf_counter() - begin
        self.read(lambda: sum("result" in line for line in self.lines) == 2)
        daemon.accepted.update(e["job"] for e in self.events())
        self.records = [next(line["result"] for line in self.lines if line.get("id") == r) for r in requests]

    def read(self, condition):
        while not condition():
            self.lines.append(self.connection.read_line())

    def events(self):
        return [line["params"] for line in self.lines if line.get("method") == "event"]

    def steps_between(self):
        """Steps of the low job that zitd heard of between the high one's arrival and its first own step."""
        events = self.events()
        arrival = next(i for i, e in enumerate(events) if e["job"] != self.low)
        first = next(i for i, e in enumerate(events) if e["job"] != self.low and e["step"] >= 1)
        return sum(e["job"] == self.low and e["state"] == "running" for e in events[arrival:first])


def quantiles(values):
    values = sorted(values)
    return f"p50 {statistics.median(values) * 1e3:.1f} ms, p99 {values[int(len(values) * 0.99)] * 1e3:.1f} ms"
