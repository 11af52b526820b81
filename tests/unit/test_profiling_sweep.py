"""The sweep: which cells, in which order, within which budget, with which error; no kernels run."""

import dataclasses

import pytest

from pruneaug_cli.core import DENSE, BlockShape, LayerChoice, parse_geometry
from pruneaug_cli.errors import ProfileError, UnsupportedError, UsageError
from pruneaug_cli.profiling import host_facts, profile_platform, usable_cores, why_not_extend
from pruneaug_cli.profiling.cells import plan_cells
from pruneaug_cli.profiling.host import cpu_facts
from pruneaug_cli.profiling.sweep import CHECKED_AGAIN, RETRIES, resolved
from pruneaug_cli.profiling.timer import added_copies
from pruneaug_cli.runtime import Samples

CONV = parse_geometry("conv 64 64 3 3 32 32 1 1")
LINEAR = parse_geometry("linear 10 256 1")
TALL, SMALL = BlockShape(8, 1), BlockShape(4, 1)
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)


class FakeBackend:
    """Serves every block but one, on every layer but one."""

    name = "fake"

    def __init__(self, reason=None):
        self._reason = reason

    def why_unavailable(self):
        return self._reason

    def why_unsupported(self, geometry, block):
        return "no kernel" if (geometry, block) == (LINEAR, TALL) else None

    def fingerprint(self):
        return {"library": "fake", "digest": "d"}


class FakeTimer:
    """Says 1 second per dense layer, less by its density, and lets that much time pass."""

    def __init__(self, spreads=()):
        self.now = 0.0
        self.asked = []
        self._spreads = list(spreads)

    def clock(self):
        return self.now

    def ours(self, geometry, choice):
        self.asked.append((geometry, choice))
        self.now += 1.0
        spread = self._spreads.pop(0) if self._spreads else 0.0
        latency = 1.0 - choice.sparsity
        return Samples((latency * (1 - spread), latency, latency * (1 + spread)))

    def peer(self, geometry):
        self.now += 1.0
        return Samples((0.9,) * 3)

    yardstick_s = 1e-4


def sweep(timer, **changes):
    settings = {
        "backend": FakeBackend(),
        "name": "box",
        "blocks": (TALL, SMALL),
        "sparsities": SPARSITIES,
        "budget_s": 1e6,
        "timer": timer,
        "clock": timer.clock,
    }
    return profile_platform([CONV, LINEAR, CONV], **{**settings, **changes})


def test_every_geometry_gets_dense_and_the_ends_of_every_block_first():
    cells = plan_cells(
        [CONV, LINEAR], [TALL, SMALL], SPARSITIES, serves=lambda g, b: (g, b) != (LINEAR, TALL)
    )
    asked = [(cell.geometry, str(cell.choice)) for cell in cells.essential]
    assert asked == [
        (CONV, "dense"),
        (LINEAR, "dense"),
        (CONV, "8x1 @ 0.5"),
        (CONV, "8x1 @ 0.95"),
        (CONV, "4x1 @ 0.5"),
        (CONV, "4x1 @ 0.95"),
        (LINEAR, "4x1 @ 0.5"),
        (LINEAR, "4x1 @ 0.95"),
    ]
    # then the middle sparsity of all pairs, before any other
    assert [cell.choice.sparsity for cell in cells.refining] == [0.8] * 3 + [0.7] * 3 + [0.9] * 3


@pytest.mark.parametrize("sparsities", [(0.5,), (0.5, 0.9)])
def test_one_or_two_sparsities_are_all_essential(sparsities):
    cells = plan_cells([CONV], [TALL], sparsities, serves=lambda g, b: True)
    assert [cell.choice.sparsity for cell in cells.essential] == [0.0, *sparsities]
    assert cells.refining == ()


def test_a_profile_holds_every_cell_the_back_end_serves():
    profile = sweep(FakeTimer())
    assert len(profile.measurements) == 2 + 3 * len(SPARSITIES)
    row = profile.find(CONV, LayerChoice(TALL, 0.7))
    assert row is not None
    assert row.latency_s == pytest.approx(0.3)
    assert profile.find(LINEAR, LayerChoice(TALL, 0.7)) is None
    assert {peer.geometry for peer in profile.peers} == {CONV, LINEAR}
    assert (profile.platform.backend, profile.kernels["digest"]) == ("fake", "d")
    assert profile.repeat_error == 0.0


def test_a_used_budget_leaves_out_only_what_lies_between():
    notes = []
    timer = FakeTimer()
    profile = sweep(timer, budget_s=13.0, progress=notes.append)
    # 2 peers and 8 essential cells take 10 s: three of the nine in between fit
    assert len(profile.measurements) == 8 + 3
    assert {row.choice.sparsity for row in profile.measurements} == {0.0, 0.5, 0.8, 0.95}
    assert "the budget is used: 6 sparsities in between are left out" in [s.note for s in notes]
    assert len(sweep(FakeTimer(), budget_s=0.0).measurements) == 8


