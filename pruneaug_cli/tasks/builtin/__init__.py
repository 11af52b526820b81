"""Tasks that come with pruneaug, on data that comes with a Python package."""

from pruneaug_cli.registry import Registry

BUILTIN_TASKS: Registry[object] = Registry(
    "built-in task",
    {
        "digits-cnn": "pruneaug_cli.tasks.builtin.digits_task:digits_cnn",
        "digits-mini": "pruneaug_cli.tasks.builtin.digits_task:digits_mini",
    },
)

__all__ = ["BUILTIN_TASKS"]
