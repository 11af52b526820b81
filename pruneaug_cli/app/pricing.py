"""What every choice of every layer costs on the platform, and the rest of the network."""

from collections.abc import Callable
from dataclasses import dataclass

from pruneaug_cli.app.calibration import calibrate
from pruneaug_cli.app.candidates import Candidates, find_candidates
from pruneaug_cli.app.prepared import PreparedModel
from pruneaug_cli.app.recipe import Recipe
from pruneaug_cli.app.run_directory import RunDirectory
from pruneaug_cli.core import LayerChoice, Option
from pruneaug_cli.errors import UnsupportedError
from pruneaug_cli.evaluation import price_options
from pruneaug_cli.files import digest_text, dump_json
from pruneaug_cli.kernels import BACKENDS
from pruneaug_cli.layers import PrunableLayer
from pruneaug_cli.platforms import (
    LatencyTable,
    NetworkMeasurement,
    Profile,
    find_profile,
    read_profile,
    write_profile,
)
from pruneaug_cli.profiling import host_facts, why_not_extend
from pruneaug_cli.progress import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Pricing:
    """Prices of a network on a platform.

    Attributes:
        profile: where they come from, with the network's rest in it.
        network: the rest, and the latency of the dense ONNX file.
        candidates: choices per layer.
        layers: the layers, in the model's order.
    """

    profile: Profile
    network: NetworkMeasurement
    candidates: Candidates
    layers: tuple[PrunableLayer, ...]

    def target_latency_s(self, recipe: Recipe) -> float | None:
        """The latency the goal asks for; a speed-up refers to the dense ONNX file."""
        goal = recipe.goal
        if goal.target_speedup is not None:
            return self.network.dense_latency_s / goal.target_speedup
        return goal.target_latency_s

    def planned_latency_s(self, recipe: Recipe) -> float | None:
        """What the search plans for: the target, less the margin for the error of predictions."""
        target = self.target_latency_s(recipe)
        return None if target is None else target * (1.0 - recipe.search.margin)

    def options(
        self, harm: Callable[[str, LayerChoice], float] = lambda *_: 0.0
    ) -> dict[str, tuple[Option, ...]]:
        """Every choice with its price inside this network, and its harm where that is known."""
        table = LatencyTable(self.profile)
        return price_options(
            self.layers,
            self.candidates.choices,
            lambda layer, choice: table.in_network(
                self.network, layer.name, layer.geometry, choice, uses=layer.uses
            ),
            harm,
        )

    def digest(self) -> str:
        """Digest of the profile."""
        return digest_text(dump_json(self.profile.to_json()))


def price(
    prepared: PreparedModel, recipe: Recipe, run: RunDirectory, progress: Progress
) -> Pricing:
    """Price the choices of every layer; measures the network's rest once if the profile lacks it.

    What was measured is kept in the run's folder, where no other prices are: those of a study stay
    there until a search with others is accepted.

    Raises:
        UnsupportedError: a layer or block was not measured; or the rest is unknown, and this is
            another machine than the profile's.
    """
    profile = read_profile(find_profile(recipe.require("platform")))
    table = LatencyTable(profile)
    candidates = find_candidates(prepared.layers, recipe.layers, recipe.search, table)
    profile = _with_network(prepared, profile, run, progress)
    if not run.profile.exists():
        write_profile(profile, run.profile)
    network = profile.network(prepared.network_digest())
    assert network is not None  # noqa: S101 - _with_network put it there
    return Pricing(profile, network, candidates, prepared.layers)


def _with_network(
    prepared: PreparedModel, profile: Profile, run: RunDirectory, progress: Progress
) -> Profile:
    digest = prepared.network_digest()
    if profile.network(digest) is not None:
        return profile
    if run.profile.exists():
        earlier = read_profile(run.profile)
        known = earlier.network(digest)
        if known is not None and profile.with_network(known).to_json() == earlier.to_json():
            return earlier
    _require_this_machine(profile)
    return profile.with_network(calibrate(prepared, profile, progress))


def _require_this_machine(profile: Profile) -> None:
    backend = BACKENDS.create(profile.platform.backend)
    reason = why_not_extend(
        profile, host=host_facts(), kernels=backend.fingerprint(), platform=profile.platform
    )
    if reason is not None:
        raise UnsupportedError(
            f"profile {profile.name!r} does not know this network, and it cannot be measured here: "
            f"{reason}",
            hint=f"on the device, run: pruneaug profile --task TASK --platform {profile.name}",
        )
