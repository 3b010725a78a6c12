"""RFC 2544 over whatever can make a trial: throughput, latency, frame loss, back-to-back (sections 26.1 to 26.4).

    send(size, rate, seconds) -> outcome        burst(size, frames) -> outcome
        └── throughput: first at the highest rate, then halves between what passed and what did not
                └── latency at shares of it, with a few percent less than what loses anything
        └── loss curve: from the highest rate down in equal steps, until two in a row lose nothing (26.3)
        └── back-to-back: the longest burst that loses nothing, halved for, some times over

As src/bench/rfc2544 does it, for generators that bypath does not drive itself: both ends of a search are a part of each other,
so that a slow device is known as exactly as a fast one. Bounded: log2 of the highest rate by what the device does, and of
one by the resolution, and no rate below the least one. A rate that the generator cannot reach is said, and what it reached takes its
place. Where nothing arrives in the first trial there is nothing to measure, and the run ends with that. What was concluded until an
error is in `result`, which says in which section it came.
"""

from dataclasses import dataclass

from report import Error

# A generator that sends less than this part of what it was asked for is the limit, not what is measured.
REACHED = 0.99


@dataclass
class Plan:
    """What is measured, and how carefully."""

    seconds: float = 10.0
    # As a part of the rate that is found.
    resolution: float = 0.005
    # Frames per second; nothing is tried below.
    rate_min: float = 1000.0
    # The part of the frames that may be lost and the trial still passes.
    loss_max: float = 0.0
    shares: tuple = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    curve_steps: int = 10
    # 0: section 26.4 is left out.
    bursts: int = 0
    burst_seconds: float = 2.0


def loss(outcome):
    """The lost part of what was offered."""
    return outcome["lost"] / outcome["offered"] if outcome["offered"] else 0.0


def offered_pps(outcome):
    """Frames per second that were offered."""
    return outcome["offered"] / outcome["seconds"] if outcome["seconds"] > 0 else 0.0


class Run:
    """RFC 2544 for one subject and one size. `about` has the `case`, the `subject`, the `kind` and the `flows`; `seen` is
    called with what was done and its outcome, after every trial. `result` is the report's `Rfc2544` as far as it is known, and None
    until the throughput is."""

    def __init__(self, trial, about, size, rate_max, plan, seen=lambda what, outcome: None):
        self.trial, self.about, self.size, self.rate_max, self.plan = trial, about, size, rate_max, plan
        self.seen = seen
        self.notes = []
        self.section = "throughput"
        self.result = None

    def run(self):
        """All sections; `result` in the end."""
        try:
            self._sections()
        except BaseException:
            self._note(f"ended in {self.section}: what would have come from there on is missing")
            raise
        return self.result

    def _sections(self):
        throughput, search = self.throughput()
        self.result = {
            **self.about,
            "size": str(self.size),
            "throughput_pps": throughput,
            "search": search,
            "latency": [],
            "loss_curve": [],
            "back_to_back": [],
            "notes": self.notes,
        }
        self.section = "latency"
        if throughput:
            self.result["latency"] = self.latency(throughput)
        self.section = "loss"
        self.result["loss_curve"] = self.loss_curve()
        self.section = "back-to-back"
        for _ in range(self.plan.bursts):
            self.result["back_to_back"].append(self.back_to_back())

    def throughput(self):
        """The highest rate that passed, and the trials on the way to it."""
        search = []
        passed, failed = 0.0, self.rate_max
        rate = self.rate_max
        while True:
            outcome = self._send("throughput", rate)
            reached = min(rate, offered_pps(outcome))
            search.append([reached, loss(outcome)])
            if len(search) == 1 and outcome["offered"] and not outcome["received"]:
                raise Error(
                    f"nothing arrives of {outcome['offered']} frames of size {self.size}: see cables, the next hop's address "
                    "(--dst-mac), routes and MTU of what is measured"
                )
            if loss(outcome) <= self.plan.loss_max:
                if rate == self.rate_max or reached < REACHED * rate:
                    # There is nothing above it that could be tried.
                    if rate < self.rate_max or reached < REACHED * rate:
                        self._note(f"the generator is the limit: {reached:.0f} of {rate:.0f} frames a second")
                    return reached, search
                passed = rate
            else:
                failed = rate
            if failed - passed <= self.plan.resolution * failed:
                return passed, search
            if failed <= self.plan.rate_min:
                self._note(f"no rate without loss: the lowest tried, {failed:.0f} frames a second, lost, too")
                return 0.0, search
            rate = max((passed + failed) / 2, self.plan.rate_min)

    def latency(self, throughput):
        """Delays at shares of the throughput."""
        found = []
        for share in self.plan.shares:
            if share * throughput < self.plan.rate_min:
                self._note(f"no delays at {share:g} of the throughput: that is less than {self.plan.rate_min:.0f} frames a second")
                continue
            outcome = self._send(f"latency at {share:g}", share * throughput)
            if outcome["latency"] is None:
                self._note(f"no delays at {share:g} of the throughput: no frame that was timed arrived")
                continue
            if loss(outcome) > self.plan.loss_max:
                self._note(f"at {share:g} of the throughput {loss(outcome):.2g} of the frames were lost")
            found.append([share, outcome["latency"]])
        return found

    def loss_curve(self):
        """The loss at rates from the highest down."""
        curve, clean = [], 0
        for step in range(self.plan.curve_steps, 0, -1):
            rate = self.rate_max * step / self.plan.curve_steps
            if rate < self.plan.rate_min:
                break
            outcome = self._send("loss", rate)
            curve.append([offered_pps(outcome), loss(outcome)])
            clean = clean + 1 if outcome["lost"] == 0 else 0
            if clean == 2:
                break
        return curve

    def back_to_back(self):
        """Frames of the longest burst that passes, to a hundredth."""
        longest = max(1, int(self.rate_max * self.plan.burst_seconds))
        passed, failed, frames = 0, longest, longest
        while True:
            outcome = self.trial.burst(self.size, frames)
            self.seen(f"burst of {frames}", outcome)
            if loss(outcome) <= self.plan.loss_max and outcome["received"]:
                passed = frames
                if frames == longest:
                    self._note(f"no burst of {self.plan.burst_seconds:g} s at the highest rate was too long")
                    return passed
            else:
                failed = frames
            if failed - passed <= max(1, failed // 100):
                return passed
            frames = (passed + failed) // 2

    def _send(self, what, rate):
        outcome = self.trial.send(self.size, rate, self.plan.seconds)
        self.seen(what, outcome)
        return outcome

    def _note(self, note):
        if note not in self.notes:
            self.notes.append(note)
