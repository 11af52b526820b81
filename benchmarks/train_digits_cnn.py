"""Train the checkpoints of the built-in digits tasks: builtin:digits-cnn and builtin:digits-mini.

    OMP_NUM_THREADS=2 python benchmarks/train_digits_cnn.py digits-cnn

Nesterov SGD with a linear warm-up and a cosine to zero, on all training images of every epoch,
augmented. Seeds are fixed; the same machine and number of threads give the same file. Weights are
stored as float16; the accuracies below, also in the file's metadata, were taken after that
rounding.

    task         images  weights    MAC    epochs  validation (295)  test (499)  file
    digits-cnn   24x24   1 226 442  109 M  30      99.66%            99.00%      2.5 MB
    digits-mini  16x16      19 706    2 M  120     99.66%            99.00%      43 kB

An epoch of digits-cnn takes about 22 seconds of processor time on an AVX-512 Xeon at 2.5 GHz.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch import nn

from pruneaug_cli.tasks import Task, builtin_checkpoint, load_task, save_checkpoint

EPOCHS = {"digits-cnn": 30, "digits-mini": 120}
LEARNING_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARM_UP_EPOCHS = 2


def schedule(done: float, epochs: int) -> float:
    """Factor on the learning rate when ``done`` epochs have passed."""
    if done < WARM_UP_EPOCHS:
        return (done + 0.1) / (WARM_UP_EPOCHS + 0.1)
    passed = (done - WARM_UP_EPOCHS) / (epochs - WARM_UP_EPOCHS)
    return 0.5 * (1.0 + math.cos(math.pi * passed))


def train(task: Task, epochs: int) -> nn.Module:
    """Return the trained model, in float32."""
    model = task.build_model()
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    for epoch in range(epochs):
        started, losses = time.perf_counter(), []
        batches = list(task.train_batches(epoch))
        model.train()
        for index, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * schedule(epoch + index / len(batches), epochs)
            loss = task.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - started
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}/{epochs}: loss {mean:.4f}, {seconds:.1f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=sorted(EPOCHS))
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument("--out", type=Path, help="default: the checkpoint the package carries")
    arguments = parser.parse_args()

    task = load_task(f"builtin:{arguments.task}")
    epochs = arguments.epochs or EPOCHS[arguments.task]
    model = train(task, epochs)
    model.half().float()  # in place: the figures below are those of the stored weights
    metadata = {
        "task": task.address,
        "epochs": str(epochs),
        "validation_accuracy": f"{task.evaluate(model, 'cpu'):.4f}",
        "test_accuracy": f"{task.test(model, 'cpu'):.4f}",
    }
    path = arguments.out or builtin_checkpoint(task)
    save_checkpoint(path, model.half(), metadata)
    print(f"{path}: {metadata}")


if __name__ == "__main__":
    main()
