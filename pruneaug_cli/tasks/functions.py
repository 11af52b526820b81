"""The functions a task may have: what each is for, and how it is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """One function of the contract: what needs it, and an example to copy."""

    purpose: str
    example: str


TASK_FUNCTIONS: dict[str, TaskFunction] = {
    "build_model": TaskFunction(
        "makes the network that the checkpoint belongs to",
        "def build_model():\n    return MyNet()",
    ),
    "example_inputs": TaskFunction(
        "shows the shapes of the inputs, for tracing, profiling and export",
        "def example_inputs():\n    return torch.zeros(1, 3, 224, 224)",
    ),
    "evaluate": TaskFunction(
        "measures the accuracy that the search keeps",
        "def evaluate(model, device):\n    return correct / total",
    ),
    "calibration_batches": TaskFunction(
        "gives the inputs that show which blocks matter",
        "def calibration_batches():\n    yield from train_loader",
    ),
    "train_batches": TaskFunction(
        "gives the batches to fine-tune on",
        "def train_batches(epoch):\n    yield from train_loader",
    ),
    "loss": TaskFunction(
        "is what fine-tuning makes small",
        "def loss(model, batch):\n    return F.cross_entropy(model(batch[0]), batch[1])",
    ),
    "quick_evaluate": TaskFunction(
        "measures the accuracy on less data, for the search",
        "def quick_evaluate(model, device):\n    return correct / total",
    ),
    "evaluate_batches": TaskFunction(
        "gives the same accuracy batch by batch, so that the search can end hopeless evaluations",
        "def evaluate_batches(model, device):\n"
        "    yield from ((hits(model(x), y), len(y)) for x, y in shuffled_once)",
    ),
    "test": TaskFunction(
        "measures the accuracy once, on data that the search has not seen",
        "def test(model, device):\n    return correct / total",
    ),
    "layers": TaskFunction(
        "says which layers may be pruned: the names to include, and to exclude",
        "def layers():\n    return ['*'], ['head.*']",
    ),
    "optimizer": TaskFunction(
        "makes the optimizer for fine-tuning",
        "def optimizer(params, recipe):\n    return torch.optim.AdamW(params, 1e-4)",
    ),
}
