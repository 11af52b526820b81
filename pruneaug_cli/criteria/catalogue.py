"""Every criterion by name: the list a newcomer reads first."""

from pruneaug_cli.criteria.criterion import Criterion
from pruneaug_cli.criteria.hessian import HessianDiagonal
from pruneaug_cli.criteria.magnitude import Magnitude
from pruneaug_cli.criteria.taylor import Taylor
from pruneaug_cli.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    {
        "magnitude": Magnitude,
        "taylor": Taylor,
        "hessian-diagonal": HessianDiagonal,
    },
)