def test_progress_counts_up_to_its_total():
    steps = []
    sweep(FakeTimer(), progress=steps.append)
    assert [step.done for step in steps] == list(range(1, steps[-1].total + 1))
    assert steps[0].note == "dense on conv 64 64 3 3 32 32 1 1"
    assert steps[8].note == "ONNX Runtime alone on conv 64 64 3 3 32 32 1 1"
    cut = []
    sweep(FakeTimer(), budget_s=0.0, progress=cut.append)
    assert cut[-1].done == cut[-1].total


def test_a_noisy_row_is_measured_again_and_the_calmest_kept():
    timer = FakeTimer(spreads=[0.5, 0.3, 0.4])
    profile = sweep(timer)
    dense = profile.find(CONV, DENSE)
    assert dense is not None
    assert dense.spread == pytest.approx(0.3)
    assert timer.asked[: RETRIES + 1] == [(CONV, DENSE)] * (RETRIES + 1)
    assert timer.asked[RETRIES + 1] == (LINEAR, DENSE)


def test_the_smaller_a_layer_the_more_copies_of_it_are_timed():
    sparse = LayerChoice(TALL, 0.95)
    # 37.7 million products against 5.7 million for the session and 131072 numbers; a 20th of them
    assert (added_copies(CONV, DENSE), added_copies(CONV, sparse)) == (2, 4)
    assert added_copies(LINEAR, DENSE) == 32


def test_the_repeat_error_is_how_far_rows_move_when_measured_again():
    class Drifting(FakeTimer):
        def ours(self, geometry, choice):
            samples = super().ours(geometry, choice)
            again = self.asked.count((geometry, choice)) > 1
            return Samples(tuple(s * (1.04 if again else 1.0) for s in samples.samples_s))

    timer = Drifting()
    assert sweep(timer).repeat_error == pytest.approx(0.04)
    assert len(timer.asked) == 17 + CHECKED_AGAIN


def test_a_layer_below_the_clock_counts_as_what_noise_could_hide():
    latency, spread = resolved(Samples((-1.0, 0.0, 1.0, 0.0)))
    # quartiles -0.25 and 0.25, four samples
    assert latency == pytest.approx(0.5 / 2.0)
    assert spread == pytest.approx(2.0)


def test_an_existing_profile_is_completed_not_measured_again():
    first = sweep(FakeTimer(), budget_s=0.0)
    timer = FakeTimer()
    whole = sweep(timer, existing=first)
    essential = {(row.geometry, row.choice) for row in first.measurements}
    assert len(timer.asked) == 9 + CHECKED_AGAIN
    assert not essential & set(timer.asked)
    assert {(row.geometry, row.choice) for row in whole.measurements} >= essential
    assert len(whole.measurements) == 17
    untouched = FakeTimer()
    again = sweep(untouched, existing=whole)
    assert untouched.asked == []
    assert again.repeat_error == whole.repeat_error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"kernels": {"library": "fake", "digest": "e"}},
            "its kernel digest was 'e', now it is 'd'",
        ),
        ({"host": {"cpu": "Other"}}, "its cpu was 'Other', now it is "),
        ({"platform": None}, "it is for "),
        (
            {"settings": {"yardstick": "a nap"}},
            "its yardstick was 'a nap', now it is '4 times conv",
        ),
    ],
    ids=["kernels", "host", "threads", "yardstick"],
)
def test_a_profile_of_something_else_is_not_extended(change, reason):
    profile = sweep(FakeTimer())
    if "platform" in change:
        change = {"platform": dataclasses.replace(profile.platform, threads=8)}
    other = dataclasses.replace(profile, **change)
    with pytest.raises(ProfileError, match="profile 'box' cannot be extended: ") as error:
        sweep(FakeTimer(), existing=other)
    assert reason in str(error.value)
    now = {"host": profile.host, "kernels": profile.kernels, "platform": profile.platform}
    assert why_not_extend(profile, **now) is None
    assert why_not_extend(other, **now) is not None


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="there is no layer to measure"):
        profile_platform([], backend=FakeBackend(), name="box")
    with pytest.raises(UsageError, match="a sparsity to measure lies between 0 and 1, got 1"):
        sweep(FakeTimer(), sparsities=(0.5, 1.0))
    with pytest.raises(
        UnsupportedError, match="the fake kernels cannot be timed here: no C compiler"
    ):
        sweep(FakeTimer(), backend=FakeBackend("no C compiler"))


def test_the_host_is_described_without_naming_it():
    facts = host_facts()
    assert facts.keys() >= {"cpu", "isa", "cores", "os", "onnxruntime"}
    assert int(facts["cores"]) == usable_cores() >= 1
    assert not any("/" in value for value in facts.values())


XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Xeon
stepping\t: 7
flags\t\t: sse2 avx2 avx512f

processor\t: 1
model name\t: Other"""
ARM = "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08"


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "expected"),
    [
        (XEON, "x86_64", {"cpu": "Xeon", "isa": "avx512", "cpu_id": "GenuineIntel-6-85-7"}),
        (ARM, "aarch64", {"isa": "neon", "cpu_id": "0x41-0xd08"}),
        ("", "riscv64", {"isa": "riscv64"}),
    ],
    ids=["x86", "arm", "unknown"],
)
def test_the_cpu_is_read_from_cpuinfo(cpuinfo, architecture, expected):
    assert cpu_facts(cpuinfo, architecture=architecture).items() >= expected.items()
